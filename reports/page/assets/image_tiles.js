"use strict";

// Test images and their attention maps as elements, cut by CSS out of sheets of many images. The browser loads a sheet
// when an element of it comes into view.
const tiles = (() => {
  const { element, percent } = report;
  const runs = new Map(); // key -> promise

  // A run's images: the content of data/gallery-<key>.js, with `set`: files, classes, labels and the sheets of images.
  function load(key) {
    if (!runs.has(key)) {
      const promise = report.load(`gallery-${key}`).then(async (run) => {
        const set = await report.load(run.images);
        const indices = new Map(set.files.map((file, index) => [file, index]));
        return { ...run, key, set, indexOf: (file) => indices.get(file) };
      });
      runs.set(key, promise);
    }
    return runs.get(key);
  }

  const className = (run, label) => run.set.classes[label] ?? "unknown";
  const fileName = (run, index) => run.set.files[index];

  // "right", "wrong", or "" where the label is not known.
  function outcome(run, index) {
    const label = run.set.labels[index];
    return label < 0 ? "" : label === run.predicted[index] ? "right" : "wrong";
  }

  // Pixels per patch, a whole number: the squares of a map are then equal and their edges sharp.
  const factorFor = (run, pixels) => Math.max(1, Math.round(pixels / run.side));

  function cut(box, address, width, height, left, top) {
    box.style.backgroundImage = `url("${address}")`;
    box.style.backgroundSize = `${width}px ${height}px`;
    box.style.backgroundPosition = `${-left}px ${-top}px`;
    return box;
  }

  function square(kind, side) {
    const box = element("span", { class: kind });
    box.style.width = box.style.height = `${side}px`;
    return box;
  }

  const hasImage = (run, index) => (run.set.places?.[index] ?? -1) >= 0;

  function image(run, index, side) {
    const { set } = run;
    const box = square("image", side);
    if (!hasImage(run, index)) {
      box.classList.add("missing");
      box.append("no image");
      return box;
    }
    const sheet = Math.floor(set.places[index] / set.perSheet);
    const cell = set.places[index] % set.perSheet;
    const [column, row] = [cell % set.columns, Math.floor(cell / set.columns)];
    return cut(box, set.sheets[sheet], set.columns * side, set.rows[sheet] * side, column * side, row * side);
  }

  // How many of a run's maps combine all layers; they come first, and the first stands for the others.
  const combined = (run) => run.maps.length - run.layers - run.heads;

  // Maps number `first` to `first + count - 1` of an image, side by side.
  function maps(run, index, first, count, scale, factor) {
    const pitch = (run.side + 1) * factor;
    const sheet = Math.floor(index / run.perSheet);
    const rows = Math.min(run.perSheet, run.predicted.length - sheet * run.perSheet);
    const box = square("map", run.side * factor);
    box.style.width = `${count * pitch - factor}px`;
    const top = (index % run.perSheet) * pitch;
    const sheets = scale === "above" ? run.above.sheets : run[scale];
    return cut(box, sheets[sheet], run.maps.length * pitch, rows * pitch, first * pitch, top);
  }

  const map = (run, index, number, scale, factor) => maps(run, index, number, 1, scale, factor);

  // The scale that a map has over its image: from its mean, because from 0 all of the image would be tinted.
  const overImage = (run, index, scale, alone) => (scale === "own" && !alone && hasImage(run, index) ? "above" : scale);

  // A map over its image in grey; the map alone if the image is missing, or if `alone` is set.
  function overlay(run, index, number, scale, factor, alone = false) {
    const side = run.side * factor;
    const box = square("overlay", side);
    const top = map(run, index, number, overImage(run, index, scale, alone), factor);
    if (alone || !hasImage(run, index)) top.classList.add("alone");
    else box.append(image(run, index, side));
    box.append(top);
    return box;
  }

  // The ends of a map's colour scale.
  function scaleText(run, index, number, scale) {
    const end = run.ends[index][number];
    if (scale === "above") return `${percent(run.above.from[index][number])} to ${percent(run.above.to[index][number])}`;
    if (scale === "own") return `0 to ${percent(end)}`;
    return end > run.sharedEnd ? `up to ${percent(end)}, beyond the scale` : `up to ${percent(end)}`;
  }

  function predictionText(run, index) {
    return `${percent(run.probability[index])} ${className(run, run.predicted[index])}`;
  }

  function warning(run, index) {
    const outliers = run.outliers[index];
    if (!outliers) return "";
    const [share, attention] = outliers;
    return `maps may mislead: in one layer, outliers (${percent(share)} of the patches) get ${percent(attention)} of the attention`;
  }

  // The same in words, for screen readers.
  function description(run, index, number) {
    const label = run.set.labels[index];
    const truth = label < 0 ? "" : `, truth ${className(run, label)}`;
    const what = number == null ? "" : `${run.maps[number]} over `;
    return `${what}${fileName(run, index)}: predicted ${predictionText(run, index)}${truth}`;
  }

  return {
    load, className, fileName, outcome, factorFor, image, combined, maps, map, overImage, overlay,
    scaleText, predictionText, warning, description,
  };
})();
