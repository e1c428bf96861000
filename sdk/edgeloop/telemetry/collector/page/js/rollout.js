// Which version of which model runs where, and how well.

import { drawing, element, fetchJson, shape } from "./dom.js";
import { reloading } from "./panels.js";
import { ago, count, modelLink, ms, percent } from "./words.js";

function healthBar(state) {
  const width = 160;
  const healthy = state.devices ? (state.healthy / state.devices) * width : 0;
  return drawing(width, 12, `${state.healthy} of ${state.devices} healthy`,
    shape("rect", { class: "bar-rest", width, height: 12, rx: 6 }), shape("rect", { class: "bar-good", width: healthy.toFixed(1), height: 12, rx: 6 }));
}

function troubles(state) {
  const words = [[state.silent, "silent"], [state.throttled, "throttled"], [state.fell_back, "on a fallback"], [state.errors, "with errors"]];
  return words.filter(([n]) => n).map(([n, what]) => `${count(n)} ${what}`).join(", ");
}

const cell = (label, kind, ...children) => element(kind, { "data-label": label }, ...children);

function line(state, now) {
  return element("tr", {},
    element("th.name", { scope: "row" }, element("a", { href: modelLink(state.bundle, state.version) }, `v${state.version}`),
      element("span.small", {}, Object.keys(state.variants).join(", "))),
    cell("Devices", "td.number.strong", count(state.devices)),
    cell("Share", "td.number", percent(state.share)),
    cell("Healthy", "td.health", healthBar(state), element("span.small", {}, `${percent(state.devices ? state.healthy / state.devices : 0)} ${troubles(state)}`)),
    cell("p50", "td.number", ms(state.p50_ms)), cell("p95", "td.number", ms(state.p95_ms)),
    cell("First seen", "td.number", state.first_seen_s ? ago(now - state.first_seen_s) : "–"),
    cell("Last seen", "td.number", ago(now - state.last_seen_s)));
}

export function showRollout(main, shell) {
  return reloading(main, shell, { load: () => fetchJson("v1/rollout"), draw: ({ now_s: now, versions }) => {
    const bundles = [...new Set(versions.map((state) => state.bundle))];
    const titles = ["Version", "Devices", "Share", "Healthy", "p50", "p95", "First seen", "Last seen"];
    return [
      element("div.head", {}, element("h2", {}, "Rollout"), element("span.muted", {}, "what devices said last")),
      bundles.length ? null : element("p.empty", {}, "No device has reported a model yet."),
      bundles.map((bundle) => element("section", {}, element("h3.device", {}, bundle), element("table.stacked", {},
        element("thead", {}, element("tr", {}, titles.map((title, i) => element(i && i !== 3 ? "th.number" : "th", { scope: "col" }, title)))),
        element("tbody", {}, versions.filter((state) => state.bundle === bundle).map((state) => line(state, now)))))),
    ];
  } });
}
