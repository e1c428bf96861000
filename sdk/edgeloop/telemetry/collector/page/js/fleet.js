// The fleet: what stands out, and a page of the table, kept up to date by server-sent events.

import { element, fetchJson, query } from "./dom.js";
import { fleetRow } from "./row.js";
import { age, count, deviceLink } from "./words.js";

const PAGE_ROWS = 50;
const COLUMNS = [
  ["device", "Device"], ["bundle", "Model"], ["delegate", "Runs on"], ["p50", "p50 ms"], ["p95", "p95 ms"], ["p99", "p99 ms"],
  [null, "p95 trend"], [null, "Stages"], ["rate", "Per s"], ["temperature", "Board"], [null, ""], ["seen", "Seen"],
];
const NUMBERS = new Set(["p50", "p95", "p99", "rate", "temperature", "seen"]);
const CARDS = [
  ["all", "Devices", (s) => s.devices], ["silent", "Silent", (s) => s.silent], ["throttled", "Throttled", (s) => s.throttled],
  ["fallback", "On a fallback", (s) => s.fell_back], ["errors", "With errors", (s) => s.errors], ["alerts", "Alerts", (s) => s.firing ?? 0],
];

// What is shown outlives the view, so that coming back from a device finds the table as it was.
const wish = { search: "", only: "all", order: "device", descending: false, offset: 0, focus: null };

