"use strict";

// The panel that compares two to five settings, each by its best seed: only what differs.
(() => {
  const dialog = document.getElementById("compare-view");
  const { element } = report;
  const COLOURS = ["var(--run-1)", "var(--run-5)", "var(--run-3)", "var(--run-4)", "var(--run-2)"];
  const CURVES = [["val/f1", "validation macro F1"], ["val/loss", "validation loss"], ["train/loss", "training loss"]];
  const MOST = { rows: 30, images: 8 };

  async function show(compared) {
    // Not if the panel was closed or others were chosen while data was read.
    const isChosen = () => state.now.view === "compare" && state.now.compared.join() === compared.join();
    panel.open(dialog, [element("p", { role: "status" }, "Loading…")]);
    try {
      const table = await runTable.ready;
      const keys = compared.map((key) => runTable.runOf(table, key));
      const runs = await Promise.all(keys.map((key) => report.load(`run-${key}`)));
      const mistakes = await Promise.all(keys.map((key, place) => (runs[place].hasPredictions ? report.load(`mistakes-${key}`) : null)));
      const images = await Promise.all(keys.map((key) => (gallery?.has(key) ? tiles.load(key).catch(() => null) : null)));
      if (!isChosen()) return;
      const labels = compared.map((key, place) => (runTable.label(table, key) || runs[place].label));
      panel.open(dialog, parts({ keys, runs, mistakes, images, labels }));
      drawCurves(runs, labels);
    } catch (error) {
      if (isChosen()) panel.open(dialog, [panel.heading(dialog, "Comparison"), element("p", {}, `It cannot be shown: ${error.message}.`)]);
    }
  }

  function parts(all) {
    const { runs, labels, keys } = all;
    const names = labels.map((label, place) => element("li", {}, mark(place), label, runs[place].place ? "" : ` (${runs[place].state})`));
    const settings = differences.settings(runs);
    return [
      panel.heading(dialog, `${runs.length} compared`),
      element("ol", { class: "compared" }, ...names),
      sideBySide(keys),
      panel.part("Settings that differ", settings.length ? panel.table(["setting", ...heads(labels)], settings) : element("p", {}, "None but the seed.")),
      panel.part("Scores that differ", panel.table(["score", ...heads(labels)], differences.scores(runs), { numbers: true })),
      panel.part("Curves", element("div", { class: "panels" }, ...CURVES.filter(([name]) => runs.some((run) => run.curves[name])).map(([name, title]) =>
        element("figure", { class: "chart" }, element("figcaption", {}, title), element("div", { "data-curve": name, role: "group", "aria-label": `${title} by epoch` }))))),
      ...ofClasses(all),
      ...all.images.slice(1).map((other, place) => panel.part(
        `Images: ${labels[0]} against ${labels[place + 1]}`, ...ofImages(all.images[0], other, [labels[0], labels[place + 1]]))),
    ];
  }

  const mark = (place) => {
    const line = element("i", { "aria-hidden": "true" });
    line.style.setProperty("--colour", COLOURS[place]);
    return line;
  };

  // Column headings: the numbers of the list above, because labels are long.
  const heads = (labels) => labels.map((label, place) => element("span", { title: label }, mark(place), String(place + 1)));

  function sideBySide([run, other]) {
    if (!document.getElementById("positions")) return "";
    const click = () => panel.leave("positions", { run, other });
    return element("p", { class: "toolbar" }, element("button", { type: "button", click }, "Positions and heads of the first two side by side"));
  }

  function ofClasses({ mistakes, labels }) {
    if (mistakes.some((one) => !one)) return [panel.part("Classes", element("p", {}, "Not all of these runs have predictions."))];
    if (!differences.haveSameClasses(mistakes)) return [panel.part("Classes", element("p", {}, "These runs have different classes."))];
    const digits = (value) => report.score(value, 3);
    const classes = differences.classes(mistakes).filter((row) => row.at(-1) > 0).map(([name, ...numbers]) => [name, ...numbers.map(digits)]);
    const confusions = differences.confusions(mistakes).map(([truth, predicted, ...counts]) => [`${truth} predicted as ${predicted}`, ...counts.map(String)]);
    const rest = (rows) => (rows.length > MOST.rows ? element("p", { class: "soft" }, `and ${rows.length - MOST.rows} more`) : "");
    const columns = heads(labels);
    return [
      panel.part("F1 of each class", classes.length
        ? panel.table(["class", ...columns, "difference"], classes, { numbers: true })
        : element("p", {}, "No difference.")),
      panel.part("Confusions, number of images", confusions.length
        ? panel.table(["confusion", ...heads(labels)], confusions.slice(0, MOST.rows), { numbers: true })
        : element("p", {}, "No difference."), rest(confusions)),
    ];
  }

  function ofImages(run, other, names) {
    if (!run || !other) return [element("p", {}, "The page has no maps of both runs.")];
    const { won, lost } = differences.wonAndLost(run, other);
    return [
      ...cards(run, other, names, won, `${won.length} won: only the first is right`),
      ...cards(run, other, names, lost, `${lost.length} lost: only the first is wrong`),
    ];
  }

  // Each with the first map of both runs; pressing one opens it with all maps.
  function cards(run, other, names, order, title) {
    const label = (key) => names[key === run.key ? 0 : 1];
    const settings = { map: run.maps[0], scale: "own" };
    const view = { run, other, ...settings, layout: "over", label };
    const made = order.slice(0, MOST.images).map((index, position) => {
      const card = galleryCards.card(view, index, true);
      card.addEventListener("click", () => imageView.open({ run, other, order, position, settings, label }));
      return card;
    });
    const more = order.length > made.length ? element("p", { class: "soft" }, `The arrows of an opened image lead to the other ${order.length - made.length}.`) : "";
    return [element("h4", {}, title), element("div", { class: "images" }, ...made), more];
  }

  function drawCurves(runs, labels) {
    for (const place of dialog.querySelectorAll("[data-curve]")) {
      const name = place.dataset.curve;
      const lines = runs.flatMap((run, number) =>
        (run.curves[name] ? [{ points: run.curves[name], name: `${number + 1} ${labels[number]}`, colour: COLOURS[number] }] : []));
      const figure = panel.lines(lines, "");
      figure.layout.showlegend = false;
      charts.put(place, `compare-${name}`, figure);
    }
  }

  // Once it is known which runs there are.
  runTable.ready.then(() => state.watch(({ view, compared }, before) => {
    if (view !== "compare") panel.close(dialog);
    else if (before.view !== "compare" || before.compared.join() !== compared.join()) show(compared);
  }));
})();
