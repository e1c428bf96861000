// Where latencies lie over time: a column per step, a row per bucket of the histogram, darker where more of them are.

import { color, drawMarks, throttledSpans } from "./charts.js";
import { element } from "./dom.js";
import { clock, count, ms } from "./words.js";

const LEFT = 48;
const BOTTOM = 22;
const TOP = 18;
const HEIGHT = 300;
const boundMs = (bucket) => 2 ** (bucket / 16) / 1e6;

// Buckets from the lowest to the highest that hold more than 0.05 % of all: a stall does not flatten the picture.
function range(heat) {
  const totals = new Map();
  let all = 0;
  for (const column of heat) for (const [bucket, n] of column) totals.set(bucket, (totals.get(bucket) ?? 0) + n), (all += n);
  const known = [...totals.keys()].sort((a, b) => a - b);
  const cut = all * 0.0005;
  while (known.length > 8 && totals.get(known[0]) < cut) known.shift();
  while (known.length > 8 && totals.get(known[known.length - 1]) < cut) known.pop();
  return known.length ? [known[0] - 2, known[known.length - 1] + 3] : null;
}

export function heatmap(title, history) {
  const canvas = element("canvas");
  const tip = element("div.tip", { hidden: true });
  const holder = element("div.plot.heat", {}, canvas, tip);
  const node = element("figure.chart", {}, element("figcaption", {}, title), holder);
  const found = range(history.heat);
  if (!found) {
    holder.replaceChildren(element("p.muted", {}, "Nothing was measured in this time."));
    return { node, stop: () => {} };
  }
  const [low, high] = found;
  const columns = history.t.length;
  const total = history.heat.flat().reduce((sum, [, n]) => sum + n, 0);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${title}: ${count(total)} samples between ${ms(boundMs(low))} and ${ms(boundMs(high))} ms`);
  let box = null;

  function draw() {
    const scale = devicePixelRatio || 1;
    const width = holder.clientWidth;
    if (!width) return;
    canvas.width = width * scale;
    canvas.height = HEIGHT * scale;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${HEIGHT}px`;
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    const inner = width - LEFT - 6;
    const tall = HEIGHT - TOP - BOTTOM;
    box = { inner, tall };
    const x = (i) => LEFT + (i / columns) * inner;
    const y = (bucket) => TOP + tall - ((bucket - low) / (high - low)) * tall;
    context.fillStyle = color("raised");
    context.fillRect(LEFT, TOP, inner, tall);
    const shades = ["heat-1", "heat-2", "heat-3", "heat-4", "heat-5", "heat-6"].map(color);
    history.heat.forEach((column, i) => {
      const most = Math.max(1, ...column.map(([, n]) => n));
      for (const [bucket, n] of column) {
        if (bucket < low || bucket >= high) continue;
        context.fillStyle = shades[Math.min(shades.length - 1, Math.floor(Math.sqrt(n / most) * shades.length))];
        const left = Math.floor(x(i));
        const top = y(bucket + 1);
        context.fillRect(left, top, Math.ceil(x(i + 1)) - left, y(bucket) - top + 0.4);
      }
    });
    context.font = "12px system-ui, sans-serif";
    context.fillStyle = color("muted");
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (let power = -4; power < 6; power++) for (const step of [1, 2, 5]) {
      const value = step * 10 ** power;
      const bucket = Math.log2(value * 1e6) * 16;
      if (bucket < low || bucket > high) continue;
      context.fillText(value >= 1 ? String(value) : value.toPrecision(1), LEFT - 8, y(bucket));
      context.fillRect(LEFT - 4, y(bucket), 4, 1);
    }
    context.textAlign = "center";
    const every = Math.ceil(columns / Math.max(2, Math.floor(inner / 90)));
    for (let i = 0; i < columns; i += every) {
      const when = new Date(history.t[i] * 1000);
      const words = history.step_s >= 86400 ? `${when.getDate()}.${when.getMonth() + 1}.` : when.toTimeString().slice(0, 5);
      if (x(i) + 20 < width) context.fillText(words, Math.max(x(i), LEFT + 14), HEIGHT - 9);
    }
    const at = (t) => x((t - history.t[0]) / history.step_s);
    drawMarks(context, history.marks, throttledSpans(history), at, LEFT, TOP - 14, inner, tall + 14, 1);
  }

  canvas.addEventListener("pointermove", (event) => {
    const place = canvas.getBoundingClientRect();
    const i = Math.floor(((event.clientX - place.left - LEFT) / box.inner) * columns);
    const bucket = Math.floor(low + (1 - (event.clientY - place.top - TOP) / box.tall) * (high - low));
    const column = history.heat[i];
    tip.hidden = !column || bucket < low || bucket >= high;
    if (tip.hidden) return;
    const n = column.find(([each]) => each === bucket)?.[1] ?? 0;
    tip.textContent = `${clock(history.t[i])} · ${ms(boundMs(bucket))}–${ms(boundMs(bucket + 1))} ms · ${count(n)}`;
    tip.style.left = `${Math.min(event.clientX - place.left + 12, place.width - tip.offsetWidth - 4)}px`;
    tip.style.top = `${event.clientY - place.top - 34}px`;
  });
  canvas.addEventListener("pointerleave", () => (tip.hidden = true));
  const watch = new ResizeObserver(draw);
  watch.observe(holder);
  addEventListener("theme", draw);
  return { node, stop: () => {
    watch.disconnect();
    removeEventListener("theme", draw);
  } };
}
