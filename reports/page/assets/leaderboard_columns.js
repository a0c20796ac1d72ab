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
  let showsAll = false;

  function hide(columns) {
    for (const row of table.rows) {
      if (row.closest(".probes")) continue;
      for (const column of optional) row.cells[column].hidden = columns.includes(column);
    }
    for (const [cell, columnsOfAll] of spanning) cell.colSpan = Math.max(1, columnsOfAll - columns.length);
  }

  function fit() {
    const hidden = [];
    hide(hidden);
    const region = table.parentElement;
    while (!showsAll && innerWidth >= NARROW && region.scrollWidth > region.clientWidth && hidden.length < optional.length) {
      hidden.push(optional.at(-1 - hidden.length));
      hide(hidden);
    }
    button.hidden = !hidden.length && !showsAll;
    button.textContent = showsAll ? "Fewer columns" : `${hidden.length} more column${hidden.length === 1 ? "" : "s"}`;
  }

  button.addEventListener("click", () => {
    showsAll = !showsAll;
    fit();
  });
  addEventListener("resize", fit);
  fit();
});
