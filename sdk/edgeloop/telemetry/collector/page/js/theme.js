// Light or dark, before anything is painted: the system's wish, or what was chosen here before.
"use strict";
{
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null;
    }
  };
  const apply = () => {
    root.dataset.theme = stored() ?? (system.matches ? "dark" : "light");
    dispatchEvent(new Event("theme"));
  };
  system.addEventListener("change", apply);
  apply();
  addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme").addEventListener("click", () => {
      try {
        localStorage.setItem("theme", root.dataset.theme === "dark" ? "light" : "dark");
      } catch {
        // Where nothing can be kept, the choice lasts as long as the page.
      }
      root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
      dispatchEvent(new Event("theme"));
    });
  });
}
