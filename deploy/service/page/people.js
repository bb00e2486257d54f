// Everybody in the gallery, last seen first.

import { get } from "./api.js";
import { called, empty, failed, h, loading, portrait, replace, when } from "./ui.js";

export const title = "People";
const PART = 48;

export async function show(view, signal) {
  const cameras = await get("/cameras", {}, signal);
  const name = h("input", { type: "search", placeholder: "Look for a name", "aria-label": "Look for a name", maxlength: 200 });
  const camera = h("select", { "aria-label": "Camera" }, h("option", { value: "" }, "Any camera"),
    cameras.map((each) => h("option", { value: each.name }, each.name)));
  const kept = h("select", { "aria-label": "Who" }, h("option", { value: "" }, "Everybody"),
    h("option", { value: "true" }, "Enrolled or named"), h("option", { value: "false" }, "Met by cameras"));
  const list = h("div", { class: "people" }, loading(6));
  const more = h("div", { class: "more" });
  replace(view, h("div", { class: "head" }, h("h1", {}, "People"), h("div", { class: "filters" }, name, kept, camera)), list, more);
  let turn = 0;

  async function load(cursor) {
    const mine = (turn += 1);
    try {
      const found = await get("/people", { limit: PART, cursor, q: name.value.trim(), camera: camera.value, kept: kept.value }, signal);
      if (mine !== turn) return;
      const cards = found.items.map(card);
      if (cursor) list.append(...cards);
      else if (cards.length) replace(list, cards);
      else if (name.value || camera.value || kept.value) replace(list, empty("Nobody like that", "Try fewer letters, or any camera."));
      else replace(list, empty("Nobody yet", "People appear here when a camera has met them, or after ", h("code", {}, "pat gallery enrol"), "."));
      replace(more, found.next && h("button", { type: "button", onclick: () => load(found.next) }, "Show more"));
    } catch (error) {
      if (!signal.aborted && mine === turn) replace(list, failed(error, () => load("")));
    }
  }

  let timer;
  name.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(() => load(""), 200); });
  camera.addEventListener("change", () => load(""));
  kept.addEventListener("change", () => load(""));
  await load("");
}

export function card(person) {
  return h("a", { class: "panel person", href: `#/people/${person.key}` }, portrait(person),
    h("span", { class: "what" },
      h("strong", { title: person.name }, called(person.name)),
      h("span", { class: "muted" }, person.in_view.length ? h("span", { class: "now" }, `In view: ${person.in_view.join(", ")}`) : ["Last seen ", when(person.last)]),
      h("span", { class: "muted" }, person.cameras.length ? person.cameras.join(", ") : "Enrolled, not seen yet"),
      person.kept && h("span", { class: "tag" }, "kept")));
}

// A dialog to choose somebody; resolves to a person or null.
export function choose(heading, without) {
  return new Promise((resolve) => {
    const name = h("input", { type: "search", placeholder: "Look for a name", "aria-label": "Look for a name" });
    const list = h("div", { class: "choices" });
    const box = h("dialog", { class: "wide", "aria-label": heading }, h("h2", {}, heading), name, list,
      h("div", { class: "actions" }, h("button", { type: "button", onclick: () => box.close() }, "Cancel")));
    let chosen = null;
    async function load() {
      const found = await get("/people", { limit: 20, q: name.value.trim() });
      const others = found.items.filter((each) => each.key !== without);
      replace(list, others.length ? others.map((each) => h("button", { type: "button", class: "choice", onclick: () => { chosen = each; box.close(); } },
        portrait(each), h("span", { class: "what" }, h("strong", { title: each.name }, called(each.name)), h("span", { class: "muted" }, "Last seen ", when(each.last)))))
        : h("p", { class: "muted" }, "Nobody like that."));
    }
    name.addEventListener("input", () => load().catch((error) => replace(list, failed(error))));
    box.addEventListener("close", () => { box.remove(); resolve(chosen); });
    document.body.append(box);
    box.showModal();
    load().catch((error) => replace(list, failed(error)));
  });
}
