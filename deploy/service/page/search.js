// Who a photo shows, and whether these people were here before.

import { ask, get } from "./api.js";
import { called, empty, failed, h, loading, portrait, replace, score, when } from "./ui.js";

export const title = "Search";
const HOUR = 3600;

export async function show(view, signal) {
  const cameras = await get("/cameras", {}, signal);
  const file = h("input", { type: "file", accept: "image/jpeg,image/png,image/webp", class: "hidden", id: "photo" });
  const camera = h("select", { "aria-label": "Camera" }, h("option", { value: "" }, "Any camera"),
    cameras.map((each) => h("option", { value: each.name }, each.name)));
  const since = h("select", { "aria-label": "Since" }, [["", "Any time"], [1, "Last hour"], [24, "Last day"], [168, "Last week"]]
    .map(([hours, text]) => h("option", { value: hours }, text)));
  const whole = h("input", { type: "checkbox", id: "whole" });
  const drop = h("label", { class: "drop", for: "photo" }, h("strong", {}, "Choose a photo"), h("span", { class: "muted" }, "or drop it here, or paste it. People in it are found by themselves. It is not kept."));
  const result = h("div", { class: "result" });
  replace(view, h("div", { class: "head" }, h("h1", {}, "Search by photo"), h("div", { class: "filters" }, since, camera,
    h("label", { class: "check" }, whole, "A crop of one person"))), file, drop, result);
  let photo = null;
  let url = "";

  async function search() {
    if (!photo) return;
    if (url) URL.revokeObjectURL(url);
    url = URL.createObjectURL(photo);
    replace(result, loading(3));
    try {
      const found = await ask("POST", "/search", { body: photo, signal, query: {
        whole: whole.checked || undefined, camera: camera.value,
        since: since.value ? Date.now() / 1000 - since.value * HOUR : undefined,
      } });
      replace(result, ...answer(found, url));
    } catch (error) {
      if (!signal.aborted) replace(result, failed(error, search));
    }
  }

  function take(files) {
    const next = [...(files || [])].find((each) => each.type.startsWith("image/"));
    if (next) { photo = next; search(); }
  }
  file.addEventListener("change", () => take(file.files));
  for (const change of [whole, camera, since]) change.addEventListener("change", search);
  drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over-it"); });
  drop.addEventListener("dragleave", () => drop.classList.remove("over-it"));
  drop.addEventListener("drop", (event) => { event.preventDefault(); drop.classList.remove("over-it"); take(event.dataTransfer.files); });
  addEventListener("paste", (event) => take(event.clipboardData?.files), { signal });
  signal.addEventListener("abort", () => { if (url) URL.revokeObjectURL(url); });
}

function answer(found, url) {
  const image = h("div", { class: "photo", css: { "--ratio": `${found.width} / ${found.height}` } },
    h("img", { src: url, alt: "The photo that was searched" }),
    found.people.map((each, number) => h("span", { class: `box ${each.seen_before}`, css: {
      left: `${(100 * each.box[0]) / found.width}%`, top: `${(100 * each.box[1]) / found.height}%`,
      width: `${(100 * (each.box[2] - each.box[0])) / found.width}%`, height: `${(100 * (each.box[3] - each.box[1])) / found.height}%`,
    } }, h("b", {}, String(number + 1)))));
  if (!found.people.length) {
    return [image, empty("Nobody was found in this photo", "Where it shows one person alone, tick “A crop of one person”.")];
  }
  const away = found.cluster ? h("p", { class: "muted" }, `Other sites were not asked: ${found.cluster}`) : "";
  return [image, h("div", {}, away, found.people.map((each, number) => matches(each, found.people.length > 1 ? number + 1 : null)))];
}

const ANSWER = { yes: "Yes, was here before", perhaps: "Perhaps was here before", no: "No, was not here before" };
const MEANS = { same: "the same", perhaps: "perhaps", different: "somebody else" };

// The answer for one person of a photo, and the people who are alike.
export function matches(found, number) {
  return h("section", { class: `panel answer ${found.seen_before}` },
    h("h2", {}, number ? `${number}. ` : "", ANSWER[found.seen_before]),
    found.matches.length ? h("ul", { class: "matches" }, found.matches.map((each) => h("li", {},
      h("a", { class: `match ${each.decision}`, href: `#/people/${each.person.key}` }, portrait(each.person),
        h("span", { class: "what" }, h("strong", { title: each.person.name }, called(each.person.name)), h("span", { class: "muted" }, `${each.camera} · `, when(each.time))),
        h("span", { class: "decision" }, MEANS[each.decision]), score(each.score)))))
      : h("p", { class: "muted" }, "The gallery holds nobody to compare with."),
    found.elsewhere.length ? h("div", {}, h("h3", {}, "At other sites"), h("ul", { class: "matches" }, found.elsewhere.map((each) => h("li", {}, h("span", { class: "match same" },
      h("span", { class: "what" }, h("strong", { title: each.name }, called(each.name)), h("span", { class: "muted" }, `${each.site}, ${each.camera} · `, when(each.time))), score(each.score)))))) : "");
}
