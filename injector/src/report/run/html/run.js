"use strict";
// What needs a script is there only where scripts run.
for (const part of document.querySelectorAll(".script")) part.hidden = false;

const frames = document.getElementById("frames");
const flames = frames === null ? [] : Array.from(frames.children, (group) => {
  const rect = group.querySelector("rect");
  const title = group.querySelector("title").textContent;
  const text = group.querySelector("text");
  const number = (name) => Number(rect.getAttribute(name));
  return {
    group, rect, text, title, y: number("y"), from: number("fg:x"), count: number("fg:w"),
    name: title.replace(/ \([\d,]+ failures, [\d.]+%\)$/, ""),
  };
});

const search = document.getElementById("search");
if (search !== null) {
  const rows = Array.from(document.querySelectorAll(".sites tbody tr"), (row) => [row, row.textContent.toLowerCase()]);
  const found = document.getElementById("found");
  search.addEventListener("input", () => {
    const wanted = search.value.toLowerCase().split(/\s+/).filter((word) => word !== "");
    const has = (text) => wanted.every((word) => text.includes(word));
    let shown = 0;
    for (const [row, text] of rows) {
      row.hidden = !has(text);
      if (!row.hidden) shown += 1;
    }
    for (const { group, name } of flames) group.classList.toggle("found", wanted.length > 0 && has(name.toLowerCase()));
    found.textContent = wanted.length > 0 ? `${shown} of ${rows.length}` : "";
  });
}

if (flames.length > 0) {
  const below = document.getElementById("frame");
  const total = Number(frames.getAttribute("total_samples"));
  const width = Number(frames.getAttribute("width"));
  const letter = 7.25;

  // Shows what is above a frame as wide as everything; the frames below it are its callers.
  const look = (from, count, y) => {
    for (const frame of flames) {
      const inside = frame.y <= y && frame.from >= from && frame.from + frame.count <= from + count;
      const caller = frame.y > y && frame.from <= from && frame.from + frame.count >= from + count;
      frame.group.hidden = !(inside || caller);
      frame.group.style.display = frame.group.hidden ? "none" : "";
      frame.group.classList.toggle("above", caller);
      const left = caller ? 0 : (frame.from - from) / count * 100;
      const wide = caller ? 100 : frame.count / count * 100;
      frame.rect.setAttribute("x", `${left}%`);
      frame.rect.setAttribute("width", `${wide}%`);
      frame.text.setAttribute("x", `${left + 300 / width}%`);
      const letters = Math.floor((wide / 100 * width - 6) / letter);
      const fits = frame.name.length <= letters;
      frame.text.textContent = fits ? frame.name : letters < 3 ? "" : `${frame.name.slice(0, letters - 2)}..`;
    }
  };
  const all = () => look(0, total, Infinity);

  const under = (event) => flames.find(({ group }) => group.contains(event.target));
  frames.addEventListener("click", (event) => {
    const frame = under(event);
    if (frame !== undefined) look(frame.from, frame.count, frame.y);
  });
  frames.addEventListener("mouseover", (event) => {
    below.textContent = under(event)?.title ?? "\u00a0";
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") all();
  });
}
