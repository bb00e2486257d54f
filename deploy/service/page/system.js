// The states of cameras, storage and model; the threshold and what it costs; who did what.

import { ask, get } from "./api.js";
import { ago, bytes, dialog, fullTime, h, lasted, replace, share, state, toast, when } from "./ui.js";

export const title = "System";

export async function show(view, signal) {
  const top = h("div", { class: "tiles" });
  const cameras = h("tbody", {});
  const cluster = h("section", { class: "panel" });
  const threshold = h("section", { class: "panel" });
  const log = h("section", { class: "panel" });
  async function look() {
    const now = await get("/status", {}, signal);
    tiles(top, now);
    if (now.cluster) sites(cluster, now);
    replace(cameras, now.cameras.length ? now.cameras.map((each) => h("tr", {}, h("th", { scope: "row" }, each.name),
      h("td", {}, state(each.state), each.error && each.state !== "live" ? h("span", { class: "muted why" }, each.error) : ""),
      h("td", { class: "figure-cell" }, each.frames_per_second.toFixed(1)), h("td", { class: "figure-cell" }, String(each.in_view.length)),
      h("td", { class: "figure-cell" }, String(each.dropped)), h("td", { class: "figure-cell" }, String(each.reconnects)),
      h("td", { class: "source" }, each.source))) : h("tr", {}, h("td", { colspan: 7, class: "muted" }, "No camera.")));
    return now;
  }

  const now = await look();
  await costs(threshold, now.role !== "view", signal);
  if (now.role === "erase") await audit(log, signal);
  // All at once: nothing moves under the reader's eyes.
  replace(view, h("div", { class: "head" }, h("h1", {}, "System")), top,
    h("section", { class: "panel" }, h("h2", {}, "Cameras"), h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {},
      ["Camera", "State", "Frames/s", "In view", "Dropped", "Reconnects", "Source"].map((each) => h("th", { scope: "col" }, each)))), cameras))),
    now.cluster && cluster, threshold, now.role === "erase" && log);
  const timer = setInterval(() => { if (!document.hidden) look().catch(() => {}); }, 3000);
  signal.addEventListener("abort", () => clearInterval(timer));
}

// Other sites of the cluster, and whether all of them have deleted what was forgotten anywhere.
function sites(panel, now) {
  const { cluster } = now;
  replace(panel, h("h2", {}, "Sites"), h("p", { class: cluster.error ? "why" : "muted" }, cluster.error ? `Away since ${fullTime(cluster.since)}: ${cluster.error}` : `${cluster.error === null ? "Connecting" : "Connected"} to ${cluster.url}`,
    ` · ${cluster.waiting} changes wait · ${cluster.sent} vectors sent`),
  h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, ["Site", "Vectors", "Last there", "Still to forget", "Model", ""].map((each) => h("th", { scope: "col" }, each)))),
    h("tbody", {}, cluster.sites.map((each) => h("tr", {}, h("th", { scope: "row" }, each.site, each.node === cluster.node ? " (this one)" : ""), h("td", { class: "figure-cell" }, String(each.entries)),
      h("td", {}, when(each.seen)), h("td", { class: "figure-cell" }, String(each.unacknowledged)), h("td", {}, h("code", {}, each.model)),
      h("td", {}, now.role === "erase" && each.node !== cluster.node ? h("button", { type: "button", class: "danger quiet", onclick: () => dismiss(each) }, "Remove…") : "")))))));
}

async function dismiss(site) {
  const sure = await dialog(`Remove ${site.site}?`, h("p", {}, `${site.entries} vectors and the names that this site has brought are deleted from the cluster. `,
    "Do this for a site that will not come back: one that does brings them again."), { action: "Remove", danger: true });
  if (!sure) return;
  try { await ask("DELETE", `/cluster/nodes/${site.node}`); toast(`${site.site} was removed.`); } catch (error) { toast(error.message); }
}

function tile(name, value, detail, bad) {
  return h("section", { class: `panel tile${bad ? " bad" : ""}` }, h("h2", {}, name), h("p", { class: "big" }, value), h("p", { class: "muted" }, detail));
}

function tiles(top, now) {
  const live = now.cameras.filter((each) => each.state === "live").length;
  const lost = now.cameras.filter((each) => ["stale", "failed"].includes(each.state));
  const work = Object.entries(now.milliseconds).map(([stage, value]) => `${stage} ${value.toFixed(value < 10 ? 1 : 0)} ms`).join(" · ");
  replace(top,
    tile("Cameras", `${live} of ${now.cameras.length} live`, lost.length ? `lost: ${lost.map((each) => each.name).join(", ")}` : "none lost", lost.length),
    tile("People", String(now.people), `${now.storage.entries} vectors${now.storage.mapped ? ` (${now.storage.mapped} mapped from an earlier model)` : ""}, kept for ${now.retention_hours === null ? "ever" : `${now.retention_hours} h`}`),
    tile("Model", now.model.ok ? "working" : "broken", now.model.ok ? `${now.model.bundle}, ${now.model.precision}, ${now.model.fingerprint}` : `for ${lasted(now.model.broken_for)}; it is tried again`, !now.model.ok),
    tile("Storage", `${bytes(now.storage.free_bytes)} free`, `the gallery takes ${bytes(now.storage.bytes)}`, !now.storage.ok),
    tile("Work", `${now.crops_per_second.toFixed(1)} crops/s`, work || "nothing to do"),
    tile("Privacy", now.views === "none" ? "vectors only" : "best views", now.views === "none" ? "no image of anybody is kept" : "one crop of each vector is kept"),
    tile("Service", `up ${ago(now.started).replace(" ago", "")}`, `${now.caller} (${now.role}), version ${now.version}${now.events_lost ? `, ${now.events_lost} events lost` : ""}`, now.events_lost));
  if (now.caller !== "local") {
    top.lastChild.append(h("button", { type: "button", class: "quiet", onclick: async () => { await ask("DELETE", "/session"); location.reload(); } }, "Sign out"));
  }
}

