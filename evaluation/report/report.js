"use strict";
// Sorting and filtering of the table, and the pictures of single images. Without it the page says the same, unsorted.

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (!head.hasAttribute("data-sort")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") === "ascending";
      const first = head.dataset.sort === "down" && !head.hasAttribute("aria-sort");
      const down = first || up;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      for (const body of table.tBodies) {
        const rows = [...body.rows].filter((row) => !row.classList.contains("group"));
        rows.sort((a, b) => compare(a.cells[column], b.cells[column], down));
        body.append(...rows);
      }
    });
  });
}

function compare(a, b, down) {
  const [x, y] = [a, b].map((cell) => cell.dataset.value ?? cell.textContent);
  if (x === "" || y === "") return (x === "") - (y === ""); // what is missing comes last
  const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
  return down ? -order : order;
}

for (const input of document.querySelectorAll("input.filter")) {
  input.hidden = false;
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of document.querySelectorAll("table.sortable tbody tr:not(.group)")) {
      const text = row.dataset.words.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    for (const body of document.querySelectorAll("table.sortable tbody")) {
      body.hidden = [...body.rows].every((row) => row.hidden || row.classList.contains("group"));
    }
  });
}

const data = document.getElementById("cases");
const cases = data === null ? [] : JSON.parse(data.textContent);
document.querySelectorAll(".case").forEach((box, number) => {
  const slider = box.querySelector("input[type=range]");
  const over = box.querySelector(".over");
  slider.addEventListener("input", () => {
    over.style.clipPath = `inset(0 0 0 ${slider.value}%)`;
  });
  const choice = box.querySelector("select");
  choice.addEventListener("change", () => {
    const made = cases[number][choice.selectedIndex];
    over.src = made.picture;
    box.querySelector(".error").src = made.error;
    box.querySelector("output").textContent = made.value;
  });
});
