"use strict";

// What one run gets wrong: pairs of classes, the surest errors, the confusion matrix, and every class.
(() => {
  const controls = document.getElementById("mistakes-controls");
  if (!controls) return;
  const { element, percent } = pictures;
  const run = controls.elements.run;
  const matrix = document.querySelector('[data-chart="confusion"]');
  const ordering = document.getElementById("matrix-controls").elements;
  const table = document.getElementById("mistakes-classes");
  const more = document.getElementById("mistakes-more");
  const FEW = 6; // pairs at first
  const SMALL = 112;

  let found = null; // data/mistakes-<key>.js
  let look = null; // the run's pictures in the gallery, if it is there
  let sorted = { by: "f1", down: false };

  async function choose() {
    const key = run.value;
    try {
      const read = await report.load(`mistakes-${key}`);
      const seen = gallery?.has(key) ? await pictures.read(key).catch(() => null) : null;
      if (key !== run.value) return; // another was chosen meanwhile
      [found, look] = [read, seen];
    } catch (error) {
      document.getElementById("mistakes-count").textContent = `These mistakes cannot be read: ${error.message}.`;
      return;
    }
    const named = found.pairs.reduce((sum, pair) => sum + pair[2], 0);
    const held = found.pairs.length ? ` The ${found.pairs.length} pairs of classes below hold ${named} of them.` : "";
    document.getElementById("mistakes-count").textContent = found.wrong
      ? `${found.wrong} of ${found.n} test pictures are wrong (${percent(found.wrong / found.n)}).${held}`
      : `All ${found.n} test pictures are right.`;
    showPairs(FEW);
    showErrors();
    showClasses();
    showMatrix();
  }

  const name = (index) => found.classes[index];

  function thumbnail(index, list, at, withMap, side = SMALL) {
    const [file, truth, predicted, probability, truthProbability] = found.pictures[index];
    const words = `${file}: ${percent(probability)} ${name(predicted)}, truth ${name(truth)} ${percent(truthProbability)}`;
    const place = look?.indexOf(file);
    if (place == null) return element("span", { class: "card unseen" }, words);
    const factor = pictures.factorFor(look, side);
    const box = element("span", { class: "abreast" }, pictures.photograph(look, place, factor * look.side));
    if (withMap) box.append(pictures.overlay(look, place, look.maps.indexOf("rollout"), "own", factor));
    const button = element("button", { type: "button", class: "card", "aria-label": `Open ${words}` }, box);
    if (withMap) {
      const warning = pictures.warning(look, place);
      button.append(
        element(
          "span",
          { class: "guess wrong" },
          `✗ ${percent(probability)} ${name(predicted)}`,
          warning ? element("span", { class: "warning", title: warning }, " ⚠") : null,
        ),
        element("span", {}, `${percent(truthProbability)} truth: ${name(truth)}`),
      );
    }
    button.addEventListener("click", () => gallery.open(run.value, list.map((one) => found.pictures[one][0]), at));
    return button;
  }

  function showPairs(count) {
    const list = found.pairs.slice(0, count).map(([truth, predicted, times, some]) => {
      const support = found.perClass[truth][5];
      const item = element(
        "li",
        {},
        element("p", {}, element("b", {}, name(truth)), " taken for ", element("b", {}, name(predicted)), `: ${times} of ${support}`),
      );
      if (look) {
        item.append(element("div", { class: "abreast" }, ...some.map((index, at) => thumbnail(index, some, at, false, 84))));
        const button = element("button", { type: "button" }, "Show in the gallery");
        button.addEventListener("click", () => gallery.pair(run.value, name(truth), name(predicted)));
        item.append(button);
      }
      return item;
    });
    document.getElementById("mistakes-pairs").replaceChildren(...list);
    more.hidden = count >= found.pairs.length;
  }

  function showErrors() {
    const some = found.errors.slice(0, look ? 12 : 20);
    document.getElementById("mistakes-errors").replaceChildren(...some.map((index, at) => thumbnail(index, found.errors, at, true)));
  }

  // Classes side by side that are taken for one another: each next one is the one most confused with those before.
  function alike() {
    const size = found.classes.length;
    const ties = Array.from({ length: size }, () => new Map());
    const [rows, columns, counts] = found.cells;
    rows.forEach((truth, at) => {
      const predicted = columns[at];
      if (truth === predicted) return;
      for (const [from, to] of [[truth, predicted], [predicted, truth]]) ties[from].set(to, (ties[from].get(to) ?? 0) + counts[at]);
    });
    const left = new Set(Array.from({ length: size }, (_, index) => index));
    const pull = new Float64Array(size);
    const order = [];
    const total = ties.map((tie) => [...tie.values()].reduce((sum, count) => sum + count, 0));
    while (left.size) {
      let next = -1;
      for (const index of left) {
        if (next < 0 || pull[index] > pull[next] || (pull[index] === pull[next] && total[index] > total[next])) next = index;
      }
      left.delete(next);
      order.push(next);
      pull.forEach((value, index) => { pull[index] = value / 2; }); // the nearest count most
      for (const [to, count] of ties[next]) pull[to] += count;
    }
    return order;
  }

  // The chart is the page's own: its data is made here, of the run that is chosen.
  function showMatrix() {
    const size = found.classes.length;
    const all = [...found.classes.keys()];
    const orders = {
      f1: () => all.sort((left, right) => found.perClass[left][0] - found.perClass[right][0] || left - right),
      alike,
    };
    const order = orders[ordering.order.value]?.() ?? all;
    const at = [];
    order.forEach((index, place) => { at[index] = place; });
    const [shares, words] = [0, ""].map((empty) => order.map(() => new Array(size).fill(empty)));
    const [rows, columns, counts] = found.cells;
    rows.forEach((truth, number) => {
      const predicted = columns[number];
      const support = found.perClass[truth][5];
      words[at[truth]][at[predicted]] = `: ${counts[number]} of ${support}`;
      if (!(ordering.off.checked && truth === predicted)) shares[at[truth]][at[predicted]] = counts[number] / support;
    });
    const names = order.map((index) => plain(name(index)));
    const short = order.map((index) => plain(name(index).length > 24 ? `${name(index).slice(0, 22)}…` : name(index)));
    const axis = {
      tickvals: [...names.keys()], ticktext: short, automargin: true, showgrid: false,
      tickfont: { size: size > 60 ? 8 : size > 30 ? 10 : 12, color: "var(--soft)" },
    };
    const height = Math.min(Math.max(360, 11 * size + 160), 1200);
    matrix.style.height = `${height}px`;
    report.change("confusion", (figure) => {
      figure.data = [{
        type: "heatmap", z: shares, zmin: 0, zmax: 1, text: words,
        customdata: names.map((truth) => names.map((predicted) => [truth, predicted])),
        hovertemplate: "%{customdata[0]} taken for %{customdata[1]}%{text}<extra></extra>",
        colorscale: [[0, "var(--panel)"], [0.001, "var(--ramp-low)"], [0.5, "var(--ramp-middle)"], [1, "var(--ramp-high)"]],
        xgap: size <= 40 ? 1 : 0, ygap: size <= 40 ? 1 : 0,
        colorbar: { title: { text: "share" }, tickformat: ".0%", thickness: 12, len: 0.5 },
      }];
      figure.layout = {
        height, margin: { l: 10, r: 10, t: 10, b: 10 },
        xaxis: { ...axis, title: { text: "prediction", standoff: 12 }, tickangle: -60 },
        yaxis: { ...axis, title: { text: "truth", standoff: 12 }, autorange: "reversed" },
        shapes: [{ type: "rect", xref: "paper", yref: "paper", x0: 0, x1: 1, y0: 0, y1: 1, line: { color: "var(--line)", width: 1 } }],
      };
    });
  }

  // Plotly reads tags and entities in its texts.
  const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

  function showClasses() {
    const columns = { f1: 0, precision: 1, recall: 2, low: 3, support: 5 };
    const value = (index) => {
      if (sorted.by === "name") return name(index);
      if (sorted.by === "taken") return name(found.perClass[index][7]) ?? "";
      return found.perClass[index][columns[sorted.by]];
    };
    const order = [...found.classes.keys()].sort((left, right) => {
      const [first, second] = [value(left), value(right)];
      const less = typeof first === "string" ? first.localeCompare(second) : first - second;
      return (sorted.down ? -less : less) || left - right;
    });
    table.tBodies[0].replaceChildren(
      ...order.map((index) => {
        const [f1, precision, recall, low, high, support, right, taken] = found.perClass[index];
        const cells = [f1.toFixed(3), precision.toFixed(3), `${recall.toFixed(3)} (${right} of ${support})`];
        cells.push(support ? `${low.toFixed(2)} to ${high.toFixed(2)}` : "–", String(support));
        return element(
          "tr",
          {},
          element("th", { scope: "row" }, name(index)),
          ...cells.map((text) => element("td", { class: "number" }, text)),
          element("td", {}, name(taken) ?? "–"),
        );
      }),
    );
    for (const head of table.tHead.rows[0].cells) {
      const active = head.firstElementChild.dataset.by === sorted.by;
      if (active) head.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
  }

  controls.addEventListener("change", choose);
  controls.addEventListener("submit", (event) => event.preventDefault());
  ordering.order.form.addEventListener("change", showMatrix);
  ordering.order.form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => showPairs(found.pairs.length));
  table.tHead.addEventListener("click", (event) => {
    const by = event.target.closest("button")?.dataset.by;
    if (!by || !found) return;
    sorted = { by, down: sorted.by === by && !sorted.down };
    showClasses();
  });

  report.near(controls.closest("section"), choose);
})();
