"use strict";

// Dialogs that show a run or compare runs: what they have in common.
const panel = (() => {
  const { element } = report;

  function open(dialog, content) {
    dialog.replaceChildren(...content);
    takeAlong.offer(dialog);
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    dialog.focus();
  }

  function close(dialog) {
    if (dialog.open) dialog.close();
  }

  // Closes the panel that is open and shows a section, for other runs if `{run, other}` are given: one step for Back.
  function leave(id, runs = {}) {
    state.change("leave", { at: id, ...runs });
    const section = document.getElementById(id);
    section.scrollIntoView();
    section.focus({ preventScroll: true });
  }

  function heading(dialog, text) {
    const button = element("button", { type: "button", click: () => dialog.close() }, "Close");
    return element("header", {}, element("h2", { id: `${dialog.id}-title` }, text), button);
  }

  const part = (title, ...content) => element("section", {}, element("h3", {}, title), ...content);
  const details = (title, ...content) => element("details", {}, element("summary", {}, title), ...content);

  function table(titles, rows, { numbers = false } = {}) {
    const kind = (column) => (numbers && column ? { class: "number" } : {});
    const head = titles.map((title, column) => element("th", { scope: "col", ...kind(column) }, title));
    const body = rows.map(([first, ...cells]) => element("tr", {}, element("th", { scope: "row" }, first),
      ...cells.map((cell, column) => element("td", kind(column + 1), cell))));
    const made = element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body));
    return element("div", { class: "scroll tall", tabindex: 0, role: "region", "aria-label": `${titles[0]}, scrolls` }, made);
  }

  const facts = (pairs) => element("dl", { class: "facts-list" },
    ...pairs.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));

  const copy = (text, what) => element("button", { type: "button", class: "copy", "data-copy": text, "aria-label": `Copy ${what}` }, "copy");

  const commands = (pairs) => element("dl", { class: "commands" },
    ...pairs.map(([what, command]) => element("div", {}, element("dt", {}, what),
      element("dd", {}, element("code", {}, command), copy(command, `the command: ${what}`)))));

  // A chart of lines by epoch: [{points: [epochs, values], name, colour}].
  function lines(all, title) {
    return {
      data: all.map(({ points: [x, y], name, colour }) => ({
        type: "scatter", mode: x.length > 12 ? "lines" : "lines+markers", x, y, name: charts.escaped(name), line: { color: colour, width: 2 },
        hovertemplate: `${charts.escaped(name)}: %{y:.4g}<extra></extra>`,
      })),
      layout: {
        height: 280, hovermode: "x unified", margin: { l: 50, r: 8, t: 8, b: 44 }, xaxis: { title: { text: "epoch" }, rangemode: "tozero" },
        yaxis: { title: { text: title } }, legend: { orientation: "h", y: 1.02, yanchor: "bottom" },
      },
    };
  }

  // Esc and the Close button close a dialog; the state follows.
  for (const dialog of document.querySelectorAll("dialog.panel")) {
    dialog.addEventListener("close", () => state.now.view === dialog.dataset.view && state.change("close"));
    report.closeBeside(dialog);
  }

  return { open, close, leave, heading, part, details, table, facts, copy, commands, lines };
})();
