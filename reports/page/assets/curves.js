"use strict";

// The mean of each value and its neighbours, together about `share` of all values; fewer at the ends. A share, because a
// point of a long line stands for more logged steps than one of a short line.
function smoothed(values, share) {
  const reach = Math.max(Math.round((share * values.length - 1) / 2), 0);
  return values.map((_, place) => {
    const near = values.slice(Math.max(place - reach, 0), place + reach + 1);
    return near.reduce((sum, value) => sum + value, 0) / near.length;
  });
}

// Controls of the training curves: the setting that colours them, which of them are shown, logarithmic losses.
document.addEventListener("DOMContentLoaded", async () => {
  const LOSSES = ["curves-loss", "curves-val-loss"];
  const CHARTS = [...LOSSES, "curves-val-f1"];
  const toolbar = document.querySelector("[data-curves]");
  const legend = document.querySelector("[data-legend]");
  const group = toolbar.querySelector("[data-group]");
  const groups = await report.load("curves-groups");
  let pressed = new Set(); // levels of the legend: only their runs are shown; empty: all runs

  function changeAll(edit) {
    for (const name of CHARTS) charts.change(name, edit);
  }

  const visibleRuns = () => (pressed.size ? new Set([...pressed].flatMap((level) => level.runs)) : null);

  function show() {
    const runs = visibleRuns();
    changeAll(({ data }) => {
      for (const trace of data) trace.visible = !runs || runs.has(trace.meta);
    });
  }

  function colour() {
    const levels = groups[group.value];
    const colours = new Map(levels.flatMap((level) => level.runs.map((run) => [run, level.colour])));
    changeAll(({ data }) => {
      for (const trace of data) trace.line.color = colours.get(trace.meta) ?? "var(--other-run)";
    });
    pressed = new Set();
    legend.replaceChildren(...levels.map(legendItem));
    show();
  }

  // Smooths the training losses; `text` says how. The values before are kept beside them. A title says it in a saved chart, too.
  function smooth(share, text) {
    charts.change("curves-loss", ({ data, layout }) => {
      for (const trace of data) {
        if (trace.fill) continue; // a band: the lowest and the highest seed as they were
        trace.before ??= { y: trace.y, hovertemplate: trace.hovertemplate };
        trace.y = smoothed(trace.before.y, share);
        trace.hovertemplate = share ? trace.before.hovertemplate.replace("<extra>", `<br>${text}<extra>`) : trace.before.hovertemplate;
      }
      layout.title = share ? { text, font: { size: 12.5 } } : undefined;
      layout.margin = { ...layout.margin, t: share ? 30 : 8 };
    });
  }

  function legendItem(level) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    const line = document.createElement("i");
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    line.style.setProperty("--colour", level.colour);
    button.append(line, ["run", "setting"].includes(group.value) ? level.text : `${group.value} ${level.text}`);
    if (level.diverged) {
      const tag = document.createElement("b");
      tag.className = "tag warn";
      tag.textContent = "diverged";
      button.append(tag);
    }
    button.addEventListener("click", () => {
      if (!pressed.delete(level)) pressed.add(level);
      button.setAttribute("aria-pressed", String(pressed.has(level)));
      show();
    });
    item.append(button);
    return item;
  }

  group.addEventListener("change", colour);
  const smoothing = toolbar.querySelector("[data-smooth]");
  smoothing.addEventListener("change", () => smooth(Number(smoothing.value), smoothing.selectedOptions[0].text));
  toolbar.querySelector("[data-log]").addEventListener("change", (event) => {
    for (const name of LOSSES) {
      charts.change(name, ({ layout }) => {
        const range = event.target.checked ? null : layout.meta?.range; // of an axis that diverged runs do not stretch
        layout.yaxis = { ...layout.yaxis, type: event.target.checked ? "log" : "linear", autorange: !range, range: range ?? undefined };
      });
    }
  });
  colour();
  toolbar.hidden = false;
});
