"use strict";

// Charts of head statistics. `runs`: [{label, isOther, rows}], one or two; `rows` are values by layer and head, null where
// unknown; `isOther`: it is the run that the chosen one is compared with.
const headCharts = (() => {
  const colour = ({ isOther }) => (isOther ? "var(--run-5)" : "var(--run-1)");
  // A layer with an unknown head has no mean.
  const mean = (values) => (values.includes(null) ? null : values.reduce((sum, value) => sum + value, 0) / values.length);

  // By layer and head: one panel per run, one colour scale for both.
  function heatMaps(figure, runs) {
    const layout = { margin: { l: 44, r: 10, t: 26, b: 40 }, coloraxis: colourScale(runs), annotations: [] };
    figure.data = runs.map(({ rows, isOther }, place) => {
      const suffix = place ? String(place + 1) : "";
      const width = 1 / runs.length;
      const from = place * width + (place ? 0.04 : 0);
      const to = (place + 1) * width - (place + 1 < runs.length ? 0.04 : 0);
      const ticks = (count) => ({ tick0: 1, dtick: Math.ceil(count / 6), zeroline: false, showgrid: false });
      layout[`xaxis${suffix}`] = { ...ticks(rows[0].length), domain: [from, to], anchor: `y${suffix}`, title: { text: "head", standoff: 4 } };
      layout[`yaxis${suffix}`] = { ...ticks(rows.length), anchor: `x${suffix}`, autorange: "reversed", title: place ? undefined : { text: "layer", standoff: 4 } };
      if (runs.length > 1 || isOther) layout.annotations.push({
        text: isOther ? "compared with" : "run",
        x: from, xref: "paper", xanchor: "left", y: 1, yref: "paper", yanchor: "bottom", showarrow: false, font: { size: 11, color: "var(--soft)" },
      });
      return {
        type: "heatmap", z: rows, x: rows[0].map((_, head) => head + 1), y: rows.map((_, layer) => layer + 1),
        xaxis: `x${suffix}`, yaxis: `y${suffix}`, coloraxis: "coloraxis", xgap: 1, ygap: 1,
        hovertemplate: "layer %{y}, head %{x}: %{z:.4g}<extra></extra>",
      };
    });
    figure.layout = layout;
  }

  function colourScale(runs) {
    const all = runs.flatMap(({ rows }) => rows.flat()).filter(Number.isFinite);
    return {
      ...(all.length ? { cmin: Math.min(...all), cmax: Math.max(...all) } : {}),
      colorscale: [[0, "var(--ramp-low)"], [0.5, "var(--ramp-middle)"], [1, "var(--ramp-high)"]],
      colorbar: { thickness: 10, len: 1, tickfont: { size: 10, color: "var(--soft)" } },
    };
  }

  // A dot per head, and a line through the means of the layers.
  function distanceByLayer(figure, runs) {
    figure.data = runs.flatMap((run) => {
      const dots = run.rows.flatMap((heads, layer) => heads.map((value, head) => [layer + 1, value, head + 1]));
      return [
        {
          type: "scatter", mode: "markers", name: run.label, x: dots.map((dot) => dot[0]), y: dots.map((dot) => dot[1]),
          customdata: dots.map((dot) => dot[2]), marker: { color: colour(run), symbol: run.isOther ? "diamond-open" : "circle", size: 7, opacity: 0.75 },
          hovertemplate: "layer %{x}, head %{customdata}: %{y:.4g} px<extra></extra>",
        },
        {
          type: "scatter", mode: "lines", name: `${run.label}, mean`, showlegend: false, hoverinfo: "skip",
          x: run.rows.map((_, layer) => layer + 1), y: run.rows.map(mean), line: { color: colour(run), dash: run.isOther ? "dash" : "solid", width: 2 },
        },
      ];
    });
    figure.layout = {
      margin: { l: 50, r: 10, t: 10, b: 40 }, xaxis: { title: { text: "layer" }, dtick: 1, showgrid: false },
      yaxis: { title: { text: "mean attention distance" }, rangemode: "tozero" }, legend: { orientation: "h", y: 1.02, yanchor: "bottom" },
    };
  }

  return { heatMaps, distanceByLayer };
})();
