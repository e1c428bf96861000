// Numbers and names as people read them.

export const STAGES = ["capture", "preprocess", "invoke", "postprocess"];

export function ms(value) {
  if (value === null || value === undefined) return "–";
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : 3;
  return value.toFixed(digits);
}

export const count = (n) => n.toLocaleString("en");
export const counted = (n, what) => `${count(n)} ${what}${n === 1 ? "" : "s"}`;
export const percent = (share, digits = 0) => `${(share * 100).toFixed(digits)} %`;

export function age(seconds) {
  if (seconds < 1) return "now";
  if (seconds < 100) return `${Math.round(seconds)} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

export const ago = (seconds) => (seconds < 1 ? "now" : `${age(seconds)} ago`);

export function clock(seconds) {
  const when = new Date(seconds * 1000);
  const today = new Date().toDateString() === when.toDateString();
  const time = when.toLocaleTimeString("en-GB");
  return today ? time : `${when.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} ${time}`;
}

export const rate = (perSecond) => (perSecond === null ? "–" : perSecond.toFixed(perSecond < 10 ? 1 : 0));
export const model = (bundle, version) => (bundle ? `${bundle} v${version}` : "no model");

export const deviceLink = (device) => `#/device/${encodeURIComponent(device)}`;
export const modelLink = (bundle, version) => `#/model/${encodeURIComponent(bundle)}/${version}`;

const GAUGES = {
  temperature_c: ["Temperature", (v) => `${v.toFixed(1)} °C`],
  frequency_mhz: ["Clock", (v) => `${v.toFixed(0)} MHz`],
  load_1m: ["Load", (v) => v.toFixed(2)],
  rss_bytes: ["Memory of the agent", (v) => `${(v / 1048576).toFixed(0)} MiB`],
  memory_available_bytes: ["Memory available", (v) => `${(v / 1048576).toFixed(0)} MiB`],
  fps: ["Inferences per s", (v) => v.toFixed(1)],
  threads: ["Threads", (v) => v.toFixed(0)],
  spool_reports: ["Reports waiting", (v) => count(v)],
  spool_bytes: ["Spool", (v) => `${(v / 1024).toFixed(0)} KiB`],
  usb_mbps: ["USB", (v) => `${count(v)} Mbit/s`],
};

export function gauge(name, value) {
  const [label, text] = Object.hasOwn(GAUGES, name) ? GAUGES[name] : [name, (v) => String(Math.round(v * 1000) / 1000)];
  return [label, text(value)];
}
