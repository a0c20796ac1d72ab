"use strict";

// The reliability diagram as a Plotly figure; `bins` are of data/mistakes-<key>.js: mean probability, share that is
// right, its interval, images.
const reliabilityFigure = (bins) => {
  const column = (place) => bins.map((bin) => bin[place]);
  const [sure, right, low, high, n] = [0, 1, 2, 3, 4].map(column);
  return {
    data: [
      { type: "scatter", mode: "lines", x: [0, 1], y: [0, 1], line: { color: "var(--soft)", dash: "dash", width: 1 }, hoverinfo: "skip" },
      {
        type: "scatter", mode: "lines+markers", x: sure, y: right, customdata: n.map((count) => [count]),
        error_y: {
          type: "data", symmetric: false, thickness: 1, width: 3, color: "var(--soft)",
          array: high.map((end, place) => end - right[place]), arrayminus: low.map((end, place) => right[place] - end),
        },
        line: { color: "var(--run-1)", width: 2 }, marker: { size: 8 },
        hovertemplate: "probability %{x:.2f}: %{y:.1%} right of %{customdata[0]} images<extra></extra>",
      },
    ],
    layout: {
      height: 320, showlegend: false, hovermode: "closest", margin: { l: 50, r: 10, t: 10, b: 44 },
      xaxis: { title: { text: "probability of the prediction" }, range: [0, 1.02] },
      yaxis: { title: { text: "share that is right" }, range: [-0.02, 1.05] },
    },
  };
};
