// The live page. What devices send is put into the document as text only, never as markup.
"use strict";

const POLL_MS = 2000;
const STALE_S = 120;
const SILENT_S = 15; // agents report every 10 s
const STAGES = ["capture", "preprocess", "invoke", "postprocess", "total"];
const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 140;
const HEIGHT = 34;

const byId = (id) => document.getElementById(id);
let latest = null;

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function shape(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function drawing(label, shapes) {
  const svg = shape("svg", { width: WIDTH, height: HEIGHT, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  const title = shape("title", {});
  title.textContent = label;
  svg.append(title, shape("line", { class: "axis", x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 }), ...shapes);
  return svg;
}

function ms(value) {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value >= 1 ? value.toFixed(2) : value.toFixed(3);
}

function age(seconds) {
  if (seconds < 0) return "now";
  if (seconds < 100) return `${Math.round(seconds)} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

// What the page is: live only while reports come in.
function standing(devices, now) {
  if (!devices.length) return "no report yet";
  const seconds = now - Math.max(...devices.map((device) => device.received_s));
  return seconds <= SILENT_S ? "live" : `last report ${age(seconds)} ago`;
}

// buckets: [[lower ms, upper ms, count], ...] ascending; drawn over a logarithmic axis.
function histogram(buckets) {
  const shown = buckets.filter(([, upper]) => upper > 0);
  if (!shown.length) return element("span", "small", "–");
  const low = Math.log(shown[0][0]);
  const high = Math.log(shown[shown.length - 1][1]);
  const top = Math.max(...shown.map(([, , count]) => count));
  const x = (value) => ((Math.log(value) - low) / (high - low)) * WIDTH;
  const bars = shown.map(([lower, upper, count]) => {
    const height = Math.max((count / top) * (HEIGHT - 2), 1);
    const bar = { class: "mark", x: x(lower), width: Math.max(x(upper) - x(lower) - 1, 0.75), y: HEIGHT - 1 - height, height };
    return shape("rect", bar);
  });
  const label = `${ms(shown[0][0])} to ${ms(shown[shown.length - 1][1])} ms, logarithmic`;
  return drawing(`invoke latency, ${label}`, bars);
}

function trend(values) {
  if (values.length < 2) return element("span", "small", "–");
  const top = Math.max(...values) || 1;
  const step = (WIDTH - 4) / (values.length - 1);
  const points = values.map((v, i) => `${(2 + i * step).toFixed(1)},${(HEIGHT - 3 - (v / top) * (HEIGHT - 6)).toFixed(1)}`);
  const label = `invoke p95 of the last ${values.length} reports, from 0 to ${ms(top)} ms; now ${ms(values[values.length - 1])} ms`;
  return drawing(label, [shape("polyline", { class: "line", points: points.join(" ") })]);
}

function stageCell(stage) {
  const cell = element("td", "number");
  if (!stage) {
    cell.textContent = "–";
    return cell;
  }
  cell.textContent = ms(stage.p50_ms);
  cell.append(element("span", "small", `${ms(stage.p95_ms)} · ${ms(stage.p99_ms)}`));
  cell.title = `n = ${stage.n}, slowest ${ms(stage.max_ms)} ms`;
  return cell;
}

function boardCell(device) {
  const cell = element("td");
  const celsius = device.gauges.temperature_c;
  cell.textContent = celsius === undefined ? "–" : `${celsius.toFixed(1)} °C`;
  if (device.throttled) cell.append(" ", element("span", "warn", "throttled"));
  if (device.gauges.rss_bytes) cell.append(element("span", "small", `${(device.gauges.rss_bytes / 1048576).toFixed(0)} MiB`));
  return cell;
}

function delegateCell(device) {
  const cell = element("td", "text", device.delegate_ran || "–");
  const share = `${Math.round(device.delegated_share * 100)} % of ops delegated`;
  cell.append(element("span", "small", share));
  const { threads } = device.gauges;
  const parts = threads === undefined ? [] : [`${threads} thread${threads === 1 ? "" : "s"}`];
  if (device.stages.invoke) parts.push(`n = ${device.stages.invoke.n.toLocaleString("en")}`);
  cell.append(element("span", "small", parts.join(", ")));
  const caches = Object.entries(device.caches).map(([level, { rate }]) => `${level.toUpperCase()} ${Math.round(rate * 100)} %`);
  if (caches.length) cell.append(element("span", "small", `cache hits: ${caches.join(", ")}`));
  if (device.delegate_asked && device.delegate_asked !== device.delegate_ran) {
    cell.append(element("span", "warn", `asked for ${device.delegate_asked}`));
  }
  return cell;
}

function row(device, now) {
  const seconds = now - device.received_s;
  const made = element("tr", seconds > STALE_S ? "stale" : "");
  const name = element("th", "", device.device);
  name.scope = "row";
  for (const [alert, lasted] of Object.entries(device.alerts)) {
    name.append(element("span", "warn", `alert: ${alert} for ${age(lasted)}`));
  }
  if (device.last_event) name.append(element("span", "small", `${device.last_event.kind}: ${device.last_event.detail}`));
  const model = element("td", "text", device.bundle ? `${device.bundle} v${device.version}` : "–");
  model.append(element("span", "small", device.variant));
  if (device.unsigned) model.append(element("span", "warn", "unsigned"));
  const drawn = element("td", "spread");
  drawn.append(histogram(device.histogram));
  const moved = element("td", "trend");
  moved.append(trend(device.trend_p95_ms));
  const rate = device.inferences_per_s;
  made.append(
    name, model, delegateCell(device), ...STAGES.map((stage) => stageCell(device.stages[stage])), drawn, moved,
    element("td", "number", rate === null ? "–" : rate.toFixed(rate < 10 ? 1 : 0)), boardCell(device),
    element("td", "number", age(seconds)),
  );
  return made;
}

function draw() {
  if (!latest) return;
  const wanted = byId("filter").value.trim().toLowerCase();
  const matches = (d) => [d.device, d.bundle, d.variant, d.delegate_ran].some((text) => text.toLowerCase().includes(wanted));
  const shown = latest.devices.filter(matches);
  const { devices, reports, inferences, quarantined } = latest.totals;
  const count = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;
  const parts = [count(devices, "device"), count(reports, "report"), count(inferences, "inference")];
  if (quarantined) parts.push(`${quarantined.toLocaleString("en")} in quarantine`);
  byId("totals").textContent = parts.join(" · ");
  byId("scroll").hidden = !shown.length;
  byId("empty").hidden = Boolean(shown.length);
  byId("empty").textContent = devices
    ? "No device matches the filter."
    : `No reports yet. On a device: edgeloop-agent run --bundle … --telemetry ${location.origin}`;
  byId("devices").replaceChildren(...shown.map((device) => row(device, latest.now_s)));
}

async function poll() {
  const status = byId("status");
  try {
    const answer = await fetch("v1/devices", { cache: "no-store" });
    if (!answer.ok) throw new Error((await answer.text()).trim() || `status ${answer.status}`);
    latest = await answer.json();
    status.textContent = standing(latest.devices, latest.now_s);
    status.className = "";
    draw();
  } catch (error) {
    status.textContent = `not up to date: ${error.message}`;
    status.className = "trouble";
  }
  setTimeout(poll, POLL_MS);
}

byId("filter").addEventListener("input", draw);
poll();
