"use strict";

// The confusion matrix as a Plotly figure: `mistakes` is the content of data/mistakes-<key>.js, `order` is "" (as in
// the data), "f1" or "alike"; without the diagonal the colours show errors alone.
const confusionMatrix = (() => {
  const { SUPPORT, F1 } = classScores;
  const COUNTS_UP_TO = 20; // classes: a cell has room for its count
  const GAPS_UP_TO = 40; // classes: more cells are too small for gaps between them
  const MOST = 100; // classes: the names of more would be too small to read

  // Classes that are confused with one another, side by side: after each class follows the one that is confused most
  // with the classes before it, the nearest of which count most.
  function bySimilarity({ classes, cells }) {
    const size = classes.length;
    const confusions = Array.from({ length: size }, () => new Map()); // class -> other class -> images
    const [truths, predictions, counts] = cells;
    truths.forEach((truth, cell) => {
      const predicted = predictions[cell];
      if (truth === predicted) return;
      for (const [from, to] of [[truth, predicted], [predicted, truth]]) {
        confusions[from].set(to, (confusions[from].get(to) ?? 0) + counts[cell]);
      }
    });
    const totals = confusions.map((others) => [...others.values()].reduce((sum, count) => sum + count, 0));
    const attraction = new Float64Array(size);
    const left = new Set(Array.from({ length: size }, (_, label) => label));
    const order = [];
    const isNearer = (label, best) =>
      attraction[label] > attraction[best] || (attraction[label] === attraction[best] && totals[label] > totals[best]);
    while (left.size) {
      let next = -1;
      for (const label of left) if (next < 0 || isNearer(label, next)) next = label;
      left.delete(next);
      order.push(next);
      attraction.forEach((value, label) => { attraction[label] = value / 2; });
      for (const [other, count] of confusions[next]) attraction[other] += count;
    }
    return order;
  }

  // Of too many classes, those with the most errors, as truth or as prediction; null: all.
  function mostErrors({ classes, cells }) {
    if (classes.length <= MOST) return null;
    const errors = new Array(classes.length).fill(0);
    const [truths, predictions, counts] = cells;
    truths.forEach((truth, cell) => {
      if (truth === predictions[cell]) return;
      errors[truth] += counts[cell];
      errors[predictions[cell]] += counts[cell];
    });
    return new Set([...classes.keys()].sort((left, right) => errors[right] - errors[left] || left - right).slice(0, MOST));
  }

  function ordered(mistakes, order) {
    const shown = mostErrors(mistakes);
    const all = order === "alike" ? bySimilarity(mistakes) : [...mistakes.classes.keys()];
    const labels = shown ? all.filter((label) => shown.has(label)) : all;
    const f1 = (label) => mistakes.perClass[label][F1];
    return order === "f1" ? labels.sort((left, right) => f1(left) - f1(right) || left - right) : labels;
  }

  // Says which classes are shown, where not all are.
  const note = ({ classes }) => (classes.length > MOST ? `The ${MOST} classes with the most errors, of ${classes.length}.` : "");

  function table(size, empty) {
    return Array.from({ length: size }, () => new Array(size).fill(empty));
  }

  // Pixels of a cell's side.
  const cellSide = (size) => (size <= COUNTS_UP_TO ? 34 : size <= GAPS_UP_TO ? 18 : 10);

  function figure(mistakes, order, withoutDiagonal) {
    const labels = ordered(mistakes, order);
    const size = labels.length;
    const places = new Map(labels.map((label, place) => [label, place]));
    const [shares, texts] = [table(size, 0), table(size, "")];
    const counted = table(size, 0);
    const [truths, predictions, counts] = mistakes.cells;
    truths.forEach((truth, cell) => {
      const predicted = predictions[cell];
      const [row, column] = [places.get(truth), places.get(predicted)];
      if (row == null || column == null) return;
      counted[row][column] = counts[cell];
      texts[row][column] = String(counts[cell]);
      if (!(withoutDiagonal && truth === predicted)) shares[row][column] = counts[cell] / mistakes.perClass[truth][SUPPORT];
    });
    const shortened = (name) => (name.length > 24 ? `${name.slice(0, 22)}…` : name);
    const names = labels.map((label) => charts.escaped(mistakes.classes[label]));
    const axis = {
      tickvals: [...names.keys()], ticktext: labels.map((label) => charts.escaped(shortened(mistakes.classes[label]))),
      automargin: true, showgrid: false, constrain: "domain", tickfont: { size: size > 60 ? 8 : size > 30 ? 10 : 12, color: "var(--soft)" },
    };
    const gap = size <= GAPS_UP_TO ? 1 : 0;
    const frame = { type: "rect", x0: -0.5, x1: size - 0.5, y0: -0.5, y1: size - 0.5, line: { color: "var(--line)", width: 1 } };
    return {
      data: [{
        type: "heatmap", z: shares, zmin: 0, zmax: 1, text: texts, xgap: gap, ygap: gap,
        ...(size <= COUNTS_UP_TO ? { texttemplate: "%{text}", textfont: { size: 12 } } : {}),
        customdata: labels.map((truth, row) => labels.map((predicted, column) =>
          [names[row], names[column], `${counted[row][column]} of ${mistakes.perClass[truth][SUPPORT]}`, truth, predicted])),
        hovertemplate: "%{customdata[0]} predicted as %{customdata[1]}: %{customdata[2]}<extra></extra>",
        colorscale: [[0, "var(--panel)"], [0.001, "var(--ramp-low)"], [0.5, "var(--ramp-middle)"], [1, "var(--ramp-high)"]],
        colorbar: { title: { text: "share" }, tickformat: ".0%", thickness: 12, len: 0.5 },
      }],
      layout: {
        height: Math.max(300, cellSide(size) * size + 150), margin: { l: 10, r: 10, t: 10, b: 10 }, shapes: [frame],
        xaxis: { ...axis, title: { text: "prediction", standoff: 12 }, tickangle: -60 },
        yaxis: { ...axis, title: { text: "truth", standoff: 12 }, autorange: "reversed", scaleanchor: "x" },
      },
    };
  }

  // Pixels, with which the cells of a figure are about square: the names on the left and the colour bar take about so much
  // more than the slanted names below.
  const width = ({ layout }) => layout.height + 130;

  return { figure, width, note };
})();

// The truth and the prediction of a clicked cell, as names; for `gallery.showClasses`.
const confusionCell = (mistakes, { customdata }) => [mistakes.classes[customdata[3]], mistakes.classes[customdata[4]]];
