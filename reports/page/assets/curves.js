"use strict";

// What the curves are coloured by, which of them are shown, and the logarithmic scale of the losses.
document.addEventListener("DOMContentLoaded", async () => {
  const CHARTS = ["curves-loss", "curves-val-loss", "curves-val-f1"];
  const toolbar = document.querySelector("[data-curves]");
  const legend = document.querySelector("[data-legend]");
  const choice = toolbar.querySelector("[data-group]");
  const pick = toolbar.querySelector("[data-pick]");
  const groups = await report.load("curves-groups");
  let pressed = new Set(); // levels whose runs are shown alone

  function edit(change) {
    for (const name of CHARTS) report.change(name, change);
  }

  function show() {
    const runs = pick?.value ? new Set([pick.value]) : pressed.size ? new Set([...pressed].flatMap((level) => level.runs)) : null;
    edit(({ data }) => {
      for (const trace of data) trace.visible = !runs || runs.has(trace.meta);
    });
  }

  function colour() {
    const levels = groups[choice.value];
    const colours = new Map(levels.flatMap((level) => level.runs.map((run) => [run, level.colour])));
    edit(({ data }) => {
      for (const trace of data) trace.line.color = colours.get(trace.meta) ?? "var(--other-run)";
    });
    pressed = new Set();
    legend.replaceChildren(...levels.map(entry));
    show();
  }

  function entry(level) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    const line = document.createElement("i");
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    line.style.setProperty("--colour", level.colour);
    button.append(line, choice.value === "run" ? level.text : `${choice.value} ${level.text}`);
    if (level.diverged) {
      const tag = document.createElement("b");
      tag.className = "tag warn";
      tag.textContent = "diverged";
      button.append(tag);
    }
    button.addEventListener("click", () => {
      if (!pressed.delete(level)) pressed.add(level);
      button.setAttribute("aria-pressed", String(pressed.has(level)));
      if (pick) pick.value = "";
      show();
    });
    item.append(button);
    return item;
  }

  choice.addEventListener("change", colour);
  pick?.addEventListener("change", show);
  toolbar.querySelector("[data-log]").addEventListener("change", (event) => {
    for (const name of CHARTS.slice(0, 2)) {
      report.change(name, ({ layout }) => {
        layout.yaxis.type = event.target.checked ? "log" : "linear";
        layout.yaxis.autorange = true;
      });
    }
  });
  colour();
  toolbar.hidden = false;
});
