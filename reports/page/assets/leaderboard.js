"use strict";

// Sorting and filtering of the leaderboard. Without this script its rows are there, best first.
document.addEventListener("DOMContentLoaded", () => {
  const table = document.getElementById("leaderboard-table");
  const form = document.getElementById("leaderboard-filters");
  const rows = [...table.tBodies[table.tBodies.length - 1].rows];
  const TOP = ["best", "equal"];

  function filter() {
    const words = form.querySelector("[data-words]").value.toLowerCase().split(/\s+/).filter(Boolean);
    const state = form.querySelector("[data-state]")?.value ?? "";
    const top = form.querySelector("[data-top]")?.checked ?? false;
    const settings = [...form.querySelectorAll("[data-setting]")].filter((choice) => choice.value);
    let count = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const cells = Object.fromEntries([...row.querySelectorAll("td[data-setting]")].map((cell) => [cell.dataset.setting, cell]));
      const passes =
        words.every((word) => text.includes(word)) &&
        (!state || row.dataset.state === state) &&
        (!top || TOP.includes(row.dataset.standing)) &&
        settings.every((choice) => cells[choice.dataset.setting].textContent === choice.value);
      row.hidden = !passes;
      count += passes;
    }
    form.querySelector("[data-count]").textContent = count === rows.length ? `${count} runs` : `${count} of ${rows.length} runs`;
  }

  sortable(table);
  form.hidden = rows.length < 2;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  filter();
});
