// Latency of the fleet or of one model version over time.

import { percentileChart, stageChart } from "./charts.js";
import { element, fetchJson, query } from "./dom.js";
import { heatmap } from "./heatmap.js";
import { chosen, loadHistory, markLegend, reloading, spanChooser } from "./panels.js";
import { model } from "./words.js";

const scope = { bundle: null, version: null };

export function showLatency(main, shell) {
  const load = async () => {
    const { versions } = await fetchJson("v1/rollout");
    return { versions, history: await loadHistory(query({ ...scope, span: chosen.span })) };
  };
  return reloading(main, shell, { load, draw: ({ versions, history }, again) => {
    const options = [["", "All models"], ...versions.map((v) => [JSON.stringify([v.bundle, v.version]), model(v.bundle, v.version)])];
    const now = scope.bundle === null ? "" : JSON.stringify([scope.bundle, scope.version]);
    const picker = element("select", { "aria-label": "Model", "data-key": "model", onchange: () => {
      [scope.bundle, scope.version] = picker.value ? JSON.parse(picker.value) : [null, null];
      again();
    } }, options.map(([value, title]) => element("option", { value, selected: value === now }, title)));
    return [
      element("div.head", {}, element("h2", {}, "Latency over time"), picker, spanChooser(again)),
      heatmap("invoke, ms (logarithmic); the stronger the color, the more inferences", history),
      markLegend(history),
      percentileChart("invoke, ms", history, "invoke"),
      stageChart("Mean of each stage, ms", history),
    ];
  } });
}
