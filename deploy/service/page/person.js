// One person: where and when, over all cameras; and what can be done about it.

import { ask, get } from "./api.js";
import { choose } from "./people.js";
import { called, clockTime, dayOf, dialog, empty, h, lasted, portrait, replace, score, shortTime, toast, undoChange, when } from "./ui.js";

export const title = "Person";
const PART = 100;

export async function show(view, signal, [key]) {
  const again = () => { if (!signal.aborted) show(view, signal, [key]).catch(() => {}); };
  let person;
  try {
    person = await get(`/people/${encodeURIComponent(key)}`, {}, signal);
  } catch (error) {
    if (error.status !== 404 && error.status !== 422) throw error;
    replace(view, empty("There is nobody here", "The person was forgotten, or has expired. ", h("a", { href: "#/people" }, "Everybody")));
    return;
  }
  const [session, seen, entries] = await Promise.all([
    get("/session", {}, signal), get(`/people/${person.key}/timeline`, { limit: PART }, signal),
    get(`/people/${person.key}/entries`, {}, signal),
  ]);
  const may = (role) => ["view", "operate", "erase"].indexOf(session.role) >= ["view", "operate", "erase"].indexOf(role);
  document.title = `${called(person.name)} · PAT`;

  const actions = h("div", { class: "actions left" },
    may("operate") && h("button", { type: "button", class: "primary", onclick: () => rename(person, again) }, person.kept ? "Rename" : "Give a name"),
    may("operate") && h("button", { type: "button", onclick: () => merge(person, again) }, "Merge with…"),
    may("erase") && h("button", { type: "button", class: "danger quiet", onclick: () => forget(person) }, "Forget…"));
  const history = h("ol", { class: "sightings" });
  const more = h("div", { class: "more" });
  fill(history, more, seen, person, signal);

  replace(view,
    h("p", { class: "crumbs" }, h("a", { href: "#/people" }, "People")),
    h("section", { class: "panel headline" }, portrait(person, true),
      h("div", {}, h("h1", { title: person.name }, called(person.name)),
        h("p", { class: "muted" }, person.in_view.length ? h("span", { class: "now" }, `In view now: ${person.in_view.join(", ")}`) : ["Last seen ", when(person.last)],
          " · first ", when(person.first), " · ", `${person.sightings} sightings, ${person.entries} vectors`),
        h("p", { class: "muted" }, person.kept ? "Kept until forgotten." : "Deleted when the retention has passed."), actions)),
    h("section", { class: "panel" }, h("h2", {}, "Across cameras"), seen.items.length ? lanes(seen.items) : h("p", { class: "muted" }, "No sighting yet: enrolled, or still in view for the first time.")),
    h("div", { class: "two" },
      h("section", { class: "panel" }, h("h2", {}, "Sightings"), seen.items.length ? history : h("p", { class: "muted" }, "None."), more),
      stored(person, entries, may("operate"), again)));
}

function fill(list, more, part, person, signal) {
  let day = list.dataset.day || "";
  for (const each of part.items) {
    if (dayOf(each.first) !== day) {
      day = dayOf(each.first);
      list.append(h("li", { class: "day" }, day));
    }
    list.append(h("li", {}, h("span", { class: "camera-name" }, each.camera),
      h("span", {}, `${clockTime(each.first)} to ${clockTime(each.last)}`), h("span", { class: "muted" }, lasted(each.last - each.first)),
      each.score === null ? h("span", { class: "tag" }, "first time") : score(each.score)));
  }
  list.dataset.day = day;
  replace(more, part.next && h("button", { type: "button", onclick: async () => {
    fill(list, more, await get(`/people/${person.key}/timeline`, { limit: PART, cursor: part.next }, signal), person, signal);
  } }, "Show more"));
}

