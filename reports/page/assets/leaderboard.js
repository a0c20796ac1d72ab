"use strict";

// Sorting and filtering of the leaderboard. The rows are there without it, best first.
document.addEventListener("DOMContentLoaded", () => {
  const table = document.querySelector("table[data-sortable]");
  const form = document.querySelector("form[data-filters]");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];

  // Numbers by size, the rest by text; what is missing comes last either way.
  function key(cell) {
    const text = cell.dataset.order ?? cell.textContent.trim();
    const number = Number(text);
    return text === "" ? null : Number.isNaN(number) ? text.toLowerCase() : number;
  }

  function compare(a, b, sign) {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return sign * (a < b ? -1 : a > b ? 1 : 0);
  }

  function sort(index) {
    const head = heads[index];
    // Scores are looked at from the top; places, settings and text from the beginning.
    const first = head.className === "number" ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    for (const one of heads) one.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const keyed = rows.map((row, place) => [key(row.cells[index]), place, row]);
    keyed.sort(([a, i], [b, j]) => compare(a, b, sign) || i - j);
    body.append(...keyed.map(([, , row]) => row));
  }

  heads.forEach((head, index) => head.querySelector("button")?.addEventListener("click", () => sort(index)));

  function filter() {
    const words = form.querySelector("[data-words]").value.toLowerCase().split(/\s+/).filter(Boolean);
    const state = form.querySelector("[data-state]")?.value ?? "";
    const top = form.querySelector("[data-top]")?.checked ?? false;
    const settings = [...form.querySelectorAll("[data-setting]")].filter((choice) => choice.value);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const cells = Object.fromEntries([...row.querySelectorAll("td[data-setting]")].map((cell) => [cell.dataset.setting, cell]));
      const fits =
        words.every((word) => text.includes(word)) &&
        (!state || row.dataset.state === state) &&
        (!top || ["best", "equal"].includes(row.dataset.standing)) &&
        settings.every((choice) => cells[choice.dataset.setting].textContent === choice.value);
      row.hidden = !fits;
      shown += fits;
    }
    form.querySelector("[data-count]").textContent = shown === rows.length ? `${shown} runs` : `${shown} of ${rows.length} runs`;
  }

  form.hidden = rows.length < 2;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  filter();
});
