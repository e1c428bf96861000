// Which view is shown, and what is around all of them.

import { byId } from "./dom.js";
import { showFleet } from "./fleet.js";
import { ago, counted } from "./words.js";

const SILENT_S = 15; // agents report every 10 s

const ROUTES = [
  [/^#\/device\/([^/]+)$/, () => import("./device.js").then((m) => m.showDevice)],
  [/^#\/model\/([^/]*)\/(\d+)$/, () => import("./model.js").then((m) => m.showModel)],
  [/^#\/latency$/, () => import("./latency.js").then((m) => m.showLatency)],
  [/^#\/rollout$/, () => import("./rollout.js").then((m) => m.showRollout)],
  [/^#\/alerts$/, () => import("./alerts.js").then((m) => m.showAlerts)],
];

const TITLE = document.title;

const shell = {
  standing(connected, words, seconds) {
    const live = connected && !words && seconds <= SILENT_S;
    byId("standing").textContent = words ?? (live ? "live" : `last report ${ago(seconds)}`);
    byId("status").className = `status ${live ? "live" : connected ? "" : "trouble"}`;
  },
  summary(summary) {
    const parts = [counted(summary.devices, "device"), counted(summary.reports, "report"), counted(summary.inferences, "inference")];
    if (summary.quarantined) parts.push(`${summary.quarantined.toLocaleString("en")} in quarantine`);
    byId("totals").textContent = parts.join(" · ");
    const badge = byId("alert-count");
    badge.hidden = !summary.firing;
    badge.textContent = summary.firing ?? "";
  },
};

let leave = () => {};
let shown = 0;

// "Latency", "pi-1", "ic 3": what a tab or a bookmark is found by.
function titleOf(hash) {
  const [kind, ...names] = hash.slice(2).split("/");
  try {
    return names.map(decodeURIComponent).join(" ") || kind[0].toUpperCase() + kind.slice(1);
  } catch {
    return kind;
  }
}

async function route() {
  const hash = location.hash || "#/";
  const main = byId("main");
  const turn = ++shown;
  leave();
  leave = () => {};
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === hash) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const found = ROUTES.find(([pattern]) => pattern.test(hash));
  document.title = found ? `${titleOf(hash)} · ${TITLE}` : TITLE;
  if (!found) {
    leave = showFleet(main, shell);
    return;
  }
  const show = await found[1]();
  if (turn !== shown) return; // somewhere else by now
  let names = [];
  try {
    names = hash.match(found[0]).slice(1).map(decodeURIComponent);
  } catch {
    location.hash = "#/";
    return;
  }
  leave = show(main, shell, ...names) ?? (() => {});
  main.focus({ preventScroll: true });
  scrollTo({ top: 0 });
}

byId("logout").hidden = location.protocol !== "https:"; // there is no login on plain loopback
addEventListener("hashchange", route);
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && location.hash.length > 2 && !event.target.matches("select, input")) location.hash = "#/";
});
route();
