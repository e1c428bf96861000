// A row of the fleet's table.

import { drawing, element, shape } from "./dom.js";
import { STAGES, age, deviceLink, model, modelLink, ms, rate } from "./words.js";

const WIDTH = 96;
const HEIGHT = 26;

export function sparkline(values, width = WIDTH, height = HEIGHT) {
  if (values.length < 2) return element("span.muted", {}, "–");
  const top = Math.max(...values) || 1;
  const low = Math.min(...values) * 0.9;
  const step = (width - 4) / (values.length - 1);
  const y = (v) => height - 3 - ((v - low) / (top - low || 1)) * (height - 6);
  const points = values.map((v, i) => `${(2 + i * step).toFixed(1)},${y(v).toFixed(1)}`);
  const label = `p95 of the last ${values.length} reports: ${ms(values[0])} to ${ms(values[values.length - 1])} ms, at most ${ms(top)}`;
  return drawing(
    width, height, label,
    shape("polygon", { class: "under", points: `2,${height} ${points.join(" ")} ${width - 2},${height}` }),
    shape("polyline", { class: "line", points: points.join(" ") }),
    shape("circle", { class: "end", cx: width - 2, cy: y(values[values.length - 1]).toFixed(1), r: 2 }),
  );
}

// means: ms per stage in the order of STAGES, drawn as one bar.
export function stageBar(means, width = WIDTH) {
  const total = means.reduce((sum, value) => sum + value, 0);
  if (!total) return element("span.muted", {}, "–");
  let x = 0;
  const parts = means.map((value, i) => {
    const part = shape("rect", { class: `stage-${STAGES[i]}`, x: x.toFixed(2), y: 8, width: ((value / total) * width).toFixed(2), height: 10 });
    x += (value / total) * width;
    return part;
  });
  const words = means.map((value, i) => `${STAGES[i]} ${ms(value)} ms`).join(", ");
  const made = drawing(width, HEIGHT, `mean per stage: ${words}`, ...parts);
  made.append(shape("title", {}, words));
  return made;
}

export function badge(text, kind = "warn", title = null) {
  return element(`span.badge.${kind}`, { title }, text);
}

function badges(row, now) {
  const found = [];
  for (const alert of row.firing ?? []) found.push(badge(alert, "bad"));
  if (row.throttled) found.push(badge("throttled", "warn", "the board holds itself back: heat or power"));
  if (row.fell_back) found.push(badge(`not ${row.delegate_asked}`, "warn", `asked for ${row.delegate_asked}, runs on ${row.delegate_ran}`));
  if (row.errors) found.push(badge(`${row.errors} errors`, "bad"));
  if (row.unsigned) found.push(badge("unsigned", "plain"));
  if (now - row.received_s > row.silent_after_s) found.push(badge("silent", "bad"));
  for (const [name, lasted] of Object.entries(row.alerts)) found.push(badge(`${name} for ${age(lasted)}`, "bad"));
  return found;
}

function againstProfile(row) {
  if (!row.profile_p95_ms || row.p95_ms === null) return null;
  const times = row.p95_ms / row.profile_p95_ms;
  if (times < 1.15) return null;
  return element("span.small.over", { title: `the bundle's profile says ${ms(row.profile_p95_ms)} ms` }, `${times.toFixed(1)}× profile`);
}

const cell = (label, kind, ...children) => element(kind, { "data-label": label }, ...children);

// still: a row of another table, which is no link by itself.
export function fleetRow(row, now, still = false) {
  const event = row.event ? `${row.event.kind}: ${row.event.detail}` : null;
  const link = element("a", { href: deviceLink(row.device), tabindex: still ? null : "-1", dir: "auto" }, row.device);
  const where = row.bundle ? modelLink(row.bundle, row.version) : null;
  const made = element(
    "tr", still ? {} : { tabindex: "0", "data-id": String(row.id) },
    element("th.name", { scope: "row" }, link, event && element("span.small.event", { title: event }, event)),
    cell("Model", "td.model", where ? element("a", { href: where, tabindex: "-1" }, model(row.bundle, row.version)) : "–",
      element("span.small", {}, row.variant)),
    cell("Runs on", "td.ran", row.delegate_ran || "–", element("span.small", {}, `${Math.round(row.delegated_share * 100)} % of ops`)),
    cell("p50 ms", "td.number", ms(row.p50_ms)),
    cell("p95 ms", "td.number.strong", ms(row.p95_ms), againstProfile(row)),
    cell("p99 ms", "td.number", ms(row.p99_ms)),
    cell("p95 trend", "td.trend", sparkline(row.trend_p95_ms)),
    cell("Stages", "td.stages", stageBar(row.stages_ms)),
    cell("Per s", "td.number.rate", rate(row.inferences_per_s)),
    cell("Board", "td.number.board", row.temperature_c === null ? "–" : `${row.temperature_c.toFixed(0)} °C`),
    element("td.marks", {}, ...badges(row, now)),
    cell("Seen", "td.number.seen", age(now - row.received_s)),
  );
  if (now - row.received_s > row.silent_after_s) made.classList.add("stale");
  return made;
}
