"use strict";

// Tables whose column headings are buttons that sort by the column.
//
// `sortable(table)` returns `{replace}`, which shows other rows in the order that is set. A column is first sorted by
// its heading's `data-first` (ascending or descending: numbers with the best value first, text from A to Z), then the
// other way round. Of several bodies the last one is sorted; rows of the others stay above it. A cell is sorted by `data-order`, or by its text; cells with an empty key come last either way.
// A row with `data-of` stays below the row of that id. The order is in the address under `name`: "F1:descending".
function sortable(table, name) {
  const headings = [...table.tHead.rows[0].cells];
  const all = [...table.tBodies[table.tBodies.length - 1].rows];
  const below = (row) => (row.id ? all.filter((other) => other.dataset.of === row.id) : []);
  let rows = all.filter((row) => !row.dataset.of); // in the order of the data, which decides between equal keys

  const title = (heading) => heading.textContent.trim().replace(/\s+/g, " ");
  const sorted = headings.find((heading) => heading.hasAttribute("aria-sort"));
  const initial = { heading: sorted, order: sorted?.getAttribute("aria-sort") };

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
    const inOrder = [...rows].sort((left, right) => compare(keys.get(left), keys.get(right), sign)); // stable
    table.tBodies[table.tBodies.length - 1].replaceChildren(...inOrder.flatMap((row) => [row, ...below(row)]));
  }

  function press(heading) {
    const first = heading.dataset.first;
    const opposite = first === "ascending" ? "descending" : "ascending";
    const order = heading.getAttribute("aria-sort") === first ? opposite : first;
    state.change("set", { [name]: `${title(heading)}:${order}` });
  }

  function sort(text) {
    const [, column, order] = /^(.*):(ascending|descending)$/s.exec(text) ?? [];
    const heading = headings.find((one) => one.querySelector("button") && title(one) === column) ?? initial.heading;
    for (const other of headings) other.removeAttribute("aria-sort");
    heading?.setAttribute("aria-sort", heading === initial.heading ? (order ?? initial.order) : order);
    show();
  }

  for (const heading of headings) heading.querySelector("button")?.addEventListener("click", () => press(heading));
  state.watch((now, before) => now.fields[name] !== before.fields[name] && sort(now.fields[name] ?? ""));

  return {
    replace(others) {
      rows = others;
      show();
    },
  };
}