export function showFleet(main, shell) {
  let source = null;
  let retry = 0;
  let left = false; // a timer or an answer may still come then
  let state = { ids: [], rows: new Map(), summary: null, matching: 0, offset: 0, now: 0 };
  const drawn = new Map(); // id -> tr

  const cards = element("div.cards", { role: "group", "aria-label": "Show only" });
  const search = element("input", {
    type: "search", id: "filter", placeholder: "Search device, model, delegate", autocomplete: "off", "aria-label": "Search", value: wish.search,
  });
  const found = element("p.muted.found", { role: "status" });
  const sorter = element("select", { "aria-label": "Order by", onchange: () => turn({ order: sorter.value, descending: sorter.value !== "device" }) },
    COLUMNS.filter(([order]) => order).map(([order, title]) => element("option", { value: order }, `Order: ${title}`)));
  const body = element("tbody", { id: "devices" });
  const head = element("tr");
  const table = element("table.fleet", { hidden: true },
    element("caption", {}, "Latency of invoke in ms over each device's last reports"), element("thead", {}, head), body);
  const empty = element("p.empty", { id: "empty", hidden: true });
  const pager = element("nav.pager", { "aria-label": "Pages of the table" });
  main.replaceChildren(cards, element("div.tools", {}, search, sorter, found), table, empty, pager);

  function connect() {
    clearTimeout(retry);
    if (left) return; // nobody would close it, and a browser has six
    source?.close();
    state = { ...state, ids: [], rows: new Map() };
    const { search: words, only, order, descending, offset } = wish;
    source = new EventSource(`v1/stream?${query({ search: words, only, order, descending: descending ? 1 : null, offset, limit: PAGE_ROWS })}`);
    source.onmessage = (message) => take(JSON.parse(message.data));
    source.onerror = () => {
      shell.standing(false, "not connected, trying again");
      if (source.readyState === EventSource.CLOSED) retry = setTimeout(later, 1000);
    };
  }

  // A browser tries again by itself, except after an answer that is no stream: a collector that starts, or a login.
  function later() {
    if (left) return;
    fetchJson("v1/fleet?limit=1").then(connect, () => { retry = setTimeout(later, 3000); });
  }

  function turn(change) {
    Object.assign(wish, { offset: 0 }, change);
    drawHead();
    connect();
  }

  function take(news) {
    performance.mark("news");
    state.now = news.now_s;
    const changed = new Set();
    for (const row of news.rows ?? []) {
      state.rows.set(row.id, row);
      changed.add(row.id);
    }
    if (news.summary) {
      state.summary = news.summary;
      shell.summary(news.summary);
      drawCards();
    }
    if (news.ids) Object.assign(state, { ids: news.ids, matching: news.matching, offset: news.offset });
    if (news.ids) wish.offset = news.offset;
    drawRows(changed, Boolean(news.ids));
    if (news.ids) drawPager();
    const newest = Math.max(0, ...[...state.rows.values()].map((row) => row.received_s));
    shell.standing(true, newest ? null : "no report yet", newest && news.now_s - newest);
    performance.measure("update", "news");
  }

  function drawRows(changed, moved) {
    const focused = document.activeElement?.dataset?.id;
    for (const id of state.ids) {
      const row = state.rows.get(id);
      if (!row || (!changed.has(id) && drawn.has(id))) continue;
      const made = fleetRow(row, state.now);
      const old = drawn.get(id);
      if (old?.isConnected) {
        old.replaceWith(made);
        made.classList.add("fresh");
      }
      drawn.set(id, made);
    }
    for (const [id, row] of state.rows) {
      const made = drawn.get(id);
      if (made && !changed.has(id)) made.lastChild.textContent = age(state.now - row.received_s);
    }
    if (moved) {
      const wanted = state.ids.map((id) => drawn.get(id)).filter(Boolean);
      if (wanted.some((made, i) => body.children[i] !== made) || body.children.length !== wanted.length) body.replaceChildren(...wanted);
      for (const id of [...drawn.keys()]) if (!state.ids.includes(id)) drawn.delete(id), state.rows.delete(id);
    }
    if (focused) drawn.get(Number(focused))?.focus({ preventScroll: true });
    table.hidden = !state.ids.length;
    empty.hidden = Boolean(state.ids.length);
    const any = (state.summary?.devices ?? 0) > 0;
    empty.textContent = any ? "No device matches." : `No reports yet. On a device: edgeloop-agent run --bundle … --telemetry ${location.origin}`;
    if (moved && wish.focus) {
      const row = [...state.rows.values()].find((each) => each.device === wish.focus);
      if (row) drawn.get(row.id)?.focus();
      wish.focus = null;
    }
  }

  function drawCards() {
    const s = state.summary;
    cards.replaceChildren(...CARDS.map(([only, title, number]) => {
      const n = number(s);
      const chosen = wish.only === only;
      return element(`button.card${n && only !== "all" ? ".hot" : ""}`, { type: "button", "aria-pressed": String(chosen), "data-only": only,
        onclick: () => turn({ only: chosen ? "all" : only }) }, element("b", {}, count(n)), element("span", {}, title));
    }));
  }

  function drawHead() {
    sorter.value = wish.order;
    head.replaceChildren(...COLUMNS.map(([order, title]) => {
      const kind = `th${NUMBERS.has(order) ? ".number" : ""}`;
      if (!order) return element(kind, { scope: "col" }, title);
      const chosen = wish.order === order;
      const first = NUMBERS.has(order) && order !== "seen";
      return element(kind, { scope: "col", "aria-sort": chosen ? (wish.descending ? "descending" : "ascending") : null },
        element("button.sort", { type: "button", onclick: () => turn({ order, descending: chosen ? !wish.descending : first }) }, title));
    }));
  }

  function drawPager() {
    const { offset, matching } = state;
    const last = Math.min(offset + PAGE_ROWS, matching);
    found.textContent = matching ? `${count(offset + 1)}–${count(last)} of ${count(matching)}` : "";
    const go = (to, title, possible) => element("button", { type: "button", disabled: !possible, onclick: () => {
      turn({ offset: to });
      scrollTo({ top: 0 });
    } }, title);
    const end = Math.floor((matching - 1) / PAGE_ROWS) * PAGE_ROWS;
    pager.replaceChildren(go(0, "First", offset > 0), go(Math.max(offset - PAGE_ROWS, 0), "Previous", offset > 0),
      go(offset + PAGE_ROWS, "Next", last < matching), go(end, "Last", last < matching));
    pager.hidden = matching <= PAGE_ROWS;
  }

  function open(tr) {
    const row = state.rows.get(Number(tr.dataset.id));
    if (!row) return;
    wish.focus = row.device;
    location.hash = deviceLink(row.device);
  }

  body.addEventListener("keydown", (event) => {
    const tr = event.target.closest("tr");
    const to = { ArrowDown: tr?.nextElementSibling, ArrowUp: tr?.previousElementSibling }[event.key];
    if (event.key === "Enter" && event.target === tr) open(tr);
    if (to) to.focus();
    if (to || event.key === "Enter") event.preventDefault();
  });
  body.addEventListener("click", (event) => {
    const tr = event.target.closest("tr");
    if (tr && !event.target.closest("a") && !String(getSelection())) open(tr);
    else if (tr) wish.focus = state.rows.get(Number(tr.dataset.id))?.device ?? null;
  });
  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => turn({ search: search.value }), 120);
  });

  drawHead();
  connect();
  return () => {
    left = true;
    clearTimeout(retry);
    clearTimeout(waiting);
    source.close();
  };
}
