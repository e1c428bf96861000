// What fires now, and what did.

import { element, fetchJson } from "./dom.js";
import { reloading } from "./panels.js";
import { badge } from "./row.js";
import { age, clock, deviceLink } from "./words.js";

function line(alert, now) {
  const fires = alert.resolved_s === null;
  return element("tr", {},
    element("td", {}, badge(fires ? "firing" : "resolved", fires ? "bad" : "good")),
    element("th.name", { scope: "row" }, element("a", { href: deviceLink(alert.device), dir: "auto" }, alert.device),
      alert.bundle ? element("span.small", {}, alert.bundle) : null),
    element("td", {}, alert.rule, alert.severity === "critical" ? element("span.small", {}, "critical") : null), element("td.wide", {}, alert.text),
    element("td.number", {}, clock(alert.fired_s)), element("td.number", {}, age((fires ? now : alert.resolved_s) - alert.fired_s)));
}

export function showAlerts(main, shell) {
  return reloading(main, shell, { load: () => fetchJson("v1/alerts"), draw: ({ now_s: now, alerts, rules }) => {
    const titles = ["", "Device", "Rule", "What", "Since", "For"];
    return [
      element("div.head", {}, element("h2", {}, "Alerts"), element("span.muted", {},
        rules.length ? `rules: ${rules.join(", ")}` : "no rules: edgeloop collect --alerts alerts.toml")),
      alerts.length ? element("table.stacked", {}, element("thead", {}, element("tr", {}, titles.map((title, i) =>
        element(i > 3 ? "th.number" : "th", { scope: "col" }, title)))), element("tbody", {}, alerts.map((alert) => line(alert, now))))
        : element("p.empty", {}, "Nothing fires, and nothing did."),
    ];
  } });
}
