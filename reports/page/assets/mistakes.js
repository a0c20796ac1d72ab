"use strict";

// The mistakes of one run: top confusions, most confident errors, the confusion matrix, and the scores of each class.
(() => {
  const count = document.getElementById("mistakes-count");
  if (!count) return;
  const { element, percent } = report;
  const keys = count.dataset.runs.split(" "); // of the runs that have predictions, the best first
  const details = document.getElementById("mistakes-details");
  const matrix = document.querySelector('[data-chart="confusion"]');
  const matrixControls = document.getElementById("matrix-controls");
  const more = document.getElementById("mistakes-more");
  const classTable = sortable(document.getElementById("mistakes-classes"), "classes-sort");
  const CONFUSIONS = 6; // shown before "More" is pressed
  const ERRORS = { withImages: 12, withoutImages: 20 };
  const SIDE = 112; // of an image, approximate, pixels
  const SMALL_SIDE = 84;

  let mistakes = null; // the content of data/mistakes-<key>.js
  let images = null; // the run's images, if the gallery has them
  let run = ""; // its key

  async function choose() {
    const table = await runTable.ready;
    const key = runTable.shownRun(table);
    run = key;
    details.hidden = !keys.includes(key);
    if (details.hidden) {
      count.textContent = `${runTable.label(table, key)} has no predictions of test images. Choose another run below; the first that has them is ${runTable.label(table, keys[0])}.`;
      return;
    }
    try {
      const loaded = await report.load(`mistakes-${key}`);
      const loadedImages = gallery?.has(key) ? await tiles.load(key).catch(() => null) : null;
      if (key !== run) return; // the choice changed meanwhile
      [mistakes, images] = [loaded, loadedImages];
    } catch (error) {
      count.textContent = `These mistakes cannot be read: ${error.message}.`;
      return;
    }
    const { pairs, wrong, n } = mistakes;
    const covered = pairs.reduce((sum, [, , times]) => sum + times, 0);
    const part = pairs.length ? ` The ${pairs.length} pairs of classes below account for ${covered} of them.` : "";
    const name = runTable.label(table, key);
    count.textContent = wrong
      ? `${name}: ${wrong} of ${n} test images are predicted wrong (${percent(wrong / n)}).${part}`
      : `${name}: all ${n} test images are predicted right.`;
    for (const part of details.querySelectorAll("[data-errors]")) part.hidden = !wrong;
    showConfusions();
    showErrors();
    showClasses();
    showMatrix();
    charts.change("reliability", (drawn) => Object.assign(drawn, reliabilityFigure(mistakes.reliability)));
  }

  const hasImage = (index) => images?.indexOf(mistakes.pictures[index][0]) != null;
  const className = (label) => mistakes.classes[label];

  // An image in words where the page has no image of it, else a button that opens it; `indices` and `position` are what
  // the arrows of the dialog step through.
  function thumbnail(index, indices, position, side) {
    const [file, truth, predicted, probability, truthProbability] = mistakes.pictures[index];
    const text = `${file}: ${percent(probability)} ${className(predicted)}, truth ${className(truth)} ${percent(truthProbability)}`;
    const place = images?.indexOf(file);
    if (!hasImage(index)) return element("span", { class: "card in-words" }, text);
    const factor = tiles.factorFor(images, side);
    const box = element("span", { class: "abreast" }, tiles.image(images, place, factor * images.side));
    const files = indices.map((number) => mistakes.pictures[number][0]);
    const click = () => gallery.open(run, files, position);
    return element("button", { type: "button", class: "card", "aria-label": `Open ${text}`, click }, box);
  }

  // The same with the first map over the image and with the probabilities in words.
  function errorCard(index, position) {
    const card = thumbnail(index, mistakes.errors, position, SIDE);
    const [file, truth, predicted, probability, truthProbability] = mistakes.pictures[index];
    const place = images?.indexOf(file);
    if (!hasImage(index)) return card;
    const warning = tiles.warning(images, place);
    card.firstElementChild.append(tiles.overlay(images, place, 0, "own", tiles.factorFor(images, SIDE)));
    card.append(
      element(
        "span",
        { class: "guess wrong" },
        `✗ ${percent(probability)} ${className(predicted)}`,
        warning ? element("span", { class: "warning", title: warning }, " ⚠") : null,
      ),
      element("span", {}, `${percent(truthProbability)} truth: ${className(truth)}`),
    );
    return card;
  }

  function showErrors() {
    const shown = mistakes.errors.slice(0, images ? ERRORS.withImages : ERRORS.withoutImages);
    document.getElementById("mistakes-errors").replaceChildren(...shown.map(errorCard));
    const [withMaps, without] = ["mistakes-maps", "mistakes-no-maps"].map((id) => document.getElementById(id));
    withMaps.hidden = !shown.some(hasImage);
    without.hidden = shown.every(hasImage);
  }

  function showConfusions() {
    const most = state.now.fields["mistakes-more"] ? mistakes.pairs.length : CONFUSIONS;
    const items = mistakes.pairs.slice(0, most).map(([truth, predicted, times, indices]) => {
      const support = mistakes.perClass[truth][classScores.SUPPORT];
      const names = [element("b", {}, className(truth)), " predicted as ", element("b", {}, className(predicted))];
      const item = element("li", {}, element("p", {}, ...names, `: ${times} of ${support}`));
      if (images) {
        const thumbnails = indices.map((index, position) => thumbnail(index, indices, position, SMALL_SIDE));
        const click = () => gallery.showClasses(run, className(truth), className(predicted));
        const button = element("button", { type: "button", click }, "Show in the gallery");
        item.append(element("div", { class: "abreast" }, ...thumbnails), ...(indices.some(hasImage) ? [button] : []));
      }
      return item;
    });
    document.getElementById("mistakes-pairs").replaceChildren(...items);
    more.hidden = most >= mistakes.pairs.length;
  }

  function showClasses() {
    const opened = images ? (label) => gallery.showClasses(run, className(label), "") : null;
    classTable.replace(classScores.rows(mistakes, opened));
  }

  function showMatrix() {
    const figure = confusionMatrix.figure(mistakes, order.value, off.checked);
    matrix.style.height = `${figure.layout.height}px`;
    const width = `${confusionMatrix.width(figure)}px`;
    Object.assign(matrix.closest(".chart").style, { minWidth: `min(40rem, ${width})`, maxWidth: width });
    document.getElementById("matrix-note").textContent = confusionMatrix.note(mistakes);
    charts.change("confusion", (drawn) => Object.assign(drawn, figure));
    charts.onClick("confusion", (point) => gallery?.showClasses(run, ...confusionCell(mistakes, point)));
  }

  const { order, off } = matrixControls.elements;
  fields.follow({ "matrix-order": order, "matrix-off": off }, () => mistakes && showMatrix());
  matrixControls.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => state.change("set", { "mistakes-more": "on" }));

  near.when(count.closest("section"), async () => {
    const table = await runTable.ready;
    await choose();
    state.watch((now, before) => {
      if (runTable.shownRun(table) !== run) choose();
      else if (mistakes && now.fields["mistakes-more"] !== before.fields["mistakes-more"]) showConfusions();
    });
  });
})();
