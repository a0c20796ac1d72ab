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
  const { element } = report;
  const LOSSES = ["curves-loss", "curves-val-loss"];
  const CHARTS = [...LOSSES, "curves-val-f1"];
  const toolbar = document.querySelector("[data-curves]");
  const legend = document.querySelector("[data-legend]");
  const group = toolbar.querySelector("[data-group]");
  const groups = await report.load("curves-groups");
  let pressed = []; // levels of the legend: only their runs are shown; none: all runs

  function changeAll(edit) {
    for (const name of CHARTS) charts.change(name, edit);
  }

  const visibleRuns = () => (pressed.length ? new Set(pressed.flatMap((level) => level.runs)) : null);

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
    legend.replaceChildren(...levels.map(legendItem));
    press();
  }

  function press() {
    const levels = groups[group.value];
    const texts = (state.now.fields["curves-only"] ?? "").split("\n");
    pressed = levels.filter((level) => texts.includes(level.text));
    [...legend.querySelectorAll("button")].forEach((button, place) => button.setAttribute("aria-pressed", String(pressed.includes(levels[place]))));
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
    const click = () => {
      const others = pressed.filter((other) => other !== level);
      const next = others.length === pressed.length ? [...others, level] : others;
      state.change("set", { "curves-only": next.map(({ text }) => text).join("\n") });
    };
    const line = element("i");
    line.style.setProperty("--colour", level.colour);
    const name = ["run", "setting"].includes(group.value) ? level.text : `${group.value} ${level.text}`;
    const tag = level.diverged ? element("b", { class: "tag warn" }, "diverged") : null;
    return element("li", {}, element("button", { type: "button", click }, line, name, tag));
  }

  function scaleLosses(isLogarithmic) {
    for (const name of LOSSES) {
      charts.change(name, ({ layout }) => {
        const range = isLogarithmic ? null : layout.meta?.range; // of an axis that diverged runs do not stretch
        layout.yaxis = { ...layout.yaxis, type: isLogarithmic ? "log" : "linear", autorange: !range, range: range ?? undefined };
      });
    }
  }

  // Levels of one grouping are not levels of another.
  group.addEventListener("change", () => state.change("set", { "curves-colour": fields.read(group), "curves-only": "" }));
  const smoothing = toolbar.querySelector("[data-smooth]");
  const logarithmic = toolbar.querySelector("[data-log]");
  fields.follow({ "curves-smooth": smoothing }, () => smooth(Number(smoothing.value), smoothing.selectedOptions[0].text));
  fields.follow({ "curves-log": logarithmic }, () => scaleLosses(logarithmic.checked));
  state.watch((now, before) => {
    const differs = (name) => now.fields[name] !== before.fields[name];
    if (before === state.EMPTY || differs("curves-colour")) {
      fields.write(group, now.fields["curves-colour"]);
      colour();
    } else if (differs("curves-only")) press();
  });
  toolbar.hidden = false;
});
