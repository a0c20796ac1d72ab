"use strict";

// What the page's scripts share: data, charts, the theme, copying. Text from elsewhere is only ever set as text.
const report = (() => {
  const root = document.documentElement;

  // ---- Data. It comes in as scripts, for a page that was opened from a file may not fetch.

  const values = new Map(); // name -> {promise, resolve}

  function script(address) {
    return new Promise((resolve, reject) => {
      const element = document.createElement("script");
      element.src = address;
      element.onload = resolve;
      element.onerror = () => reject(new Error(`${address} cannot be read`));
      document.head.append(element);
    });
  }

  // The value that was written as data/<name>.js, read when first asked for.
  function load(name) {
    if (!values.has(name)) {
      const entry = {};
      entry.promise = new Promise((resolve, reject) => {
        entry.resolve = resolve;
        script(`data/${encodeURIComponent(name)}.js`).catch(reject);
      });
      values.set(name, entry);
    }
    return values.get(name).promise;
  }

  function deliver(name, value) {
    values.get(name)?.resolve(value);
  }

  // ---- Theme: the system's until somebody chooses.

  const THEMES = ["auto", "light", "dark"];

  function stored(name, value) {
    try {
      if (value === undefined) return localStorage.getItem(name);
      localStorage.setItem(name, value);
    } catch {
      // Not kept, where the browser keeps nothing for files.
    }
    return null;
  }

  function setTheme(theme) {
    root.dataset.theme = theme;
    stored("report-theme", theme);
    redraw();
  }

  root.dataset.theme = THEMES.includes(stored("report-theme")) ? stored("report-theme") : "auto";
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw());

  // A colour of the style sheet, as it is in the theme that is on.
  function colour(name) {
    const probe = document.createElement("i");
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  }

  // ---- Charts: <div class="plot" data-chart="name"> shows the Plotly figure data/<name>.js once it comes near.

  const charts = new Map(); // name -> {element, figure}
  let plotly = null;

  function inTheme(value, colours) {
    if (typeof value === "string") {
      const name = /^var\((--[\w-]+)\)$/.exec(value)?.[1];
      if (!name) return value;
      if (!colours.has(name)) colours.set(name, colour(name));
      return colours.get(name);
    }
    if (Array.isArray(value)) return value.map((item) => inTheme(item, colours));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, inTheme(item, colours)]));
    }
    return value;
  }

  const AXIS = {
    gridcolor: "var(--line)",
    linecolor: "var(--strong-line)",
    zeroline: false,
    tickfont: { color: "var(--soft)", size: 12 },
    title: { font: { color: "var(--soft)", size: 12.5 }, standoff: 8 },
  };

  const LOOK = {
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
  };

  async function draw(name) {
    const chart = charts.get(name);
    plotly ??= script("assets/plotly.min.js");
    const [figure] = await Promise.all([load(name), plotly]);
    // A copy, for what a reader changes is not to change the data.
    chart.figure ??= structuredClone(figure);
    const { data, layout } = inTheme(chart.figure, new Map());
    const template = { layout: inTheme(LOOK, new Map()) };
    // Its buttons would cover a small chart, and are many to step over for who goes by keyboard.
    const displayModeBar = chart.element.clientHeight >= 300 ? "hover" : false;
    await Plotly.react(chart.element, data, { autosize: true, ...layout, template }, { ...CONFIG, displayModeBar });
    chart.element.classList.add("drawn");
  }

  // Change a chart's figure, at once or as soon as it is drawn.
  async function change(name, edit) {
    const chart = charts.get(name);
    if (!chart) return;
    const figure = await load(name);
    chart.figure ??= structuredClone(figure);
    edit(chart.figure);
    if (chart.element.classList.contains("drawn")) await draw(name);
  }

  function redraw() {
    for (const [name, { element }] of charts) if (element.classList.contains("drawn")) draw(name);
  }

  function failed(element, error) {
    element.textContent = `This chart cannot be shown: ${error.message}.`;
    element.classList.add("broken");
  }

  // ---- What is done when it comes near the view, or else when there is time for it, so that paper has it all.

  const waiting = new Map(); // element -> what is to be done
  const watch = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) if (isIntersecting) begin(target);
    },
    { rootMargin: "600px" },
  );

  function near(element, task) {
    waiting.set(element, task);
    watch.observe(element);
  }

  async function begin(element) {
    const task = waiting.get(element);
    waiting.delete(element);
    watch.unobserve(element);
    await task?.();
  }

  function whenIdle() {
    const idle = window.requestIdleCallback ?? ((task) => setTimeout(task, 200));
    const next = () => {
      const [element] = waiting.keys();
      if (element) begin(element).finally(() => idle(next));
    };
    setTimeout(() => idle(next), 1000);
  }

  function watchCharts() {
    for (const element of document.querySelectorAll(".plot[data-chart]")) {
      const name = element.dataset.chart;
      charts.set(name, { element });
      near(element, () => draw(name).catch((error) => failed(element, error)));
    }
  }

  // ---- Small things.

  let fading = 0;

  function say(text) {
    const place = document.getElementById("said");
    place.textContent = text;
    place.classList.add("shown");
    clearTimeout(fading);
    fading = setTimeout(() => place.classList.remove("shown"), 4000);
  }

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // No clipboard outside secure contexts: the old way.
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      if (!done) return say(`Copy it from here: ${text}`);
    }
    return say(`Copied: ${text}`);
  }

  function watchSections() {
    const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
    const seen = new IntersectionObserver(
      (entries) => {
        for (const { isIntersecting, target } of entries) {
          if (!isIntersecting) continue;
          for (const [id, link] of links) link.toggleAttribute("aria-current", id === target.id);
        }
      },
      { rootMargin: "-15% 0px -75% 0px" },
    );
    for (const id of links.keys()) {
      const section = document.getElementById(id);
      if (section) seen.observe(section);
    }
  }

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const name = () => (button.querySelector("span").textContent = root.dataset.theme);
    button.hidden = false;
    name();
    button.addEventListener("click", () => {
      setTheme(THEMES[(THEMES.indexOf(root.dataset.theme) + 1) % THEMES.length]);
      name();
    });
    document.addEventListener("click", (event) => {
      const pressed = event.target.closest("[data-copy]");
      if (pressed) copy(pressed.dataset.copy);
    });
    watchCharts();
    watchSections();
    whenIdle();
  });

  // Paper is white, narrow, and cannot be unfolded.
  let folded = [];
  addEventListener("beforeprint", () => {
    root.dataset.printing = "";
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const one of folded) one.open = true;
    redraw();
  });
  addEventListener("afterprint", () => {
    delete root.dataset.printing;
    for (const one of folded) one.open = false;
    redraw();
  });

  return { load, deliver, near, change, colour, copy, say };
})();
