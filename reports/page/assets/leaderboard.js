"use strict";

// Sorting and filtering of the leaderboard, and the seeds of a setting. Without this script all rows are there, best
// first, each setting's seeds below it.
document.addEventListener("DOMContentLoaded", () => {
  const table = document.getElementById("leaderboard-table");
  const form = document.getElementById("leaderboard-filters");
  const all = [...table.tBodies[table.tBodies.length - 1].rows];
  const rows = all.filter((row) => !row.dataset.of);
  const seeds = new Map(rows.map((row) => [row, all.filter((other) => other.dataset.of === row.id)]));
  const unit = all.length > rows.length ? "settings" : "runs";
  const TOP = ["best", "equal"];

  function filter() {
    const words = form.querySelector("[data-words]").value.toLowerCase().split(/\s+/).filter(Boolean);
    const state = form.querySelector("[data-state]")?.value ?? "";
    const top = form.querySelector("[data-top]")?.checked ?? false;
    const settings = [...form.querySelectorAll("[data-setting]")].filter((choice) => choice.value);
    let count = 0;
    for (const row of rows) {
      const text = [row, ...seeds.get(row)].map((one) => one.textContent).join(" ").toLowerCase();
      const cells = Object.fromEntries([...row.querySelectorAll("td[data-setting]")].map((cell) => [cell.dataset.setting, cell]));
      const passes =
        words.every((word) => text.includes(word)) &&
        (!state || row.dataset.state === state) &&
        (!top || TOP.includes(row.dataset.standing)) &&
        settings.every((choice) => cells[choice.dataset.setting].textContent === choice.value);
      row.hidden = !passes;
      const expanded = row.querySelector(".expand")?.getAttribute("aria-expanded") === "true";
      for (const seed of seeds.get(row)) seed.hidden = !passes || !expanded;
      count += passes;
    }
    form.querySelector("[data-count]").textContent = count === rows.length ? `${count} ${unit}` : `${count} of ${rows.length} ${unit}`;
  }

  function addExpandButton(row) {
    const cell = row.querySelector("td.seeds");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "expand";
    button.setAttribute("aria-expanded", "false");
    button.textContent = cell.textContent;
    button.title = "show or hide the seeds of this setting";
    button.addEventListener("click", () => {
      button.setAttribute("aria-expanded", String(button.getAttribute("aria-expanded") !== "true"));
      filter();
    });
    cell.replaceChildren(button);
  }

  for (const row of rows) if (seeds.get(row).length) addExpandButton(row);
  sortable(table);
  form.hidden = rows.length < 2;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  filter();
});
