"""What pages do when they are clicked; they are read without it, too."""

__all__ = ["SCRIPT"]

SCRIPT = """
"use strict";
(() => {
const by = (id) => document.getElementById(id);
const theme = by("theme"), root = document.documentElement;
const dark = () => root.dataset.theme ? root.dataset.theme === "dark"
  : matchMedia("(prefers-color-scheme: dark)").matches;
theme.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; });
const held = by("data");
if (!held || !by("gallery")) return;
const data = JSON.parse(held.textContent);
const items = [...by("gallery").children];
const slider = by("stage"), outline = by("outline"), dialog = by("viewer");
const big = { slider: by("viewer-stage"), outline: by("viewer-outline") };
const empty = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7";
const png = (text) => text ? "data:image/png;base64," + text : empty;
const layer = (box, at, edged) => {
  const image = data.images[box.dataset.at], stage = data.stages[at];
  const drawn = image.layers[stage.key] || "";
  const [, over, edge] = box.querySelectorAll("img");
  over.src = png(drawn);
  box.firstElementChild.classList.toggle("faded", stage.key !== "image" && drawn !== "");
  over.classList.toggle("sharp", stage.kind !== "scores" && box.closest("dialog") !== null);
  edge.src = png(edged && stage.key !== "image" ? image.layers.outline || "" : "");
  return stage.key === "image" || drawn !== "";
};
const label = (range, at) => {
  range.setAttribute("aria-valuetext", data.stages[at].title);
  by(range.id + "-name").value = data.stages[at].title;
};
const seen = new Set();
const draw = (item) => layer(item.querySelector(".picture"), +slider.value, outline.checked);
const watch = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) { seen.delete(entry.target); continue; }
    seen.add(entry.target); draw(entry.target);
  }
}, { rootMargin: "300px" });
items.forEach((item) => watch.observe(item));
const drawAll = () => { label(slider, +slider.value); seen.forEach(draw); };
slider.addEventListener("input", drawAll);
outline.addEventListener("change", drawAll);
drawAll();
const choices = [...document.querySelectorAll("[data-choice]")];
let order = items;
const choose = (key) => {
  choices.forEach((one) => one.setAttribute("aria-pressed", String(one.dataset.choice === key)));
  const names = data.groups[key].images;
  order = names.map((at) => items[at]);
  items.forEach((item) => { item.hidden = !order.includes(item); });
  by("gallery").replaceChildren(...order, ...items.filter((item) => item.hidden));
  by("chosen").textContent = data.groups[key].about;
};
choices.forEach((one) => one.addEventListener("click", () => choose(one.dataset.choice)));
document.querySelectorAll("[data-go]").forEach((one) => one.addEventListener("click", () => {
  choose(one.dataset.go); by("gallery-title").scrollIntoView(); by("chosen").focus();
}));
choose(choices[0].dataset.choice);
let shown = 0, from = null;
const drawBig = () => {
  const item = order[shown], box = by("viewer-picture"), source = item.querySelector(".picture");
  const image = data.images[source.dataset.at];
  box.dataset.at = source.dataset.at;
  box.querySelector("img").src = source.querySelector("img").src;
  box.querySelector("img").alt = image.name;
  const there = layer(box, +big.slider.value, big.outline.checked);
  label(big.slider, +big.slider.value);
  by("viewer-title").textContent = image.name;
  by("viewer-missing").hidden = there;
  by("viewer-facts").replaceChildren(...image.facts.flatMap(([name, value]) => {
    const term = document.createElement("dt"), text = document.createElement("dd");
    term.textContent = name; text.textContent = value;
    return [term, text];
  }));
};
const step = (by_) => { shown = (shown + by_ + order.length) % order.length; drawBig(); };
items.forEach((item) => item.querySelector("button").addEventListener("click", (event) => {
  from = event.currentTarget; shown = order.indexOf(item);
  big.slider.value = slider.value; big.outline.checked = outline.checked;
  dialog.showModal(); drawBig(); big.slider.focus();
}));
big.slider.addEventListener("input", drawBig);
big.outline.addEventListener("change", drawBig);
by("viewer-before").addEventListener("click", () => step(-1));
by("viewer-after").addEventListener("click", () => step(1));
by("viewer-close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("close", () => { if (from) from.focus(); });
dialog.addEventListener("keydown", (event) => {
  if (event.target === big.slider || event.altKey || event.ctrlKey || event.metaKey) {
    if (event.key !== "PageUp" && event.key !== "PageDown") return;
  }
  const moves = { ArrowLeft: -1, ArrowRight: 1, PageUp: -1, PageDown: 1 };
  if (moves[event.key]) { event.preventDefault(); step(moves[event.key]); }
});
})();
"""
"""JavaScript of every page; it works on the JSON of the page's element `data`."""
