// Lines over time, drawn by uPlot (vendor/), in the page's own colors.

import { element } from "./dom.js";
import { STAGES, clock, ms } from "./words.js";

let loading = null;

// uPlot is fetched when the first chart is wanted, so that the table does not wait for it.
function uplot() {
  loading ??= new Promise((done, failed) => {
    const script = element("script", { src: "vendor/uPlot.iife.min.js", onload: () => done(window.uPlot), onerror: failed });
    document.head.append(script);
  });
  return loading;
}

export const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const GLYPHS = { throttling: "T", fallback: "F", restart: "R", update: "U", rollback: "B", retry: "A", alert: "!", variant_switch: "V", source_lost: "S" };
const TONES = { throttling: "warn", fallback: "warn", restart: "bad", alert: "bad", source_lost: "bad" };
export const MARK_WORDS = { throttling: "throttling", fallback: "fallback", restart: "restart", update: "update", rollback: "rollback", retry: "tried again", alert: "alert", variant_switch: "variant switch", source_lost: "source lost" };

// Letters over the chart and lines through it where something happened; a strip where boards were throttled.
export function drawMarks(context, marks, throttled, x, left, top, width, height, scale) {
  context.save();
  context.font = `600 ${10 * scale}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  for (const { at, until } of throttled) {
    context.fillStyle = color("warn");
    context.globalAlpha = 0.8;
    context.fillRect(x(at), top + height - 4 * scale, Math.max(x(until) - x(at), 2), 4 * scale);
  }
  for (const mark of marks) {
    const place = x(mark.t);
    if (place < left || place > left + width) continue;
    context.globalAlpha = 0.55;
    context.strokeStyle = context.fillStyle = color(TONES[mark.kind] ?? "muted");
    context.setLineDash([3 * scale, 3 * scale]);
    context.beginPath();
    context.moveTo(place, top + 14 * scale);
    context.lineTo(place, top + height);
    context.stroke();
    context.globalAlpha = 1;
    context.beginPath();
    context.arc(place, top + 7 * scale, 7 * scale, 0, 7);
    context.fill();
    context.fillStyle = color("card");
    context.fillText(GLYPHS[mark.kind] ?? "•", place, top + 7.5 * scale);
  }
  context.restore();
}

// [{at, until}] in seconds, of the steps in which a board was throttled.
export function throttledSpans(history) {
  return history.t.flatMap((t, i) => (history.throttled[i] ? [{ at: t, until: t + history.step_s }] : []));
}

function markPlugin(history) {
  const spans = throttledSpans(history);
  return { hooks: { draw: (u) => {
    const { left, top, width, height } = u.bbox;
    drawMarks(u.ctx, history.marks, spans, (t) => u.valToPos(t, "x", true), left, top, width, height, devicePixelRatio);
  } } };
}

// Where the legend stands while nobody points at the chart.
function newest(lines) {
  return lines[0].values.findLastIndex((value) => value !== null && value !== undefined);
}

function around(low, high) {
  const room = Math.max((high - low) * 0.2, Math.abs(high) * 0.05, 0.1);
  return [Math.max(low - room, Math.min(low, 0)), high + room];
}

const FONT = "12px system-ui, sans-serif";

// lines: [{label, values, tone, fill?, dash?, width?, unit?}]; gives {node, stop}.
export function lineChart(title, history, lines, { height = 220, unit = "ms", format = ms, marks = true, fromZero = true, bands = null } = {}) {
  const holder = element("div.plot");
  const node = element("figure.chart", {}, element("figcaption", {}, title), holder);
  let chart = null;
  let stopped = false;

  async function draw() {
    const Chart = await uplot();
    if (stopped || !holder.isConnected) return;
    chart?.destroy();
    const axis = { stroke: color("muted"), font: FONT, grid: { stroke: color("hair"), width: 1 }, ticks: { show: false } };
    const value = (_u, v) => (v === null || v === undefined ? "–" : `${format(v)} ${unit}`);
    chart = new Chart({
      width: holder.clientWidth || 400, height, padding: [10, 22, 0, 0], bands: bands ?? undefined,
      cursor: { points: { size: 6 }, drag: { x: false, y: false } },
      legend: { live: true },
      scales: { y: { range: (_u, low, high) => (fromZero ? [0, (high || 1) * 1.15] : around(low, high)) } },
      axes: [{ ...axis, values: times }, { ...axis, size: 54, values: (_u, all) => all.map((v) => (unit === "MiB" ? format(v) : String(Number(v.toPrecision(4))))) }],
      series: [{ label: "Time", value: (_u, t) => (t ? clock(t) : "–") }, ...lines.map((line) => ({
        label: line.label, stroke: color(line.tone), width: line.width ?? 1.7, dash: line.dash, spanGaps: false,
        fill: line.fill ? color(line.fill) : undefined, points: { show: false },
        value: line.raw ? (_u, _v, _s, i) => (i === null ? "–" : value(null, line.raw[i])) : value,
      }))],
      plugins: marks ? [markPlugin(history)] : [],
    }, [history.t, ...lines.map((line) => line.values)], holder);
    const rest = () => chart?.setLegend({ idx: newest(lines) });
    chart.over.addEventListener("mouseleave", () => setTimeout(rest));
    setTimeout(rest);
  }

  const watch = new ResizeObserver(() => {
    if (chart && holder.clientWidth) chart.setSize({ width: holder.clientWidth, height });
    else draw();
  });
  watch.observe(holder);
  const again = () => draw();
  addEventListener("theme", again);
  return { node, stop: () => {
    stopped = true;
    watch.disconnect();
    removeEventListener("theme", again);
    chart?.destroy();
  } };
}

const pad = (n) => String(n).padStart(2, "0");

function times(_u, all) {
  return all.map((t, i) => {
    const when = new Date(t * 1000);
    const day = `${when.getDate()}.${when.getMonth() + 1}.`;
    const time = `${pad(when.getHours())}:${pad(when.getMinutes())}`;
    const first = i === 0 || new Date(all[i - 1] * 1000).getDate() !== when.getDate();
    return all.length > 1 && all[1] - all[0] >= 86400 ? day : first && i ? `${day} ${time}` : time;
  });
}

export function percentileChart(title, history, stage, profile = null) {
  const series = history.stages[stage];
  if (!series) return null;
  const lines = [
    { label: "p99", values: series.p99_ms, tone: "postprocess", width: 1.2 },
    { label: "p95", values: series.p95_ms, tone: "invoke", fill: "under" },
    { label: "p50", values: series.p50_ms, tone: "preprocess" },
  ];
  if (profile) lines.push({ label: "profile p95", values: history.t.map(() => profile), tone: "muted", dash: [6, 4], width: 1.2 });
  return lineChart(title, history, lines, { height: 240 });
}

// The mean of each stage, one above the other.
export function stageChart(title, history) {
  const names = STAGES.filter((name) => history.stages[name]);
  if (!names.length) return null;
  const sums = history.t.map(() => 0);
  const lines = names.map((name) => {
    const raw = history.stages[name].mean_ms;
    const values = raw.map((value, i) => (value === null ? null : (sums[i] += value)));
    return { label: name, values, raw, tone: name, fill: name, width: 1 };
  });
  // The highest first, so that each one is painted over by those below it.
  return lineChart(title, history, lines.reverse(), { height: 240 });
}

const GAUGES = [
  ["temperature_c", "Temperature", "°C", (v) => v.toFixed(1)], ["frequency_mhz", "Clock", "MHz", (v) => v.toFixed(0)],
  ["rss_bytes", "Memory of the agent", "MiB", (v) => (v / 1048576).toFixed(0)], ["load_1m", "Load", "", (v) => v.toFixed(2)],
];

export function gaugeCharts(history) {
  const charts = GAUGES.filter(([name]) => history.gauges[name]?.some((v) => v !== null)).map(([name, title, unit, format]) =>
    lineChart(title, history, [{ label: title, values: history.gauges[name], tone: "mark" }], { height: 150, unit, format, marks: false, fromZero: false }));
  return { node: element("div.columns", {}, charts.map((chart) => chart.node)), stop: () => charts.forEach((chart) => chart.stop()) };
}
