// Which view is shown, what is on top of every one of them, and the keyboard.

import { ask, get, unreachable } from "./api.js";
import { dialog, failed, h, loading, replace } from "./ui.js";
import * as live from "./live.js";
import * as people from "./people.js";
import * as person from "./person.js";
import * as review from "./review.js";
import * as search from "./search.js";
import * as system from "./system.js";

const VIEWS = { live, people, person, search, review, system };
const KEYS = { 1: "live", 2: "people", 3: "search", 4: "review", 5: "system" };
const STATUS_EVERY = 5000;

const view = document.getElementById("view");
let leave = null;

async function show() {
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  const page = name === "people" && rest.length ? "person" : name in VIEWS ? name : "live";
  if (leave) leave.abort();
  leave = new AbortController();
  const { signal } = leave;
  for (const link of document.querySelectorAll("#nav a")) {
    const here = link.getAttribute("href") === `#/${page === "person" ? "people" : page}`;
    if (here) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  document.title = `${VIEWS[page].title} · PAT`;
  replace(view, loading(4));
  try {
    await VIEWS[page].show(view, signal, rest);
  } catch (error) {
    if (!signal.aborted && error.status !== 401) replace(view, failed(error, show));
  }
}

// Signing in.

let asking = false;

async function signIn() {
  if (asking) return;
  asking = true;
  replace(view, h("form", { class: "panel signin", onsubmit: async (event) => {
    event.preventDefault();
    const field = event.target.elements.token;
    const said = event.target.querySelector(".said");
    try {
      await ask("POST", "/session", { body: { token: field.value.trim() } });
      asking = false;
      show();
      status();
    } catch (error) {
      said.textContent = error.message;
      field.select();
    }
  } },
  h("h1", {}, "Sign in"),
  h("p", {}, "Give the token that whoever runs this service made for you."),
  h("label", {}, "Token", h("input", { name: "token", type: "password", autocomplete: "current-password", required: true })),
  h("p", { class: "said", role: "alert" }),
  h("button", { class: "primary" }, "Sign in")));
  view.querySelector("input").focus();
}

// What every view has on top.

async function status() {
  try {
    const now = await get("/status");
    const badge = document.getElementById("open-reviews");
    badge.hidden = !now.reviews;
    badge.textContent = now.reviews > 99 ? "99+" : String(now.reviews);
    badge.setAttribute("aria-label", `${now.reviews} questions`);
    const bad = !now.storage.ok || !now.model.ok || now.cameras.some((each) => ["failed", "stale"].includes(each.state));
    document.getElementById("trouble").hidden = !bad;
  } catch { /* the banner says it */ }
}

unreachable.addEventListener("lost", () => { document.getElementById("offline").hidden = false; });
unreachable.addEventListener("found", () => { document.getElementById("offline").hidden = true; });
unreachable.addEventListener("token", signIn);

function theme(next) {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = localStorage.getItem("theme") || (dark ? "dark" : "light");
  const wanted = next ? (now === "dark" ? "light" : "dark") : now;
  document.documentElement.dataset.theme = wanted;
  if (next) localStorage.setItem("theme", wanted);
}

const help = () => dialog("Keyboard", h("dl", { class: "keys" },
  ...[["1 to 5", "Live, people, search, review, system"], ["/", "Look for a name"], ["s  d", "Review: same, different"],
    ["t", "Dark or light"], ["?", "This"]].flatMap(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)])),
{ action: "" });

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog")) return;
  if (event.key in KEYS) location.hash = `#/${KEYS[event.key]}`;
  else if (event.key === "t") theme(true);
  else if (event.key === "?") help();
  else if (event.key === "/") {
    event.preventDefault();
    const field = view.querySelector("input[type=search]");
    if (field) field.focus(); else location.hash = "#/people";
  }
});
document.getElementById("theme").addEventListener("click", () => theme(true));
addEventListener("hashchange", () => { show(); view.focus({ preventScroll: true }); scrollTo(0, 0); });

theme(false);
if (!location.hash) history.replaceState(null, "", "#/live");
show();
status();
setInterval(() => { if (!document.hidden && !asking) status(); }, STATUS_EVERY);