async function costs(panel, may, signal) {
  const now = await get("/threshold", {}, signal);
  const measured = now.measured;
  const points = [...measured.map((each) => each.threshold), now.threshold];
  const beyond = measured.length > 1 ? 0.02 : 0.2;
  const low = Math.min(...points) - beyond;
  const high = Math.max(...points) + beyond;
  const slider = h("input", { type: "range", min: low.toFixed(3), max: Math.min(1, high).toFixed(3), step: "0.001", value: String(now.threshold), "aria-label": "Threshold", disabled: !may });
  const unmoved = slider.value; // rounded to the step, which is not the threshold itself
  const value = h("output", { class: "big" }, now.threshold.toFixed(3));
  const said = h("p", {});
  const save = h("button", { type: "button", class: "primary", disabled: true, onclick: async () => {
    const before = now.threshold;
    const set = async (threshold) => { await ask("PUT", "/threshold", { body: { threshold } }); await costs(panel, may, signal); };
    try { await set(Number(slider.value)); toast(`The threshold is ${slider.value} now.`, () => set(before)); } catch (error) { toast(error.message); }
  } }, "Use this");

  function tell() {
    const chosen = slider.value === unmoved ? now.threshold : Number(slider.value);
    value.textContent = chosen.toFixed(3);
    save.disabled = chosen === now.threshold;
    const rates = between(measured, chosen) || (chosen === now.threshold ? now.expected : null);
    replace(said, rates ? [
      `Of comparisons of strangers ${share(rates.false_match_rate)} match by mistake`,
      rates.false_non_match_rate === null ? ". " : `; of those of one person ${share(rates.false_non_match_rate)} are missed. `,
      `With ${now.entries} vectors in the gallery a stranger is taken for somebody with a chance of ${share(1 - (1 - rates.false_match_rate) ** now.entries)}.`,
    ] : ["What this threshold costs was not measured: ", h("code", {}, "pat gallery calibrate"), " measures it on your own images."]);
  }
  slider.addEventListener("input", tell);
  replace(panel, h("h2", {}, "Threshold"), h("p", { class: "muted" }, "From which likeness on two images show the same person. ",
    now.threshold === now.configured ? "As configured." : `Configured: ${now.configured.toFixed(3)}; this choice holds until the configuration changes.`),
  h("div", { class: "dial" }, value, slider, may && save), said,
  measured.length ? h("details", {}, h("summary", {}, "Measured"), h("table", {}, h("thead", {}, h("tr", {}, ["Threshold", "Strangers that match", "Same person missed", "A stranger is taken for somebody"].map((each) => h("th", { scope: "col" }, each)))),
    h("tbody", {}, measured.map((each) => h("tr", {}, h("td", {}, each.threshold.toFixed(4)), h("td", {}, share(each.false_match_rate)), h("td", {}, share(each.false_non_match_rate)), h("td", {}, share(each.false_alarms)))))),
  h("p", { class: "muted" }, now.measured_on)) : "");
  tell();
}

// The rates between two measured points, as the service reckons them.
function between(points, threshold) {
  const after = points.find((each) => each.threshold >= threshold);
  const before = points.findLast((each) => each.threshold <= threshold);
  if (!after || !before) return null;
  if (after.threshold === before.threshold) return after;
  const part = (threshold - before.threshold) / (after.threshold - before.threshold);
  const mix = (one, two) => (one === null || two === null ? null : (1 - part) * one + part * two);
  const [one, two] = [before.false_match_rate, after.false_match_rate];
  return {
    false_match_rate: one > 0 && two > 0 ? Math.exp(mix(Math.log(one), Math.log(two))) : mix(one, two),
    false_non_match_rate: mix(before.false_non_match_rate, after.false_non_match_rate),
  };
}

async function audit(panel, signal) {
  const body = h("tbody", {});
  const more = h("div", { class: "more" });
  async function load(cursor) {
    const found = await get("/audit", { limit: 20, cursor }, signal);
    body.append(...found.items.map((each) => h("tr", {}, h("td", {}, when(each.time, fullTime(each.time))), h("td", {}, each.who), h("td", {}, each.action.replaceAll("_", " ")),
      h("td", {}, h("code", {}, each.subject)), h("td", {}, String(each.status)), h("td", {}, each.address))));
    replace(more, found.next && h("button", { type: "button", onclick: () => load(found.next) }, "Show more"));
    return found.items.length;
  }
  const any = await load("");
  replace(panel, h("h2", {}, "Who did what"), any ? h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {},
    ["When", "Who", "What", "Subject", "Answer", "From"].map((each) => h("th", { scope: "col" }, each)))), body)) : h("p", { class: "muted" }, "Nothing was changed yet."), more);
}
