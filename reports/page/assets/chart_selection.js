"use strict";

// Runs in charts: what is clicked or brushed is selected, and what is selected stands out.
//
// The key of a line is its trace's `meta`. Points, cells of a heat map and lines of parallel coordinates have theirs in
// `customdata`: a text for each, with a space between the keys of one cell.
const chartSelection = (() => {
  const FAINT = 0.12; // opacity of what does not stand out

  const isText = (value) => typeof value === "string";
  const keysOf = (value) => (isText(value) ? value.split(" ").filter((key) => /^[rs][0-9a-f]{10}$/.test(key)) : []);
  const hasKeys = (figure) => Boolean(figure?.data.some(({ meta, customdata }) => isText(meta) || isText([customdata].flat(3)[0])));

  // The figure with everything but the settings `keys` faint; as it is where `keys` is null.
  function drawn({ data, layout }, keys) {
    if (!keys) return { data, layout };
    const stands = (value) => keysOf(value).some((key) => keys.has(key));
    const traces = data.map((trace) => {
      if (trace.type === "parcoords") return parallel(trace, stands);
      if (isText(trace.meta)) return stands(trace.meta) ? { ...trace, opacity: 1 } : { ...trace, opacity: FAINT };
      if (trace.type !== "scatter" || !isText(trace.customdata?.[0])) return trace;
      const selectedpoints = [...trace.customdata.keys()].filter((place) => stands(trace.customdata[place]));
      return { ...trace, selectedpoints, unselected: { marker: { opacity: FAINT } } };
    });
    const frames = data.filter((trace) => trace.type === "heatmap" && trace.customdata).flatMap((trace) => cellFrames(trace, stands));
    return { data: traces, layout: frames.length ? { ...layout, shapes: [...(layout.shapes ?? []), ...frames] } : layout };
  }

  // Lines that stand out get the colour of the highest score, the others that of the lowest.
  function parallel(trace, stands) {
    if (!isText(trace.customdata?.[0])) return trace;
    const color = trace.line.color.map((_, place) => trace.line[stands(trace.customdata[place]) ? "cmax" : "cmin"]);
    return { ...trace, line: { ...trace.line, color } };
  }

  function cellFrames({ customdata }, stands) {
    return customdata.flatMap((line, row) => line.flatMap((cell, column) => (stands(cell) ? [{
      type: "rect", x0: column - 0.48, x1: column + 0.48, y0: row - 0.48, y1: row + 0.48,
      line: { color: report.colour("--ink"), width: 2.5 },
    }] : [])));
  }

  // Positions of the lines of parallel coordinates that pass every range brushed on an axis; null without a range.
  function brushed({ dimensions }) {
    const limited = dimensions.filter((dimension) => dimension.constraintrange);
    if (!limited.length) return null;
    const passes = (value, ranges) => ranges.some(([low, high]) => value >= low && value <= high);
    const ranges = limited.map(({ constraintrange }) => (Array.isArray(constraintrange[0]) ? constraintrange : [constraintrange]));
    return [...dimensions[0].values.keys()].filter((place) =>
      limited.every((dimension, number) => passes(dimension.values[place], ranges[number])));
  }

  // `ownClick` returns what a chart does with a clicked point instead, if anything.
  function listen(element, ownClick) {
    element.on("plotly_click", ({ points: [point] }) => {
      const click = ownClick();
      if (click) return click(point);
      const keys = keysOf(isText(point.customdata) ? point.customdata : point.data.meta);
      if (!keys.length) return;
      const { selected } = state.now;
      const areSelected = keys.every((key) => selected.includes(key));
      state.change("select", areSelected ? selected.filter((key) => !keys.includes(key)) : [...selected, ...keys]);
    });
    const [trace] = element.data;
    if (trace?.type === "parcoords" && isText(trace.customdata?.[0])) {
      followBrush(element);
      nameLines(element);
    }
  }

  // Names the line of parallel coordinates that the pointer is on, which Plotly gives by its number and does not label.
  async function nameLines(element) {
    const place = document.getElementById("effects-hovered");
    const table = await runTable.ready;
    const otherwise = place.textContent;
    element.on("plotly_hover", ({ curveNumber }) => {
      const [key] = keysOf(element.data[0].customdata[curveNumber]);
      const score = table.byKey.get(key)?.fields.val_f1;
      place.textContent = `${runTable.label(table, key)}${score == null ? "" : `: ${report.score(score, 4)}`}`;
    });
    element.on("plotly_unhover", () => (place.textContent = otherwise));
  }

  // A brush selects; a selection that is made elsewhere removes the brush.
  function followBrush(element) {
    let isClearing = false;
    const keys = () => brushed(element.data[0])?.flatMap((place) => keysOf(element.data[0].customdata[place]));
    element.on("plotly_restyle", () => isClearing || state.change("select", keys() ?? []));
    state.watch(({ selected }) => {
      const brushedKeys = keys();
      if (!brushedKeys || String([...new Set(brushedKeys)].sort()) === String([...selected].sort())) return;
      isClearing = true;
      const ranges = element.data[0].dimensions.map((_, place) => [`dimensions[${place}].constraintrange`, null]);
      Plotly.restyle(element, Object.fromEntries(ranges)).finally(() => (isClearing = false));
    });
  }

  return { hasKeys, drawn, brushed, listen };
})();
