// One version of a model across the fleet, beside another one.

import { lineChart, percentileChart, stageChart } from "./charts.js";
import { element, fetchJson, query } from "./dom.js";
import { heatmap } from "./heatmap.js";
import { backLink, chosen, facts, loadHistory, markLegend, panel, reloading, spanChooser } from "./panels.js";
import { fleetRow } from "./row.js";
import { ago, count, model, modelLink, ms, percent } from "./words.js";

function column(state, now, current) {
  const shares = (table) => Object.entries(table).map(([name, n]) => `${name || "–"} ${n}`).join(", ");
  return panel(null,
    element("div.head", {}, element("h3", {}, current ? model(state.bundle, state.version)
      : element("a", { href: modelLink(state.bundle, state.version) }, model(state.bundle, state.version)))),
    facts([
      ["Devices", count(state.devices), `${percent(state.share)} of those with this model`],
      ["Healthy", percent(state.devices ? state.healthy / state.devices : 0), `${count(state.healthy)} devices`],
      ["p50", `${ms(state.p50_ms)} ms`, "median of the devices"], ["p95", `${ms(state.p95_ms)} ms`, "median of the devices"],
      ["Runs on", shares(state.delegates)], ["Variants", shares(state.variants)],
      ["First seen", state.first_seen_s ? ago(now - state.first_seen_s) : "–"],
    ]));
}

function together(one, other, name) {
  const lines = [
    { label: `v${one.version} ${name}`, values: one.history.stages.invoke?.[`${name}_ms`], tone: "invoke" },
    { label: `v${other.version} ${name}`, values: other.history.stages.invoke?.[`${name}_ms`], tone: "postprocess", dash: [5, 4] },
  ].filter((line) => line.values);
  return lines.length === 2 ? lineChart(`Both versions: ${name} of invoke, ms`, one.history, lines, { marks: false }) : null;
}

export function showModel(main, shell, bundle, versionText) {
  const version = Number(versionText);
  let against = null;
  const load = async () => {
    const { now_s: now, versions } = await fetchJson("v1/rollout");
    const mine = versions.filter((state) => state.bundle === bundle);
    const others = mine.filter((state) => state.version !== version);
    if (!others.some((state) => state.version === against)) against = others[0]?.version ?? null;
    const read = (number) => loadHistory(query({ bundle, version: number, span: chosen.span }));
    const [history, otherHistory, slowest] = await Promise.all([read(version), against === null ? null : read(against),
      fetchJson(`v1/fleet?${query({ bundle, version, order: "p95", descending: 1, limit: 10 })}`)]);
    return { now, mine, others, history, otherHistory, slowest };
  };
  return reloading(main, shell, { back: backLink(), load, draw: ({ now, mine, others, history, otherHistory, slowest }, again) => {
    const state = mine.find((each) => each.version === version);
    const other = mine.find((each) => each.version === against);
    const picker = others.length ? element("select", { "aria-label": "Compare with", "data-key": "against", onchange: () => {
      against = Number(picker.value);
      again();
    } }, others.map((each) => element("option", { value: each.version, selected: each.version === against }, `beside v${each.version}`))) : null;
    return [
      element("div.head", {}, element("h2.device", {}, model(bundle, version)), picker, spanChooser(again)),
      state ? element("div.columns", {}, column(state, now, true), other ? column(other, now, false) : null)
        : element("p.empty", {}, "No device runs this version now."),
      other && otherHistory ? together({ version, history }, { version: against, history: otherHistory }, "p95") : null,
      heatmap("invoke, ms (logarithmic); the stronger the color, the more inferences", history),
      markLegend(history),
      percentileChart("invoke, ms", history, "invoke"),
      stageChart("Mean of each stage, ms", history),
      slowest.rows?.length ? panel("Slowest devices", element("table.fleet.plain", {}, element("tbody", {},
        slowest.ids.map((id) => slowest.rows.find((row) => row.id === id)).filter(Boolean).map((row) => fleetRow(row, slowest.now_s, true))))) : null,
    ];
  } });
}
