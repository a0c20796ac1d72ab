"use strict";

// Charts: <div class="plot" data-chart="name"> shows the Plotly figure data/<name>.js once it comes near the view.
const charts = (() => {
  const AXIS = {
    gridcolor: "var(--line)",
    linecolor: "var(--strong-line)",
    zeroline: false,
    tickfont: { color: "var(--soft)", size: 12 },
    title: { font: { color: "var(--soft)", size: 12.5 }, standoff: 8 },
  };

  const TEMPLATE = {
    font: { family: "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", size: 12.5, color: "var(--ink)" },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    xaxis: AXIS,
    yaxis: AXIS,
    hoverlabel: { bgcolor: "var(--panel)", bordercolor: "var(--strong-line)", font: { color: "var(--ink)" } },
    modebar: { color: "var(--soft)", activecolor: "var(--ink)", bgcolor: "rgba(0,0,0,0)" },
  };

  const CONFIG = {
    responsive: true,
    displaylogo: false,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    showSendToCloud: false,
    plotlyServerURL: "",
    toImageButtonOptions: { format: "svg" },
  };

  const MODE_BAR_FROM = 300; // pixels of height: in a smaller chart its buttons would cover the data

  const byName = new Map(); // name -> {element, figure, isReady, edits, click}
  let plotly = null;
  let emphasised = null; // keys of the settings that stand out; null: all alike

  // A copy of a value whose "var(--name)" strings are replaced by the colours of the current theme.
  function inTheme(value, colours = new Map()) {
    if (typeof value === "string") {
      const name = /^var\((--[\w-]+)\)$/.exec(value)?.[1];
      if (!name) return value;
      if (!colours.has(name)) colours.set(name, report.colour(name));
      return colours.get(name);
    }
    if (Array.isArray(value)) return value.map((item) => inTheme(item, colours));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, inTheme(item, colours)]));
    }
    return value;
  }

  // A copy, because Plotly and the controls change the figure. It is made once, however many wait for it.
  async function readFigure(name) {
    const chart = byName.get(name);
    const content = chart.figure ?? (await report.load(name));
    if (chart.figure) return;
    chart.figure = structuredClone(content);
    for (const edit of chart.edits ?? []) edit(chart.figure);
  }

  // Reads what drawing needs.
  async function prepare(name) {
    plotly ??= report.script("assets/plotly.min.js");
    await Promise.all([readFigure(name), plotly]);
    byName.get(name).isReady = true;
  }

  async function draw(name) {
    const chart = byName.get(name);
    if (!chart.isReady) await prepare(name);
    const { data, layout } = chartSelection.drawn(inTheme(chart.figure), emphasised);
    const template = { layout: inTheme(TEMPLATE) };
    const displayModeBar = chart.element.clientHeight >= MODE_BAR_FROM ? "hover" : false;
    await Plotly.react(chart.element, data, { autosize: true, uirevision: "kept", ...layout, template }, { ...CONFIG, displayModeBar });
    if (!chart.element.classList.contains("drawn")) chartSelection.listen(chart.element, () => chart.click);
    chart.element.classList.add("drawn");
  }

  // Draw a figure that has no file, such as one of a panel, with a button that saves it. The element is removed with its
  // panel.
  function put(element, name, figure) {
    element.classList.add("plot");
    element.before(takeAlong.svgButton(name));
    element.style.height = `${figure.layout.height ?? 280}px`;
    byName.set(name, { element, figure });
    return draw(name).catch((error) => showError(element, error));
  }

  // Save a drawn chart as an SVG in the light theme, as for paper.
  async function saveAs(name, filename) {
    const chart = byName.get(name);
    if (!chart.element.classList.contains("drawn")) return;
    const root = document.documentElement;
    root.dataset.printing = "";
    const { data, layout } = chartSelection.drawn(inTheme(chart.figure), emphasised);
    const template = { layout: inTheme(TEMPLATE) };
    delete root.dataset.printing;
    const { clientWidth: width, clientHeight: height } = chart.element;
    await Plotly.downloadImage({ data, layout: { ...layout, template, width, height } }, { format: "svg", filename, width, height });
  }

  // Call `click` with a point of Plotly's event, in place of selecting its runs.
  function onClick(name, click) {
    if (byName.has(name)) byName.get(name).click = click;
  }

  const drawnCharts = () =>
    [...byName].filter(([, { element }]) => element.isConnected && element.classList.contains("drawn"));

  // Change a chart's figure, at once or as soon as it is read.
  async function change(name, edit) {
    const chart = byName.get(name);
    if (!chart) return;
    if (!chart.figure) {
      (chart.edits ??= []).push(edit);
      return;
    }
    edit(chart.figure);
    if (chart.element.classList.contains("drawn")) await draw(name);
  }

  // Plotly reads tags and entities in its texts.
  const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

  function showError(element, error) {
    element.textContent = `This chart cannot be shown: ${error.message}.`;
    element.classList.add("broken");
  }

  document.addEventListener("DOMContentLoaded", () => {
    for (const element of document.querySelectorAll(".plot[data-chart]")) {
      const name = element.dataset.chart;
      byName.set(name, { element });
      near.when(element, () => draw(name).catch((error) => showError(element, error)), () => prepare(name).catch(() => {}));
    }
  });
  report.onThemeChange(() => {
    for (const [name] of drawnCharts()) draw(name);
  });
  // Nothing can be awaited while the browser prints: charts that were not scrolled to are drawn from what has been read.
  addEventListener("beforeprint", () => {
    for (const [name, { element, isReady }] of byName) {
      if (isReady && element.isConnected && !element.classList.contains("drawn")) draw(name);
    }
  });
  runTable.ready.then((table) => {
    state.watch((now) => {
      const keys = runTable.emphasised(table, now);
      if (String(keys && [...keys]) === String(emphasised && [...emphasised])) return;
      emphasised = keys;
      // Those out of view follow when they come into view: of many runs, all at once would take seconds.
      for (const [name, { element, figure }] of drawnCharts()) {
        if (chartSelection.hasKeys(figure)) near.when(element, () => draw(name), null);
      }
    });
  });

  return { change, put, saveAs, escaped, onClick };
})();
