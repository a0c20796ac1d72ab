"use strict";

// Position embeddings and head statistics of two runs side by side.
(() => {
  const figures = document.getElementById("positions-figures");
  const heads = document.getElementById("heads-charts")?.dataset.runs.split(" ") ?? []; // keys, the best first
  const COLOURS = ["var(--run-1)", "var(--run-5)"];
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

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
    const chosen = keys.filter((key) => heads.includes(key)).map((key) => ({ key, label: charts.escaped(runTable.label(table, key)) }));
    const statistics = await Promise.all(chosen.map(({ key }) => report.load(`heads-${key}`)));
    if (keys.join() !== pair(table).join()) return; // the choice changed meanwhile
    for (const element of document.querySelectorAll('#positions [data-chart^="heads-"]')) {
      const name = element.dataset.chart.slice("heads-".length);
      const [draw, statistic] = name === "depth" ? [distanceByLayer, "distance"] : [heatMaps, name];
      charts.change(element.dataset.chart, (figure) => draw(figure, statistics.map((run) => run[statistic]), chosen));
    }
  }

  // The run that is shown, and the one beside it: the worst that finished, unless another is chosen.
  function pair(table) {
    const run = state.now.run || [...table.runs.keys()][0];
    const other = state.now.other || table.worst;
    return other && other !== run ? [run, other] : [run];
  }

  // By layer and head: one panel per run, one colour scale for both.
  function heatMaps(figure, values, chosen) {
    const layout = { margin: { l: 44, r: 10, t: 26, b: 40 }, coloraxis: colourScale(values), annotations: [] };
    figure.data = [];
    values.forEach((rows, place) => {
      if (!rows) return;
      const suffix = place ? String(place + 1) : "";
      const width = 1 / chosen.length;
      const from = place * width + (place ? 0.04 : 0);
      const to = (place + 1) * width - (place + 1 < chosen.length ? 0.04 : 0);
      const ticks = (count) => ({ tick0: 1, dtick: Math.ceil(count / 6), zeroline: false, showgrid: false });
      layout[`xaxis${suffix}`] = { ...ticks(rows[0].length), domain: [from, to], anchor: `y${suffix}`, title: { text: "head", standoff: 4 } };
      layout[`yaxis${suffix}`] = { ...ticks(rows.length), anchor: `x${suffix}`, autorange: "reversed", title: place ? undefined : { text: "layer", standoff: 4 } };
      layout.annotations.push({
        text: place ? "compared with" : "run",
        x: from, xref: "paper", xanchor: "left", y: 1, yref: "paper", yanchor: "bottom", showarrow: false, font: { size: 11, color: "var(--soft)" },
      });
      figure.data.push({
        type: "heatmap", z: rows, x: rows[0].map((_, head) => head + 1), y: rows.map((_, layer) => layer + 1),
        xaxis: `x${suffix}`, yaxis: `y${suffix}`, coloraxis: "coloraxis", xgap: 1, ygap: 1,
        hovertemplate: "layer %{y}, head %{x}: %{z:.4g}<extra></extra>",
      });
    });
    figure.layout = layout;
  }

  function colourScale(values) {
    const all = values.flat(2).filter(Number.isFinite);
    return {
      cmin: Math.min(...all), cmax: Math.max(...all),
      colorscale: [[0, "var(--ramp-low)"], [0.5, "var(--ramp-middle)"], [1, "var(--ramp-high)"]],
      colorbar: { thickness: 10, len: 1, tickfont: { size: 10, color: "var(--soft)" } },
    };
  }

  // A dot per head, and a line through the means of the layers.
  function distanceByLayer(figure, values, chosen) {
    figure.data = values.flatMap((rows, place) => {
      if (!rows) return [];
      const [colour, symbol] = [COLOURS[place], place ? "diamond-open" : "circle"];
      const dots = rows.flatMap((heads, layer) => heads.map((value, head) => [layer + 1, value, head + 1]));
      return [
        {
          type: "scatter", mode: "markers", name: chosen[place].label, x: dots.map((dot) => dot[0]), y: dots.map((dot) => dot[1]),
          customdata: dots.map((dot) => dot[2]), marker: { color: colour, symbol, size: 7, opacity: 0.75 },
          hovertemplate: "layer %{x}, head %{customdata}: %{y:.4g} px<extra></extra>",
        },
        {
          type: "scatter", mode: "lines", name: `${chosen[place].label}, mean`, showlegend: false, hoverinfo: "skip",
          x: rows.map((_, layer) => layer + 1), y: rows.map(mean), line: { color: colour, dash: place ? "dash" : "solid", width: 2 },
        },
      ];
    });
    figure.layout = {
      margin: { l: 50, r: 10, t: 10, b: 40 }, xaxis: { title: { text: "layer" }, dtick: 1, showgrid: false },
      yaxis: { title: { text: "mean attention distance" }, rangemode: "tozero" }, legend: { orientation: "h", y: 1.02, yanchor: "bottom" },
    };
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
