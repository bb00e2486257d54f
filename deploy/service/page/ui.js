// Building blocks: elements without innerHTML (names are data, never markup), times, dialogs, messages.

import { ask } from "./api.js";

const SVG = "http://www.w3.org/2000/svg";

export function h(name, attributes = {}, ...children) {
  const svg = name.startsWith("svg:");
  const element = svg ? document.createElementNS(SVG, name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "css") for (const [property, text] of Object.entries(value)) element.style.setProperty(property, text);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(4).filter((each) => each !== null && each !== undefined && each !== false));
  return element;
}

export function replace(element, ...children) {
  element.replaceChildren(...children.flat(4).filter((each) => each !== null && each !== undefined && each !== false));
}

// Times: seconds since the epoch, shown in the reader's own zone and language.

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const short = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" });

export const clockTime = (seconds) => clock.format(seconds * 1000);
export const shortTime = (seconds) => short.format(seconds * 1000);
export const dayOf = (seconds) => day.format(seconds * 1000);
export const fullTime = (seconds) => full.format(seconds * 1000);

export function ago(seconds) {
  const passed = Date.now() / 1000 - seconds;
  if (passed < 10) return "just now";
  if (passed < 60) return `${Math.round(passed)} s ago`;
  if (passed < 3600) return `${Math.round(passed / 60)} min ago`;
  if (passed < 86400) return `${Math.round(passed / 3600)} h ago`;
  return `${Math.round(passed / 86400)} d ago`;
}

export function lasted(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export const when = (seconds, text) =>
  h("time", { datetime: new Date(seconds * 1000).toISOString(), title: fullTime(seconds) }, text || ago(seconds));

export function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (count >= 1000 && at < units.length - 1) { count /= 1000; at += 1; }
  return `${count < 10 && at ? count.toFixed(1) : Math.round(count)} ${units[at]}`;
}

export function share(rate) {
  if (rate === null || rate === undefined) return "not measured";
  if (rate === 0) return "0 %";
  if (rate < 0.0001) return "below 0.01 %";
  return `${(100 * rate).toPrecision(2).replace(/\.0+$/, "")} %`;
}

// What somebody is called here: the names that cameras give (camera, time, track, process) are long.
export const called = (name) => name.replace(/^.+-\d{4}T\d{6}-(\d+-[0-9a-f]{4})$/, "Person $1");

// A person's image where views are kept, else a silhouette in the person's own colour.

export function portrait(person, large) {
  const hue = [...person.key].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 360, 7);
  const figure = h("svg:svg", { viewBox: "0 0 48 64", preserveAspectRatio: "xMidYMax slice", class: "figure", "aria-hidden": "true" },
    h("svg:circle", { cx: 24, cy: 20, r: 9 }),
    h("svg:path", { d: "M7 64c0-18 7-30 17-30s17 12 17 30z" }));
  const box = h("span", { class: large ? "portrait large" : "portrait", css: { "--hue": String(hue) } }, figure);
  if (person.image) {
    const image = h("img", { src: person.image, alt: "", loading: "lazy", decoding: "async" });
    image.addEventListener("error", () => image.remove());
    box.append(image);
  }
  return box;
}

// Empty, loading and failed.

export const empty = (title, ...text) => h("div", { class: "empty" }, h("h2", {}, title), h("p", {}, ...text));

export const loading = (rows = 3) =>
  h("div", { class: "loading", "aria-busy": "true" }, h("span", { class: "hidden" }, "Loading"),
    Array.from({ length: rows }, () => h("div", { class: "bone" })));

export function failed(error, again) {
  return h("div", { class: "empty failed", role: "alert" }, h("h2", {}, "That did not work"), h("p", {}, error.message),
    again && h("button", { type: "button", onclick: again }, "Try again"));
}

// Messages that go away, with a way back where there is one.

export function toast(text, undo) {
  const box = h("div", { class: "toast" }, h("span", {}, text));
  const timer = setTimeout(() => box.remove(), undo ? 10000 : 5000);
  if (undo) {
    box.append(h("button", { type: "button", onclick: async () => {
      clearTimeout(timer);
      box.remove();
      try { await undo(); toast("Taken back."); } catch (error) { toast(error.message); }
    } }, "Undo"));
  }
  const shelf = document.getElementById("toasts");
  shelf.append(box);
  while (shelf.children.length > 3) shelf.firstChild.remove();
}

export const undoChange = (change, then) => async () => {
  await ask("POST", `/changes/${change}/undo`);
  then();
};

// A dialog that resolves to what `read` gives when it is confirmed, to null when it is left.

export function dialog(title, content, { action = "OK", danger = false, read = () => true } = {}) {
  return new Promise((resolve) => {
    const form = h("form", { method: "dialog" }, h("h2", {}, title), content,
      h("div", { class: "actions" }, h("button", { type: "button", class: "quiet", onclick: () => box.close() }, "Cancel"),
        action && h("button", { class: danger ? "danger" : "primary", value: "yes" }, action)));
    const box = h("dialog", { "aria-label": title }, form);
    box.addEventListener("close", () => {
      resolve(box.returnValue === "yes" ? read(form) : null);
      box.remove();
    });
    box.addEventListener("click", (event) => { if (event.target === box) box.close(); });
    document.body.append(box);
    box.showModal();
  });
}

export const state = (name, text) => h("span", { class: `state ${name}` }, text || name);
export const score = (value) => h("span", { class: "score", title: "Cosine of the two vectors" }, value.toFixed(2));