// A lane for each camera, time from left to right.
function lanes(sightings) {
  const first = Math.min(...sightings.map((each) => each.first));
  const last = Math.max(...sightings.map((each) => each.last));
  const span = Math.max(last - first, 60);
  const from = last - span * 1.02;
  const to = last + span * 0.02;
  const at = (time) => `${(100 * (time - from)) / (to - from)}%`;
  const cameras = [...new Set(sightings.map((each) => each.camera))].sort();
  const marks = [0, 1, 2, 3, 4].map((step) => from + ((to - from) * (step + 0.5)) / 5);
  const label = (time) => (span > 86400 ? dayOf(time) : span > 600 ? shortTime(time) : clockTime(time));
  return h("div", { class: "lanes" },
    cameras.map((camera) => h("div", { class: "lane" }, h("span", { class: "camera-name" }, camera), h("div", { class: "track" },
      sightings.filter((each) => each.camera === camera).map((each) => h("span", {
        class: "seen", title: `${clockTime(each.first)}, ${lasted(each.last - each.first)}`,
        css: { left: at(each.first), width: `max(5px, ${(100 * (each.last - each.first)) / (to - from)}%)` },
      }))))),
    h("div", { class: "lane axis", "aria-hidden": "true" }, h("span"), h("div", { class: "track" },
      marks.map((time) => h("span", { css: { left: at(time) } }, label(time))))));
}

function stored(person, entries, may, again) {
  const list = h("ul", { class: "entries" }, entries.map((each) => h("li", {}, h("label", {},
    may && h("input", { type: "checkbox", value: each.id }), each.image ? portrait({ key: person.key, image: each.image }) : "",
    h("span", {}, each.camera, " · ", when(each.time), each.note ? ` · ${each.note}` : "")))));
  const button = h("button", { type: "button", disabled: true, onclick: async () => {
    const chosen = [...list.querySelectorAll(":checked")].map((each) => each.value);
    const name = await dialog("Somebody else", h("div", {}, h("p", {}, `Give ${chosen.length} of ${entries.length} vectors to:`),
      h("label", {}, "Name", h("input", { name: "name", required: true, maxlength: 200, value: `${person.name} 2` }))),
    { action: "Split", read: (form) => form.elements.name.value.trim() });
    if (!name) return;
    try {
      const done = await ask("POST", `/people/${person.key}/split`, { body: { entries: chosen, name } });
      toast(`Split: ${called(done.person.name)} is somebody else now.`, undoChange(done.change, again));
      again();
    } catch (error) { toast(error.message); }
  } }, "Split off what is marked");
  list.addEventListener("change", () => { button.disabled = !list.querySelector(":checked"); });
  return h("section", { class: "panel" }, h("h2", {}, "What is stored"),
    entries.length ? list : h("p", { class: "muted" }, "Nothing."), may && entries.length > 1 ? h("div", { class: "actions left" }, button) : "");
}

async function rename(person, again) {
  const name = await dialog(person.kept ? "Rename" : "Give a name", h("div", {},
    h("label", {}, "Name", h("input", { name: "name", required: true, maxlength: 200, value: person.kept ? person.name : "" })),
    h("p", { class: "muted" }, "Whoever has a name is kept until forgotten.")),
  { action: "Save", read: (form) => form.elements.name.value.trim() });
  if (!name) return;
  try {
    const done = await ask("PATCH", `/people/${person.key}`, { body: { name } });
    toast(`${called(person.name)} is now called ${called(done.person.name)}.`, undoChange(done.change, again));
    again();
  } catch (error) { toast(error.message); }
}

async function merge(person, again) {
  const other = await choose(`Who is ${called(person.name)} too?`, person.key);
  if (!other) return;
  try {
    const done = await ask("POST", `/people/${person.key}/merge`, { body: { into: other.key } });
    toast(`${called(person.name)} is now part of ${called(other.name)}.`, undoChange(done.change, again));
    again();
  } catch (error) { toast(error.message); }
}

async function forget(person) {
  const sure = await dialog(`Forget ${called(person.name)}?`, h("p", {},
    `${person.entries} vectors, ${person.sightings} sightings, images and events are deleted from the disk. `,
    "This cannot be undone. Backups and exports made before still hold them."), { action: "Forget", danger: true });
  if (!sure) return;
  try {
    const receipt = await ask("DELETE", `/people/${person.key}`);
    location.hash = "#/people";
    const text = JSON.stringify(receipt, null, 2);
    await dialog("Forgotten", h("div", {}, h("p", {}, `Deleted: ${receipt.entries} vectors, ${receipt.sightings} sightings, ${receipt.views} images, ${receipt.events} events.`),
      h("p", { class: "muted" }, "Receipt ", h("code", {}, receipt.id), "; it does not say who it was."),
      h("p", {}, h("a", { href: URL.createObjectURL(new Blob([text], { type: "application/json" })), download: `receipt-${receipt.id}.json` }, "Save the receipt"))), { action: "Done" });
  } catch (error) { toast(error.message); }
}
