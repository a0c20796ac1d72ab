"use strict";

// The panel of one run: all that the page knows of it.
const runView = (() => {
  const dialog = document.getElementById("run-view");
  const { element } = report;
  const LOSSES = [["train/loss", "training loss", "var(--run-1)"], ["val/loss", "validation loss", "var(--run-5)"]];
  const SCORES = [["val/f1", "validation macro F1", "var(--run-3)"]];

  async function show(key) {
    // Not if the panel was closed or another run was opened while data was read.
    const isChosen = () => state.now.view === "run" && state.now.run === key;
    const content = [element("p", { role: "status" }, "Loading…")];
    panel.open(dialog, content);
    try {
      const run = await report.load(`run-${key}`);
      const mistakes = run.hasPredictions ? await report.load(`mistakes-${key}`).catch(() => null) : null;
      const [positions, heads] = await Promise.all(["positions", "heads"].map((name) => (run.live.includes(name) ? report.load(`${name}-${key}`) : null)));
      if (!isChosen()) return;
      panel.open(dialog, parts(key, run, mistakes, { positions, heads }));
      drawCharts(key, run, mistakes, heads);
    } catch (error) {
      if (isChosen()) panel.open(dialog, [panel.heading(dialog, "A run"), element("p", {}, `It cannot be shown: ${error.message}.`)]);
    }
  }

  function parts(key, run, mistakes, { positions, heads }) {
    const place = run.place ? `place ${run.place}, ${run.state}` : `${run.state}, not ranked. ${run.reason}`;
    return [
      panel.heading(dialog, run.label),
      element("p", {}, element("code", {}, run.name), ` ${place}`),
      run.tags.length > 0 && element("p", {}, `Tags: ${run.tags.join(", ")}`),
      actions(key, mistakes),
      run.notes && panel.part("Notes", element("pre", { class: "notes" }, run.notes)),
      panel.part(
        "Differences from the best run",
        run.differs.length
          ? panel.table(["setting", "here", "best run"], run.differs)
          : element("p", {}, "None: these are the settings of the best run."),
        panel.details("Other settings", panel.facts(run.config)),
      ),
      panel.part("Scores", panel.facts(run.scores)),
      Object.keys(run.curves).length > 0 && panel.part("Curves", element("div", { class: "panels" },
        chartPlace("run-losses", "Losses", "Losses by epoch"),
        chartPlace("run-scores", "Validation macro F1", "Validation F1 by epoch"))),
      mistakes && panel.part(
        "Confusion matrix and classes",
        element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Confusion matrix" },
          chartPlace("run-confusion", "", "Confusion matrix; the table below has each class")),
        element("p", { class: "soft" }, confusionMatrix.note(mistakes)),
        classTable(mistakes),
      ),
      run.evidence.length > 0 && panel.part("What attention shows, tested", panel.table(["claim", "verdict", "number, 95 % interval"], run.evidence)),
      positions && panel.part("Position embeddings", ofPositions(positions, run.label)),
      heads && panel.part("Attention heads", element("div", { class: "panels" }, ...headParts(heads))),
      run.figures.length > 0 && panel.part("Figures", figures(run)),
      run.pages && panel.part(
        "Attention pages",
        element("p", {}, `${run.pages.images} image pages and ${run.pages.sheets} sheets are in the run folder: `, element("code", {}, run.pages.path), panel.copy(run.pages.path, "the path of the attention pages")),
      ),
      panel.part("Commands", panel.commands(run.commands)),
      panel.part("Provenance", panel.facts([["folder", run.path], ...run.provenance])),
    ].filter(Boolean);
  }

  const chartPlace = (id, title, name) => element("figure", { class: "chart" }, title ? element("figcaption", {}, title) : null,
    element("div", { id, role: "group", "aria-label": name }));

  function actions(key, mistakes) {
    const button = (text, click) => element("button", { type: "button", click }, text);
    return element("p", { class: "toolbar" },
      mistakes ? button("Its mistakes", () => panel.leave("mistakes")) : null,
      gallery?.has(key) ? button("Its images and maps", () => panel.leave("gallery")) : null,
      button("Compare with the best", async () => {
        const { settings, byKey } = await runTable.ready;
        const keys = [settings[0].key, byKey.get(key).key];
        state.change("compare", keys[0] === keys[1] ? settings.slice(0, 2).map((row) => row.key) : keys);
      }),
    );
  }

  function classTable(mistakes) {
    const titles = ["class", "F1", "precision", "recall", "95 % interval of recall", "images", "most often predicted as"];
    const made = panel.table(titles, []);
    made.querySelector("tbody").append(...classScores.rows(mistakes).sort((left, right) =>
      Number(left.cells[classScores.F1 + 1].dataset.order) - Number(right.cells[classScores.F1 + 1].dataset.order)));
    return made;
  }

  function ofPositions(content, label) {
    const maps = positionMaps.explorer(content, label, ({ row, column }) => maps.show(row, column));
    maps.show(Math.floor(content.side / 2), Math.floor(content.side / 2));
    return maps.element;
  }

  // One chart for each statistic of the section; its title there is its title here.
  const headParts = (heads) => Object.keys(heads).map((name) =>
    chartPlace(`run-heads-${name}`, document.querySelector(`[data-chart="heads-${name}"]`).closest("figure").querySelector("figcaption").textContent, `Attention heads: ${name}`));

  function figures(run) {
    return element("div", { class: "two" }, ...run.figures.map(([caption, address]) =>
      element("figure", { class: "figure-image" }, element("figcaption", {}, caption),
        element("a", { href: address }, element("img", { src: address, loading: "lazy", alt: `${caption}: ${run.label}` })))));
  }

  function drawCharts(key, run, mistakes, heads) {
    const put = (id, metrics, title) => {
      const place = document.getElementById(id);
      const lines = metrics.filter(([name]) => run.curves[name]);
      if (place && lines.length) charts.put(place, id, panel.lines(lines.map(([name, text, colour]) => ({ points: run.curves[name], name: text, colour })), title));
    };
    put("run-losses", LOSSES, "loss");
    put("run-scores", SCORES, "validation macro F1");
    for (const [name, rows] of Object.entries(heads ?? {})) {
      const figure = {};
      headCharts.heatMaps(figure, [{ label: run.label, rows }]);
      charts.put(document.getElementById(`run-heads-${name}`), `run-heads-${name}`, figure);
    }
    const confusion = document.getElementById("run-confusion");
    if (confusion) {
      const figure = confusionMatrix.figure(mistakes, "", false);
      confusion.parentElement.style.maxWidth = `${confusionMatrix.width(figure)}px`;
      charts.put(confusion, "run-confusion", figure);
      charts.onClick("run-confusion", (point) => {
        if (!gallery?.has(key)) return report.notify("The page has no images of this run.");
        panel.leave("gallery");
        return gallery.showClasses(key, ...confusionCell(mistakes, point));
      });
    }
  }

  // Once it is known which runs there are.
  runTable.ready.then(() => state.watch(({ view, run }, before) => {
    if (view !== "run") panel.close(dialog);
    else if (before.view !== "run" || before.run !== run) show(run);
  }));
})();
