"use strict";

// Tables as CSV and charts as SVG: a button beside each.
const takeAlong = (() => {
  const LEFT_OUT = ".copy, [data-tag], details, input, .visually-hidden";

  // What a cell says, without its buttons.
  function cellText(cell) {
    const copy = cell.cloneNode(true);
    if (cell.localName !== "th") for (const part of copy.querySelectorAll(LEFT_OUT)) part.remove();
    return copy.textContent.replace(/\s+/g, " ").trim();
  }

  // A spreadsheet would run a text that begins so as a formula.
  const harmless = (text) => (/^[=+\-@]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text);
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

  // Rows of texts as CSV.
  const csv = (rows) => rows.map((row) => row.map((text) => quoted(harmless(text))).join(",")).join("\r\n") + "\r\n";

  // The rows of a table that are shown, as they are sorted.
  function rowsOf(table) {
    const rows = [...table.rows].filter((row) => !row.hidden);
    return rows.map((row) => [...row.cells].filter((cell) => !cell.classList.contains("tick")).map(cellText));
  }

  function save(name, content, type) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([content], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  const button = (text, label, click) =>
    report.element("button", { type: "button", class: "take", "aria-label": label, title: label, click }, text);

  const title = document.querySelector("h1").textContent.replaceAll(/[^\w.-]+/g, "-").replaceAll(/^-+|-+$/g, "");

  const svgButton = (name) => button("SVG", "Save this chart as SVG", () => charts.saveAs(name, `${title}-${name}`));

  // Buttons for the tables and charts inside an element.
  function offer(root) {
    for (const table of root.querySelectorAll(".scroll > table:not([data-taken])")) {
      table.dataset.taken = "";
      const place = table.closest("section")?.id || table.closest("dialog")?.id || "table";
      const action = () => save(`${title}-${place}.csv`, csv(rowsOf(table)), "text/csv");
      table.parentElement.after(button("CSV", "Save this table as CSV", action));
    }
    for (const plot of root.querySelectorAll(".chart > .plot[data-chart]")) {
      plot.before(svgButton(plot.dataset.chart));
    }
  }

  document.addEventListener("DOMContentLoaded", () => offer(document.querySelector("main")));

  return { csv, rowsOf, offer, svgButton };
})();
