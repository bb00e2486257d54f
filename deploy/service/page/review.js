// Uncertain matches, one after the other.

import { ask, get } from "./api.js";
import { called, empty, failed, h, portrait, replace, toast, when } from "./ui.js";

export const title = "Review";

export async function show(view, signal) {
  const desk = h("div", {});
  const past = h("ul", { class: "answered" });
  replace(view, h("div", { class: "head" }, h("h1", {}, "Review"), h("p", { class: "muted" }, "Matches near the threshold. Your answers correct the gallery, and can be taken back.")), desk,
    h("section", { class: "panel" }, h("h2", {}, "Answered"), past));
  const [session, threshold] = await Promise.all([get("/session", {}, signal), get("/threshold", {}, signal)]);
  const may = session.role !== "view";
  let skipped = 0;

  async function load() {
    const [open, answered] = await Promise.all([
      get("/reviews", { limit: 20, cursor: skipped ? String(skipped) : "" }, signal), get("/reviews", { limit: 10, answered: true }, signal),
    ]);
    const [review] = open.items;
    if (review) replace(desk, question(review, threshold, may, reply, open.items.length > 1 || open.next));
    else if (skipped) { skipped = 0; return load(); }
    else replace(desk, empty("Nothing to look at", "Every match is clearly on one side of the threshold."));
    replace(past, answered.items.length ? answered.items.map((each) => h("li", {},
      h("span", {}, each.kind === "new" ? `${called(each.subject.name)} and ${called(each.candidate.name)}` : called(each.subject.name), ": ",
        h("strong", {}, each.answer === "same" ? "the same" : "different"), " ", h("span", { class: "muted" }, when(each.time))),
      may && h("button", { type: "button", class: "quiet", onclick: () => takeBack(each.id) }, "Take back")))
      : h("li", { class: "muted" }, "None yet."));
    return review;
  }

  async function reply(review, answer) {
    if (answer === "skip") { skipped = review.id; await load(); return; }
    try {
      await ask("PUT", `/reviews/${review.id}`, { body: { answer } });
      toast(answer === "same" ? "Noted: the same person." : "Noted: different people.", async () => { await ask("DELETE", `/reviews/${review.id}/answer`); await load(); });
    } catch (error) { toast(error.message); }
    current = await load();
  }

  async function takeBack(id) {
    try { await ask("DELETE", `/reviews/${id}/answer`); toast("Taken back."); } catch (error) { toast(error.message); }
    current = await load();
  }

  let current = await load().catch((error) => { if (!signal.aborted) replace(desk, failed(error, load)); });
  addEventListener("keydown", (event) => {
    const answer = { s: "same", d: "different" }[event.key];
    if (answer && may && current && !event.ctrlKey && !event.metaKey && !event.target.closest("input, dialog")) reply(current, answer);
  }, { signal });
}

function question(review, threshold, may, reply, more) {
  const isNew = review.kind === "new";
  const track = { key: review.subject.key, image: review.image };
  const left = h("figure", {}, portrait(track, true), h("figcaption", {}, h("strong", {}, isNew ? called(review.subject.name) : `Seen at ${review.camera}`), h("span", { class: "muted" }, when(review.time))));
  const right = h("figure", {}, portrait(review.candidate, true), h("figcaption", {}, h("a", { href: `#/people/${review.candidate.key}` }, h("strong", {}, called(review.candidate.name))), h("span", { class: "muted" }, "Last seen ", when(review.candidate.last))));
  return h("section", { class: "panel question" }, h("h2", {}, "Are these the same person?"),
    h("div", { class: "pair" }, left, gauge(review.score, threshold), right),
    h("p", { class: "muted" }, isNew
      ? `${review.camera} met somebody new who is almost like ${called(review.candidate.name)}. “Same” makes one person of the two.`
      : `${review.camera} took somebody for ${called(review.candidate.name)} by a small margin. “Different” gives what was stored to a new person.`),
    may ? h("div", { class: "actions middle" },
      h("button", { type: "button", class: "primary", onclick: () => reply(review, "same") }, "Same ", h("kbd", {}, "S")),
      h("button", { type: "button", onclick: () => reply(review, "different") }, "Different ", h("kbd", {}, "D")),
      more && h("button", { type: "button", class: "quiet", onclick: () => reply(review, "skip") }, "Skip"))
      : h("p", { class: "muted" }, "Answering needs the role “operate”."));
}

// Where the score lies beside the threshold.
function gauge(value, threshold) {
  const low = threshold.threshold - 2 * threshold.uncertain;
  const at = (number) => `${Math.min(100, Math.max(0, (100 * (number - low)) / (4 * threshold.uncertain)))}%`;
  return h("div", { class: "gauge", role: "img", "aria-label": `Score ${value.toFixed(3)}, threshold ${threshold.threshold.toFixed(3)}` },
    h("span", { class: "number" }, value.toFixed(3)),
    h("div", { class: "scale" }, h("i", { class: "limit", css: { left: at(threshold.threshold) } }), h("i", { class: "value", css: { left: at(value) } })),
    h("span", { class: "muted" }, `threshold ${threshold.threshold.toFixed(3)}`));
}
