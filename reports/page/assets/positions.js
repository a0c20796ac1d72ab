"use strict";

// Position embeddings and head statistics of two runs side by side.
(() => {
  const figures = document.getElementById("positions-figures");
  const headsCharts = document.getElementById("heads-charts");
  const heads = headsCharts?.dataset.runs.split(" ") ?? []; // keys, the best first

  // Figures are files of the page: choosing a run changes the addresses of images.
  function showFigures(table, [run, other]) {
    for (const side of figures.querySelectorAll("[data-place]")) {
      const key = side.dataset.place === "0" ? run : other;
      side.hidden = !key;
      if (!key) continue;
      const label = runTable.label(table, key);
      const addresses = document.querySelector(`template[data-figures="${key}"]`)?.content;
      side.querySelector("h4").textContent = addresses ? label : `${label}: the page has no figures of this run`;
      for (const link of side.querySelectorAll("a")) {
        const address = addresses?.querySelector(`[data-name="${link.dataset.name}"]`)?.getAttribute("href");
        const image = link.firstElementChild;
        link.parentElement.hidden = !address;
        image.alt = `${link.previousElementSibling.textContent}: ${label}`;
        for (const [element, name] of [[link, "href"], [image, "src"]]) {
          if (address) element.setAttribute(name, address);
          else element.removeAttribute(name);
        }
      }
    }
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

  addEventListener("load", async () => {
    const table = await runTable.ready;
    let shown = "";
    state.watch(() => {
      if (shown === pair(table).join()) return;
      shown = pair(table).join();
      if (figures) showFigures(table, pair(table));
      if (heads.length) showHeads(table, pair(table));
    });
  });
})();
