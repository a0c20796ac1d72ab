"use strict";

// The legend of all curves, and the logarithmic scale of the losses.
document.addEventListener("DOMContentLoaded", () => {
  const CHARTS = ["curves-loss", "curves-val-loss", "curves-val-f1"];
  const toolbar = document.querySelector("[data-curves]");
  const legend = document.querySelector("[data-legend]");
  const buttons = [...legend.querySelectorAll("[data-run]")];
  const pick = legend.querySelector("[data-pick]");
  const alone = new Set(); // keys of the runs that are shown; all, when empty

  function show() {
    for (const button of buttons) button.setAttribute("aria-pressed", String(alone.has(button.dataset.run)));
    for (const name of CHARTS) {
      report.change(name, ({ data }) => {
        for (const trace of data) trace.visible = !alone.size || alone.has(trace.meta);
      });
    }
  }

  // One line in colour, over all others.
  function highlight(key) {
    for (const name of CHARTS) {
      report.change(name, ({ data }) => {
        for (const trace of data) {
          trace.own ??= trace.line.color;
          const strong = key ? trace.meta === key : trace.own !== "var(--other-run)";
          trace.line.color = strong ? "var(--run-1)" : "var(--other-run)";
          trace.line.width = strong ? 2.5 : 1.25;
        }
        data.sort((a, b) => (a.line.width ?? 0) - (b.line.width ?? 0));
      });
    }
  }

  for (const button of buttons) {
    button.addEventListener("click", () => {
      const key = button.dataset.run;
      if (!alone.delete(key)) alone.add(key);
      show();
    });
  }
  pick?.addEventListener("change", () => highlight(pick.value));

  const all = toolbar.querySelector("[data-all]");
  all.hidden = !buttons.length;
  all.addEventListener("click", () => {
    alone.clear();
    show();
  });

  toolbar.querySelector("[data-log]").addEventListener("change", (event) => {
    for (const name of CHARTS.slice(0, 2)) {
      report.change(name, ({ layout }) => {
        layout.yaxis.type = event.target.checked ? "log" : "linear";
        layout.yaxis.autorange = true;
      });
    }
  });
  toolbar.hidden = false;
});
