"use strict";

// The cards of the gallery: one test image each, with maps of the run that is shown and of the run it is compared with.
const galleryCards = (() => {
  const { element, percent } = report;
  const LARGE = 224; // of a card's image, approximate, pixels
  const SMALL = matchMedia("(max-width: 30rem)").matches ? 72 : 112;

  // `view` is what is shown: {run, other, map, scale, layout, size, label}. `run` and `other` are images of runs (`other` may
  // be undefined), `map` a map's name, `scale` own or shared, `layout` over, alone or strips, `size` small or large, `label` a function from a
  // run's key to its label.
  const sideOf = ({ size }) => (size === "large" ? LARGE : SMALL);
  const otherIndex = ({ run, other }, index) => other?.indexOf(tiles.fileName(run, index));

  // A button that opens the image; the first card of a page is the one that Tab reaches.
  function card(view, index, isFirst) {
    const { run, other, map, layout } = view;
    const twin = otherIndex(view, index);
    const label = run.set.labels[index];
    const lines = [guess(run, index)];
    if (other) lines.push(twin == null ? element("span", {}, "no maps of the other run") : guess(other, twin));
    lines.push(element("span", {}, label < 0 ? "truth unknown" : `truth ${tiles.className(run, label)}`));
    if (layout !== "strips") lines.push(element("span", { class: "ends" }, `scale ${ends(view, index, twin)}`));
    const compared = twin == null ? "" : `; the other run: ${tiles.predictionText(other, twin)}`;
    const attributes = {
      type: "button",
      class: "card",
      tabindex: isFirst ? 0 : -1,
      "data-index": index,
      "aria-label": `${tiles.description(run, index, run.maps.indexOf(map))}${compared}`,
    };
    return element("button", attributes, (layout === "strips" ? strips : overlays)(view, index, twin), ...lines);
  }

  // Where the colour scales of the maps end.
  function ends({ run, other, map, scale, layout }, index, twin) {
    const text = (shown, at, number) => tiles.scaleText(shown, at, number, tiles.overImage(shown, at, scale, layout === "alone"));
    const ownEnd = text(run, index, run.maps.indexOf(map));
    const number = other?.maps.indexOf(map) ?? -1;
    return twin == null || number < 0 ? ownEnd : `${ownEnd}; ${text(other, twin, number)}`;
  }

  function guess(run, index) {
    const outcome = tiles.outcome(run, index);
    const mark = { right: "✓ ", wrong: "✗ " }[outcome] ?? "";
    const warning = tiles.warning(run, index);
    return element(
      "span",
      { class: `guess ${outcome}` },
      `${mark}${tiles.predictionText(run, index)}`,
      warning ? element("span", { class: "warning", title: warning }, " ⚠") : null,
    );
  }

  function overlays(view, index, twin) {
    const { run, other, map, scale, layout } = view;
    const alone = layout === "alone";
    const factor = tiles.factorFor(run, sideOf(view));
    const row = element("span", { class: "abreast" }, tiles.image(run, index, run.side * factor));
    row.append(tiles.overlay(run, index, run.maps.indexOf(map), scale, factor, alone));
    if (twin != null) {
      const number = other.maps.indexOf(map);
      const overlay = () => tiles.overlay(other, twin, number, scale, tiles.factorFor(other, sideOf(view)), alone);
      row.append(number < 0 ? element("span", {}, "no such map") : overlay());
    }
    return row;
  }

  function strips(view, index, twin) {
    const { run, other, scale } = view;
    const row = element("span", { class: "abreast" }, tiles.image(run, index, run.side * tiles.factorFor(run, sideOf(view))));
    const stack = element("span", { class: "stack" });
    for (const [shown, at] of [[run, index], [other, twin]]) {
      if (!shown || at == null) continue;
      const strip = (first, count) => tiles.maps(shown, at, first, count, scale, tiles.factorFor(shown, sideOf(view) / 2));
      const combined = tiles.combined(shown);
      stack.append(strip(0, combined), strip(combined, shown.layers), strip(combined + shown.layers, shown.heads));
    }
    row.append(stack);
    return row;
  }

  // What the parts of a card are, and what their colours mean.
  function legend({ run, other, map, scale, layout, label }) {
    const even = `an even share is ${percent(1 / (run.side ** 2 + 1))} per patch`;
    const range = layout === "over"
      ? "its mean (from 0 where the page lacks the image) to its own largest value; a nearly even map's go further"
      : "0 to its own largest value";
    const scaleText = scale === "own"
      ? `Each map's colours go from ${range}`
      : `The colours of all maps go from 0 to ${percent(run.sharedEnd)} of the attention (or relevance)`;
    const parts = {
      strips: `Strips: ${run.maps.slice(0, tiles.combined(run)).join(", ")}; layers 1 to ${run.layers}; heads of layer ${run.headLayer}${other ? "; then the same of the other run" : ""}. `,
      over: other ? `From left: image; ${label(run.key)}; ${label(other.key)}. ` : "",
    };
    const score = layout !== "strips" && run.scores[map] ? ` ${map}: ${run.scores[map]}.` : "";
    return `${parts[layout] ?? parts.over}${scaleText}; ${even}.${score}`;
  }

  return { card, legend };
})();
