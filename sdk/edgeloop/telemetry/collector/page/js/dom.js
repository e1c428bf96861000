// Making elements. What devices send gets into the document as text only, never as markup.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

// element("td.number", {title: "…"}, child or text, …); null and undefined children are left out.
export function element(kind, attributes = {}, ...children) {
  const [tag, ...classes] = kind.split(".");
  const made = document.createElement(tag);
  if (classes.length) made.className = classes.join(" ");
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (typeof value === "boolean") made.toggleAttribute(name, value);
    else if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export function shape(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// A drawing with words for those who do not see it.
export function drawing(width, height, label, ...shapes) {
  const box = { class: "drawing", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label };
  return shape("svg", box, ...shapes);
}

export async function fetchJson(path) {
  const answer = await fetch(path, { cache: "no-store" });
  if (answer.status === 401) location.assign("login"); // the session is over
  if (!answer.ok) throw Object.assign(new Error((await answer.text()).trim().slice(0, 200) || `status ${answer.status}`), { status: answer.status });
  return answer.json();
}

export function query(values) {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return new URLSearchParams(given).toString();
}
