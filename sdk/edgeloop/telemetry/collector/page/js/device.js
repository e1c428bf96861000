// One device: each of its models with its latency over time, what happened, how the board is.

import { gaugeCharts, percentileChart, stageChart } from "./charts.js";
import { element, fetchJson, query } from "./dom.js";
import { heatmap } from "./heatmap.js";
import { backLink, chosen, facts, loadHistory, markLegend, panel, reloading, spanChooser } from "./panels.js";
import { badge } from "./row.js";
import { age, ago, clock, count, gauge, model, modelLink, ms, percent, rate } from "./words.js";

const FINE = new Set(["as profiled"]);
const UNKNOWN = new Set(["no profile", "host profile"]);

function deviation({ kind, text, ratio }) {
  const tone = FINE.has(kind) ? "good" : UNKNOWN.has(kind) ? "plain" : "warn";
  const words = ratio === null ? "not compared" : `${ratio.toFixed(2)}× its profile`;
  return element(`div.reason.${tone}`, {}, element("b", {}, words), element("span", {}, text));
}

function stageTable(stages) {
  const cells = (values) => values.map((value, i) => element(i === 3 ? "td.number.spare" : "td.number", {}, value));
  return element("table.plain", {}, element("thead", {}, element("tr", {}, ["Stage", "p50", "p95", "p99", "slowest", "n"].map((title, i) =>
    element(i === 4 ? "th.number.spare" : i ? "th.number" : "th", { scope: "col" }, title)))),
  element("tbody", {}, Object.entries(stages).map(([name, s]) => element("tr", {}, element("th", { scope: "row" }, name),
    cells([ms(s.p50_ms), ms(s.p95_ms), ms(s.p99_ms), ms(s.max_ms), count(s.n)])))));
}

function caches(view) {
  return Object.entries(view.caches).map(([level, { rate: share, hits, misses }]) =>
    [`Cache ${level.toUpperCase()}`, percent(share), `${count(hits)} of ${count(hits + misses)}`]);
}

function counters(view) {
  return Object.entries(view.counters).filter(([name, n]) => n && !name.startsWith("cache_"))
    .map(([name, n]) => [name.replaceAll("_", " "), count(n)]);
}

function marks(view, now) {
  const found = Object.entries(view.alerts).map(([name, lasted]) => badge(`${name} for ${age(lasted)}`, "bad"));
  if (view.throttled) found.push(badge("throttled"));
  if (view.delegate_asked && view.delegate_asked !== view.delegate_ran) found.push(badge(`not ${view.delegate_asked}`));
  if (view.unsigned) found.push(badge("unsigned", "plain"));
  if (now - view.received_s > 120) found.push(badge(`silent for ${age(now - view.received_s)}`, "bad"));
  return found;
}

function oneModel(view, now) {
  const invoke = view.stages.invoke;
  return panel(null,
    element("div.head", {}, element("h3", {}, element("a", { href: modelLink(view.bundle, view.version) }, model(view.bundle, view.version))),
      element("span.muted", {}, view.variant), ...marks(view, now)),
    deviation(view.deviation),
    facts([
      invoke && ["p50", `${ms(invoke.p50_ms)} ms`, view.gauges.profile_p50_ms ? `profile ${ms(view.gauges.profile_p50_ms)}` : null],
      invoke && ["p95", `${ms(invoke.p95_ms)} ms`, view.gauges.profile_p95_ms ? `profile ${ms(view.gauges.profile_p95_ms)}` : null],
      invoke && ["p99", `${ms(invoke.p99_ms)} ms`, `n = ${count(invoke.n)}`],
      ["Inferences per s", rate(view.inferences_per_s)],
      ["Runs on", view.delegate_ran || "–", `${percent(view.delegated_share)} of ops`],
      ...caches(view),
    ]),
    stageTable(view.stages),
    element("p.small", {}, `${view.runtime} · the last ${view.window_reports} reports: ${counters(view).map(([name, n]) => `${n} ${name}`).join(", ")}`));
}

function board(view) {
  const shown = Object.entries(view.gauges).filter(([name]) => !/^(alert_|profile_|throttle_flags|fps)/.test(name));
  return panel("Board", facts(shown.slice(0, 24).map(([name, value]) => gauge(name, value))));
}

function events(list) {
  const rows = list.map((event) => element("li", {}, element("time.muted", {}, clock(event.time_s)), badge(event.kind, "plain"), element("span", {}, event.detail)));
  return panel("Events", rows.length ? element("ul.events", { tabindex: "0", "aria-label": "Events" }, rows) : element("p.muted", {}, "None yet."));
}

export function showDevice(main, shell, name) {
  const load = async () => {
    const [device, history] = await Promise.all([
      fetchJson(`v1/device?${query({ name })}`), loadHistory(query({ device: name, span: chosen.span }))]);
    return { device, history };
  };
  return reloading(main, shell, { back: backLink(), load, draw: ({ device, history }, again) => {
    const last = device.models[0];
    const profile = device.models.length === 1 ? last.gauges.profile_p95_ms : null;
    const seen = Math.max(...device.models.map((view) => view.received_s));
    return [
      element("div.head", {}, element("h2.device", { dir: "auto" }, device.device),
        element("span.muted", {}, `seen ${ago(device.now_s - seen)}`), spanChooser(again)),
      element("div.columns", {}, device.models.map((view) => oneModel(view, device.now_s)),
        element("div.stack", {}, board(last), events(device.events))),
      percentileChart("invoke, ms", history, "invoke", profile),
      markLegend(history),
      stageChart("Mean of each stage, ms", history),
      heatmap("invoke, ms (logarithmic)", history),
      gaugeCharts(history),
    ];
  } });
}
