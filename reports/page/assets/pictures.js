"use strict";

// Test pictures and their maps as elements, cut by CSS out of sheets of many. Sheets are read when they come into view.
const pictures = (() => {
  const looks = new Map();

  // A run's pictures: what data/gallery-<key>.js holds, with `set`, its files, classes, labels and photographs.
  function read(key) {
    if (!looks.has(key)) {
      const found = report.load(`gallery-${key}`).then(async (look) => {
        const set = await report.load(look.pictures);
        const places = new Map(set.files.map((file, index) => [file, index]));
        return { ...look, key, set, indexOf: (file) => places.get(file) };
      });
      looks.set(key, found);
    }
    return looks.get(key);
  }

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === true) made.setAttribute(name, "");
      else if (value !== false && value != null) made.setAttribute(name, value);
    }
    made.append(...children.filter((child) => child != null));
    return made;
  }

  function percent(share) {
    return share == null ? "unknown" : `${Number((100 * share).toPrecision(3))} %`;
  }

  const className = (look, index) => look.set.classes[index] ?? "unknown";
  const fileName = (look, index) => look.set.files[index];

  // "right", "wrong", or "" where the truth is not known.
  function outcome(look, index) {
    const label = look.set.labels[index];
    return label < 0 ? "" : label === look.predicted[index] ? "right" : "wrong";
  }

  // Whole pixels for every patch: a map has one value each, and edges that are sharp.
  const factorFor = (look, pixels) => Math.max(1, Math.round(pixels / look.side));

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

  function photograph(look, index, side) {
    const { set } = look;
    const place = set.places?.[index] ?? -1;
    const box = square("photograph", side);
    if (place < 0) {
      box.classList.add("missing");
      box.append("no picture");
      return box;
    }
    const sheet = Math.floor(place / set.perSheet);
    const within = place % set.perSheet;
    const [left, top] = [within % set.columns, Math.floor(within / set.columns)];
    return cut(box, set.sheets[sheet], set.columns * side, set.rows[sheet] * side, left * side, top * side);
  }

  // Maps number `first` to `first + count - 1` of a picture, side by side.
  function maps(look, index, first, count, scale, factor) {
    const pitch = (look.side + 1) * factor;
    const sheet = Math.floor(index / look.perSheet);
    const rows = Math.min(look.perSheet, look.predicted.length - sheet * look.perSheet);
    const box = square("map", look.side * factor);
    box.style.width = `${count * pitch - factor}px`;
    const top = (index % look.perSheet) * pitch;
    return cut(box, look[scale][sheet], look.maps.length * pitch, rows * pitch, first * pitch, top);
  }

  const map = (look, index, number, scale, factor) => maps(look, index, number, 1, scale, factor);

  // A map over its photograph in grey; alone where there is none, or where that is wanted.
  function overlay(look, index, number, scale, factor, alone = false) {
    const side = look.side * factor;
    const box = square("overlay", side);
    const over = map(look, index, number, scale, factor);
    if (alone || (look.set.places?.[index] ?? -1) < 0) over.classList.add("alone");
    else box.append(photograph(look, index, side));
    box.append(over);
    return box;
  }

  function scaleWords(look, index, number, scale) {
    const end = look.ends[index][number];
    if (scale === "own") return `0 to ${percent(end)}`;
    return end > look.sharedEnd ? `up to ${percent(end)}, beyond the scale` : `up to ${percent(end)}`;
  }

  function predictionWords(look, index) {
    return `${percent(look.probability[index])} ${className(look, look.predicted[index])}`;
  }

  function warning(look, index) {
    const found = look.outliers[index];
    if (!found) return "";
    return `maps may mislead: ${percent(found[1])} of one layer's attention is on outliers, ${percent(found[0])} of the patches`;
  }

  // For those who do not see it.
  function description(look, index, number) {
    const label = look.set.labels[index];
    const truth = label < 0 ? "" : `, truth ${className(look, label)}`;
    const what = number == null ? "" : `${look.maps[number]} over `;
    return `${what}${fileName(look, index)}: predicted ${predictionWords(look, index)}${truth}`;
  }

  return {
    read, element, percent, className, fileName, outcome, factorFor, photograph, maps, map, overlay,
    scaleWords, predictionWords, warning, description,
  };
})();
