// What the views are built of: a view that loads itself again, a choice of the time, cards of facts.

import { element, fetchJson } from "./dom.js";
import { MARK_WORDS } from "./charts.js";

const AGAIN_MS = 10_000;
export const chosen = { span: "1h" };

// load() gives data, draw(data) gives nodes and charts ({node, stop}); again every 10 s while the page is seen.
export function reloading(main, shell, { back, load, draw }) {
  let charts = [];
  let timer = 0;
  let left = false;
  const box = element("div.view", { "aria-busy": "true" });
  main.replaceChildren(...(back ? [back] : []), box);

  async function again() {
    clearTimeout(timer);
    try {
      const data = await load();
      if (left) return;
      const parts = draw(data, again).flat(3).filter(Boolean);
      const focused = document.activeElement?.dataset?.key;
      const old = charts;
      charts = parts.filter((part) => part.stop);
      box.replaceChildren(...parts.map((part) => part.node ?? part));
      old.forEach((chart) => chart.stop());
      if (focused) box.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
      shell.standing(true, null, 0);
    } catch (error) {
      if (left) return;
      const missing = error.status === 404; // the collector is well, there is only nothing of that name
      if (missing) shell.standing(true, null, 0);
      else shell.standing(false, "not up to date");
      if (missing || !charts.length) box.replaceChildren(element("p.empty", {}, error.message));
    }
    box.removeAttribute("aria-busy");
    if (!left) timer = setTimeout(() => (document.hidden ? again.later() : again()), AGAIN_MS);
  }
  again.later = () => document.addEventListener("visibilitychange", again, { once: true });
  again();
  return () => {
    left = true;
    clearTimeout(timer);
    charts.forEach((chart) => chart.stop());
  };
}

export const backLink = (words = "Fleet") => element("a.back", { href: "#/" }, `← ${words}`);

export function spanChooser(again) {
  const words = { "1h": "1 hour", "24h": "24 hours", "30d": "30 days" };
  return element("div.spans", { role: "group", "aria-label": "Time" }, Object.entries(words).map(([span, text]) =>
    element("button", { type: "button", "aria-pressed": String(chosen.span === span), "data-key": `span-${span}`, onclick: () => {
      chosen.span = span;
      again();
    } }, text)));
}

export const loadHistory = (query) => fetchJson(`v1/history?${query}`);

// A figure with its words: facts([["p95", "12 ms", "note"], …]).
export function facts(entries) {
  return element("dl.facts", {}, entries.filter(Boolean).map(([name, value, note]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value, note ? element("span.small", {}, note) : null))));
}

export const panel = (title, ...children) => element("section.panel", {}, title ? element("h3", {}, title) : null, ...children);

export function markLegend(history) {
  const kinds = [...new Set(history.marks.map((mark) => mark.kind))];
  if (!kinds.length && !history.throttled.some(Boolean)) return null;
  const parts = kinds.map((kind) => `${kind[0].toUpperCase()} ${MARK_WORDS[kind] ?? kind}`);
  if (history.throttled.some(Boolean)) parts.push("▂ throttled");
  return element("p.small.marklegend", {}, parts.join("   "));
}
