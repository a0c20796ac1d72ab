"use strict";

// Tables whose column headings are buttons that sort by the column.
//
// `sortable(table)` returns `{replace}`, which shows other rows in the order that is set. A column is first sorted by
// its heading's `data-first` (ascending or descending: numbers with the best value first, text from A to Z), then the
// other way round. Of several bodies the last one is sorted; rows of the others stay above it. A cell is sorted by `data-order`, or by its text; cells with an empty key come last either way.
// A row with `data-of` stays below the row of that id.
function sortable(table) {
  const headings = [...table.tHead.rows[0].cells];
  const all = [...table.tBodies[table.tBodies.length - 1].rows];
  const below = (row) => (row.id ? all.filter((other) => other.dataset.of === row.id) : []);
  let rows = all.filter((row) => !row.dataset.of); // in the order of the data, which decides between equal keys

  function key(cell) {
    const text = cell.dataset.order ?? cell.textContent.trim();
    const number = Number(text);
    return text === "" ? null : Number.isNaN(number) ? text.toLowerCase() : number;
  }

  function compare(left, right, sign) {
    if (left === null || right === null) return (left === null) - (right === null);
    if (typeof left !== typeof right) return typeof left === "number" ? -1 : 1;
    if (typeof left === "string") return sign * left.localeCompare(right);
    return sign * (left - right);
  }

  function show() {
    const column = headings.findIndex((heading) => heading.hasAttribute("aria-sort"));
    const sign = headings[column]?.getAttribute("aria-sort") === "descending" ? -1 : 1;
    const keys = new Map(rows.map((row) => [row, column < 0 ? null : key(row.cells[column])]));
    const sorted = [...rows].sort((left, right) => compare(keys.get(left), keys.get(right), sign)); // stable
    table.tBodies[table.tBodies.length - 1].replaceChildren(...sorted.flatMap((row) => [row, ...below(row)]));
  }

  function press(heading) {
    const first = heading.dataset.first;
    const opposite = first === "ascending" ? "descending" : "ascending";
    const order = heading.getAttribute("aria-sort") === first ? opposite : first;
    for (const other of headings) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", order);
    show();
  }

  for (const heading of headings) heading.querySelector("button")?.addEventListener("click", () => press(heading));

  return {
    replace(others) {
      rows = others;
      show();
    },
  };
}
