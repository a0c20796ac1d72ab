"use strict";

// The leaderboard: sorting, the filter, the ticks of selected rows, and the seeds of a setting. Without this script all
// rows are there, best first, each setting's seeds below it.
document.addEventListener("DOMContentLoaded", async () => {
  const table = document.getElementById("leaderboard-table");
  const form = document.getElementById("leaderboard-filters");
  const text = form.querySelector("[data-words]");
  const none = document.getElementById("leaderboard-none");
  const all = [...table.tBodies[table.tBodies.length - 1].rows];
  const rows = all.filter((row) => !row.dataset.of);
  const seeds = new Map(rows.map((row) => [row, all.filter((other) => other.dataset.of === row.id)]));
  const ticks = [...table.querySelectorAll("input[data-tick]")];
  const everything = table.querySelector("input[data-tick-all]");
  const choices = [...form.querySelectorAll("[data-field]")];
  const opOf = (choice) => choice.dataset.op ?? "="; // ":" for states, of which a setting has one for each seed

  for (const row of rows) if (seeds.get(row).length) addExpandButton(row);
  sortable(table, "board-sort");
  const runs = await runTable.ready;

  const isOpen = (row) => (state.now.fields["board-open"] ?? "").split(",").includes(row.id);

  function show({ selected, words: said }) {
    if (document.activeElement !== text) text.value = said;
    const passing = runTable.passing(runs, said);
    for (const row of rows) {
      row.hidden = !passing.has(row.id);
      row.querySelector(".expand")?.setAttribute("aria-expanded", String(isOpen(row)));
      for (const seed of seeds.get(row)) seed.hidden = row.hidden || !isOpen(row);
    }
    const count = passing.size === rows.length ? `${rows.length} ${runs.unit}` : `${passing.size} of ${rows.length} ${runs.unit}`;
    form.querySelector("[data-count]").textContent = count;
    form.querySelector("[data-clear]").hidden = !said;
    showNone(said, passing.size === 0 && rows.length > 0);
    for (const choice of choices) {
      const value = words.valueOf(said, choice.dataset.field, opOf(choice));
      if (choice.type === "checkbox") choice.checked = value === choice.value;
      else choice.value = [...choice.options].some((option) => option.value === value) ? value : "";
    }
    for (const tick of ticks) {
      tick.checked = selected.includes(tick.dataset.tick);
      tick.closest("tr").classList.toggle("ticked", tick.checked);
    }
    const ticked = [...passing].filter((key) => selected.includes(key)).length;
    everything.checked = passing.size > 0 && ticked === passing.size;
    everything.indeterminate = ticked > 0 && ticked < passing.size;
  }

  function showNone(said, isEmpty) {
    none.hidden = !isEmpty;
    const unknown = words.unknown(words.parsed(said), runs.settings);
    const fields = [...new Set(runs.settings.flatMap((row) => Object.keys(row.fields)))].join(", ");
    const why = unknown.length ? ` There is no field ${unknown.join(" or ")}; fields are ${fields}.` : "";
    none.querySelector("span").textContent = `None of the ${rows.length} ${runs.unit} passes the filter ${said}.${why}`;
  }

  function addExpandButton(row) {
    const cell = row.querySelector("td.seeds");
    const title = "show or hide the seeds of this setting";
    const click = () => {
      const open = rows.filter((other) => isOpen(other) !== (other === row));
      state.change("set", { "board-open": open.map((other) => other.id).join(",") });
    };
    cell.replaceChildren(report.element("button", { type: "button", class: "expand", "aria-expanded": "false", title, click }, cell.textContent));
  }

  text.addEventListener("input", () => state.change("filter", text.value, { replace: true }));
  for (const choice of choices) {
    choice.addEventListener("change", () => {
      const value = choice.type === "checkbox" && !choice.checked ? "" : choice.value;
      state.change("filter", words.replaced(state.now.words, choice.dataset.field, value, opOf(choice)));
    });
  }
  for (const button of document.querySelectorAll("[data-clear]")) {
    button.addEventListener("click", () => {
      text.value = "";
      state.change("filter", "");
      text.focus();
    });
  }
  table.addEventListener("click", ({ target }) => {
    const { tag } = target.dataset;
    if (tag) state.change("filter", words.replaced(state.now.words, "tag", tag));
  });
  for (const tick of ticks) tick.addEventListener("change", () => state.change("toggle", tick.dataset.tick));
  everything.addEventListener("change", () => {
    const passing = [...runTable.passing(runs, state.now.words)];
    const others = state.now.selected.filter((key) => !passing.includes(key));
    state.change("select", everything.checked ? [...state.now.selected, ...passing] : others);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = rows.length < 2;
  state.watch(show);
});
