"use strict";

// Position embeddings and head statistics of two runs side by side.
(() => {
  const maps = document.getElementById("positions-maps");
  const mapped = maps?.dataset.runs.split(" ") ?? []; // keys of runs whose maps the page has
  const headsCharts = document.getElementById("heads-charts");
  const heads = headsCharts?.dataset.runs.split(" ") ?? []; // keys, the best first
  const SETTLED = 300; // milliseconds that a pointer rests on a patch before the address has it
  let settling = 0;
  let views = []; // of the runs that are shown

  async function showMaps(table, keys) {
    const sides = [...maps.querySelectorAll("[data-place]")];
    sides.forEach((side, place) => {
      const key = keys[place];
      side.hidden = !key;
      side.querySelector("h4").textContent = key
        ? runTable.label(table, key) + (mapped.includes(key) ? "" : ": the page has no position embeddings of this run")
        : "";
      side.querySelector("div").replaceChildren();
    });
    const contents = await Promise.all(keys.map((key) => (mapped.includes(key) ? report.load(`positions-${key}`) : null)));
    if (keys.join() !== pair(table).join()) return; // the choice changed meanwhile
    views = contents.flatMap((content, place) => {
      if (!content) return [];
      const view = positionMaps.explorer(content, runTable.label(table, keys[place]), chooseAndKeep);
      sides[place].querySelector("div").replaceChildren(view.element);
      return [{ ...view, middle: Math.floor(content.side / 2) }];
    });
    choose(ofAddress());
  }

  // The maps of many runs below one another, each as it comes near.
  function showSweep(table) {
    for (const place of document.querySelectorAll("#positions-sweep [data-key]")) {
      const { key } = place.dataset;
      near.when(place, async () => {
        place.replaceChildren(positionMaps.summary(await report.load(`positions-${key}`), runTable.label(table, key)));
      });
    }
  }

  // The same patch in all maps; null: the middle one.
  function choose(at) {
    for (const { show, middle } of views) show(at?.row ?? middle, at?.column ?? middle);
  }

  function chooseAndKeep(at) {
    choose(at);
    clearTimeout(settling);
    settling = setTimeout(() => state.change("set", { "positions-patch": `${at.row},${at.column}` }, { replace: true }), SETTLED);
  }

  // The patch of the address: "row,column", counted from 0; null without one.
  function ofAddress() {
    const [, row, column] = /^(\d{1,3}),(\d{1,3})$/.exec(state.now.fields["positions-patch"] ?? "") ?? [];
    return row ? { row: Number(row), column: Number(column) } : null;
  }

  async function showHeads(table, keys) {
    const shown = keys.filter((key) => heads.includes(key));
    const statistics = await Promise.all(shown.map((key) => report.load(`heads-${key}`)));
    if (keys.join() !== pair(table).join()) return; // the choice changed meanwhile
    const missing = document.getElementById("heads-missing");
    const labels = keys.filter((key) => !heads.includes(key)).map((key) => runTable.label(table, key));
    missing.textContent = `The page has no head statistics of ${labels.join(" and ")}.`;
    missing.hidden = !labels.length;
    headsCharts.hidden = !shown.length;
    for (const element of headsCharts.querySelectorAll("[data-chart]")) {
      const name = element.dataset.chart.slice("heads-".length);
      const [draw, statistic] = name === "depth" ? [headCharts.distanceByLayer, "distance"] : [headCharts.heatMaps, name];
      const runs = shown.map((key, place) => ({
        label: charts.escaped(runTable.label(table, key)), isOther: key !== keys[0], rows: statistics[place][statistic],
      }));
      charts.change(element.dataset.chart, (figure) => draw(figure, runs.filter(({ rows }) => rows)));
    }
  }

  // The run that is shown, and the one beside it: the worst that finished, unless another is chosen.
  function pair(table) {
    const run = runTable.shownRun(table);
    const other = state.now.other || table.worst;
    return other && other !== run ? [run, other] : [run];
  }

  // Calls `show` with the pair now and whenever it changes.
  function follow(table, show) {
    let shown = "";
    state.watch(() => {
      if (shown === pair(table).join()) return;
      shown = pair(table).join();
      show(table, pair(table));
    });
  }

  addEventListener("load", async () => {
    const table = await runTable.ready;
    showSweep(table);
    // Maps are the largest data: they are read when the section comes near.
    if (maps) {
      near.when(maps, () => {
        follow(table, showMaps);
        state.watch((now, before) => now.fields["positions-patch"] !== before.fields["positions-patch"] && choose(ofAddress()));
      });
    }
    if (heads.length) follow(table, showHeads);
  });
})();
