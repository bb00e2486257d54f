// What the cameras see now. A click on a person says who it is; the right side tells what happened.

import { ask, get } from "./api.js";
import { called, clockTime, empty, h, loading, replace, score, state, toast } from "./ui.js";
import { matches } from "./search.js";

export const title = "Live";
const LOOK_EVERY = 1000;
const FEED = 40;

export async function show(view, signal) {
  const grid = h("section", { class: "cameras", "aria-label": "Cameras" }, loading(2));
  const feed = h("ol", { class: "feed" });
  const side = h("aside", { class: "panel side" }, h("h2", {}, "What happened"), feed);
  replace(view, h("h1", { class: "hidden" }, "Live"), h("div", { class: "live-view" }, grid, side));
  const cards = new Map();

  async function look() {
    const cameras = await get("/cameras", {}, signal);
    if (!cameras.length) {
      replace(grid, empty("No camera", "Start the service with sources: ", h("code", {}, "pat serve BUNDLE gate=rtsp://…")));
      return;
    }
    if (cards.size !== cameras.length) {
      cards.clear();
      replace(grid, cameras.map((camera) => {
        const card = makeCard(camera, signal, cameras.length);
        cards.set(camera.name, card);
        return card.element;
      }));
    }
    for (const camera of cameras) cards.get(camera.name)?.update(camera);
  }

  await look();
  const timer = setInterval(() => { if (!document.hidden) look().catch(() => {}); }, LOOK_EVERY);
  signal.addEventListener("abort", () => clearInterval(timer));

  const past = await get("/events", { limit: FEED }, signal);
  for (const event of past.items.reverse()) tell(feed, event);
  if (!feed.children.length) feed.append(h("li", { class: "nothing" }, "Nothing yet."));
  const stream = new EventSource("/api/v1/events/stream");
  for (const kind of ["recognised", "new", "revised", "left", "unknown", "camera", "elsewhere", "forgotten"]) {
    stream.addEventListener(kind, (message) => tell(feed, JSON.parse(message.data)));
  }
  signal.addEventListener("abort", () => stream.close());
}

function makeCard(camera, signal, count) {
  const image = h("img", { alt: `Image of camera ${camera.name}; a click on a person says who it is`, draggable: "false" });
  const over = h("p", { class: "over" });
  const frame = h("div", { class: "frame" }, image, over);
  const figures = h("span", { class: "muted" });
  const pill = h("span");
  const seen = h("ul", { class: "chips", "aria-label": `In view of ${camera.name}` });
  const element = h("article", { class: "panel camera" }, frame,
    h("header", {}, h("h2", {}, camera.name), pill, figures), seen);
  let shown = "";
  let live = false;

  image.addEventListener("click", (event) => {
    const box = image.getBoundingClientRect();
    who(camera.name, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  });
  images(camera.name, image, signal, () => live, Math.max(200, 120 * count));

  function update(now) {
    live = now.state === "live" || now.state === "ended";
    if (now.width) frame.style.setProperty("--ratio", `${now.width} / ${now.height}`);
    replace(pill, state(now.state));
    figures.textContent = now.state === "live" ? `${now.frames_per_second.toFixed(1)} frames/s` : "";
    over.textContent = now.state === "live" ? "" : now.error || { connecting: "Connecting", ended: "The recording has ended" }[now.state] || "";
    over.hidden = !over.textContent;
    const next = JSON.stringify(now.in_view.map((each) => [each.track, each.name, each.key]));
    if (next === shown) return;
    shown = next;
    replace(seen, now.in_view.length ? now.in_view.map((each) => h("li", {}, each.key
      ? h("a", { class: "chip known", href: `#/people/${each.key}`, title: each.name }, called(each.name))
      : h("button", { class: "chip", type: "button", onclick: () => who(camera.name, (each.box[0] + each.box[2]) / 2, (each.box[1] + each.box[3]) / 2) }, `Track ${each.track}`)))
      : h("li", { class: "muted" }, "Nobody in view"));
  }
  return { element, update };
}

// One image after the other, so that many cameras share the few connections a browser has.
async function images(name, image, signal, wanted, pause) {
  let url = "";
  let visible = true;
  new IntersectionObserver((entries) => { visible = entries[0].isIntersecting; }).observe(image);
  while (!signal.aborted) {
    const begun = performance.now();
    if (!document.hidden && visible && wanted()) {
      try {
        const blob = await ask("GET", `/cameras/${encodeURIComponent(name)}/frame.jpg`, { signal });
        const next = URL.createObjectURL(blob);
        image.src = next;
        await image.decode().catch(() => {});
        if (url) URL.revokeObjectURL(url);
        url = next;
      } catch { if (!signal.aborted) await new Promise((done) => setTimeout(done, 1000)); }
    }
    await new Promise((done) => setTimeout(done, Math.max(50, pause - (performance.now() - begun))));
  }
  if (url) URL.revokeObjectURL(url);
}

async function who(camera, x, y) {
  const at = { x: Math.min(1, Math.max(0, x)), y: Math.min(1, Math.max(0, y)) };
  let found;
  try {
    found = await ask("POST", `/cameras/${encodeURIComponent(camera)}/search`, { query: at });
  } catch (error) {
    toast(error.message);
    return;
  }
  const box = h("dialog", { class: "wide", "aria-label": "Who is this?" }, h("h2", {}, "Was this person here before?"),
    found.people.map((each) => matches(each)),
    h("div", { class: "actions" }, h("button", { type: "button", onclick: () => box.close() }, "Close")));
  box.addEventListener("click", (event) => { if (event.target === box || event.target.closest("a")) box.close(); });
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
}

const WORDS = { recognised: "recognised", new: "new", revised: "is somebody else", left: "left", unknown: "unknown", camera: "", elsewhere: "was seen before at", forgotten: "A person was forgotten" };

function tell(feed, event) {
  feed.querySelector(".nothing")?.remove();
  const name = event.identity ? called(event.identity) : event.track ? `Track ${event.track}` : "";
  const subject = event.event === "camera" ? event.camera : name;
  const what = event.event === "camera" ? event.state : WORDS[event.event] || event.event;
  feed.prepend(h("li", { class: event.event },
    h("time", { datetime: new Date(event.time * 1000).toISOString() }, clockTime(event.time)),
    h("span", {}, event.key && event.identity ? h("a", { href: `#/people/${event.key}`, title: event.identity }, subject) : subject, " ",
      h("span", { class: "verb" }, what), event.before ? ` (was ${called(event.before)})` : "",
      event.there ? ` ${event.there.site}, called ${called(event.there.name)}` : "",
      !event.there && event.event !== "camera" && event.camera ? h("span", { class: "muted" }, ` at ${event.camera}`) : ""),
    event.score !== undefined && ["recognised", "elsewhere"].includes(event.event) ? score(event.score) : ""));
  while (feed.children.length > FEED) feed.lastChild.remove();
}

