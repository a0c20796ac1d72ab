"use strict";

// On a wide window, columns of the leaderboard that the panel of a run has as well are left out from the right until the
// table fits; a button shows them.
document.addEventListener("DOMContentLoaded", () => {
  const NARROW = 992; // pixels: in a narrower window the table scrolls
  const table = document.getElementById("leaderboard-table");
  const button = document.getElementById("leaderboard-columns");
  const headings = [...table.tHead.rows[0].cells];
  const optional = headings.filter((heading) => "optional" in heading.dataset).map((heading) => heading.cellIndex);
  const spanning = [...table.querySelectorAll(".probes td[colspan]")].map((cell) => [cell, cell.colSpan]);
  const showsAll = () => state.now.fields["board-columns"] === "all";

  function hide(columns) {
    for (const row of table.rows) {
      if (row.closest(".probes")) continue;
      for (const column of optional) {
        const cell = row.cells[column];
        if (cell.hidden !== columns.includes(column)) cell.hidden = !cell.hidden;
      }
    }
    for (const [cell, columnsOfAll] of spanning) cell.colSpan = Math.max(1, columnsOfAll - columns.length);
  }

  function fit() {
    const hidden = [];
    hide(hidden);
    const region = table.parentElement;
    // Widths are read once: each layout of many rows takes long.
    let excess = showsAll() || innerWidth < NARROW ? 0 : region.scrollWidth - region.clientWidth;
    for (const column of [...optional].reverse()) {
      if (excess <= 0) break;
      excess -= headings[column].offsetWidth;
      hidden.push(column);
    }
    hide(hidden);
    button.hidden = !hidden.length && !showsAll();
    button.textContent = showsAll() ? "Fewer columns" : `${hidden.length} more column${hidden.length === 1 ? "" : "s"}`;
  }

  button.addEventListener("click", () => state.change("set", { "board-columns": showsAll() ? "" : "all" }));
  addEventListener("resize", fit);
  fit();
  state.watch((now, before) => now.fields["board-columns"] !== before.fields["board-columns"] && fit());
});
