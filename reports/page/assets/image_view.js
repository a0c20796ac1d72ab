"use strict";

// A dialog with one image and all its maps, of one run or of two runs side by side.
const imageView = (() => {
  const dialog = document.getElementById("image-view");
  if (!dialog) return null;
  const { element, percent } = report;
  const LARGE = 224; // approximate side of the image, pixels
  const SMALL = 67; // the same of a map in a row

  // {run, other, order, position, settings, label, shown, closed}: the run's images, and those of another run or undefined;
  // indices of the images to step through, and the position of this one in them; name and scale of the map that is laid
  // over the image; a function from a run's key to its label; functions that are called with the position when an image
  // is shown (and whether the dialog was closed) and when the dialog closes, if any.
  let state = null;

  function open(opened) {
    state = opened;
    show();
    const isFirst = !dialog.open;
    if (isFirst) {
      dialog.showModal();
      dialog.focus();
    }
    state.shown?.(state.position, isFirst);
  }

  function show() {
    const focus = focusedButton();
    dialog.replaceChildren(
      heading(),
      comparison(),
      element("p", { class: "keys" }, "Keys: ← previous image, → next image, Esc closes. Press a map to lay it over the image."),
    );
    // The focus stays inside the dialog, where its keys work.
    if (dialog.open) ((focus && dialog.querySelector(`${focus}:not(:disabled)`)) || dialog).focus();
  }

  function heading() {
    const { run, order, position, settings } = state;
    const index = order[position];
    const label = run.set.labels[index];
    const step = (by, text) => element("button", { type: "button", "data-step": by, disabled: !(position + by in order) }, text);
    return element(
      "header",
      {},
      element("h3", { id: "image-title" }, tiles.fileName(run, index)),
      element(
        "p",
        { class: "abreast" },
        step(-1, "← Previous"),
        element("span", {}, `${position + 1} of ${order.length}`),
        step(1, "Next →"),
        element("button", { type: "button", "data-scale": true, "aria-pressed": String(settings.scale === "shared") }, "One scale for all maps"),
        element("button", { type: "button", "data-close": true }, "Close"),
      ),
      element("p", {}, label < 0 ? "Truth unknown." : `Truth: ${tiles.className(run, label)}.`),
    );
  }

  function comparison() {
    const { run, other, order, position, label } = state;
    const index = order[position];
    const panels = element("div", { class: "run-panels" }, panel(run, index, 0));
    if (other) {
      const otherIndex = other.indexOf(tiles.fileName(run, index));
      const missing = () => element("p", {}, `${label(other.key)} has no maps of this image.`);
      panels.append(otherIndex == null ? missing() : panel(other, otherIndex, 1));
    }
    return panels;
  }

  // A selector of the focused button, which finds it again after all buttons were replaced.
  function focusedButton() {
    if (!dialog.contains(document.activeElement)) return "";
    return ["step", "scale", "map", "side"]
      .filter((name) => name in document.activeElement.dataset)
      .map((name) => `[data-${name}="${document.activeElement.dataset[name]}"]`)
      .join("");
  }

  // Prediction and maps of one run; `side` is 0 on the left, 1 on the right.
  function panel(run, index, side) {
    const { settings, label } = state;
    const chosen = Math.max(run.maps.indexOf(settings.map), 0); // the first map, where the model has no such one
    const factor = tiles.factorFor(run, LARGE);
    const outcome = tiles.outcome(run, index);
    const warning = tiles.warning(run, index);
    const truth = outcome === "wrong" ? `, ${percent(run.truth[index])} for the truth` : "";
    const made = element(
      "section",
      { class: "run-panel" },
      element("h4", {}, label(run.key)),
      element("p", { class: `guess ${outcome}` }, `${outcome ? `${outcome}: ` : ""}${tiles.predictionText(run, index)}${truth}`),
      warning ? element("p", { class: "warning" }, `⚠ ${warning}.`) : null,
      run.notFinite.includes(index) ? element("p", {}, "Grey squares: values that are not finite.") : null,
      element(
        "div",
        { class: "abreast" },
        captioned(tiles.image(run, index, factor * run.side), tiles.description(run, index), "the model's input"),
        captioned(
          tiles.overlay(run, index, chosen, settings.scale, factor),
          tiles.description(run, index, chosen),
          [`${run.maps[chosen]}: ${tiles.scaleText(run, index, chosen, tiles.overImage(run, index, settings.scale, false))}`, run.scores[run.maps[chosen]]].filter(Boolean).join("; "),
        ),
      ),
    );
    const combined = tiles.combined(run);
    const groups = [
      ["Combined over layers", 0, combined],
      ["Each layer, mean over heads", combined, run.layers],
      [`Each head of layer ${run.headLayer}`, combined + run.layers, run.heads],
    ];
    for (const [title, first, count] of groups) {
      const row = element("div", { class: "abreast tiles", role: "group", "aria-label": title });
      for (let map = first; map < first + count; map++) row.append(mapButton(run, index, map, map === chosen, side));
      made.append(element("h5", {}, title), row);
    }
    return made;
  }

  function captioned(box, name, caption) {
    box.setAttribute("role", "img");
    box.setAttribute("aria-label", name);
    return element("figure", {}, box, element("figcaption", {}, caption));
  }

  // A small map; pressing it lays it over the image.
  function mapButton(run, index, map, pressed, side) {
    const { scale } = state.settings;
    const attributes = {
      type: "button",
      class: "tile",
      "data-map": run.maps[map],
      "data-side": side,
      "aria-pressed": String(pressed),
      "aria-label": `${run.maps[map]}, ${tiles.scaleText(run, index, map, scale)}`,
    };
    return element(
      "button",
      attributes,
      tiles.map(run, index, map, scale, tiles.factorFor(run, SMALL)),
      element("span", {}, map < tiles.combined(run) ? run.maps[map] : run.maps[map].split(" ")[1]),
      element("span", { class: "end" }, percent(run.ends[index][map])),
    );
  }

  function step(by) {
    if (!(state.position + by in state.order)) return;
    state.position += by;
    show();
    state.shown?.(state.position, false);
  }

  dialog.addEventListener("click", ({ target }) => {
    const { dataset } = target.closest("button") ?? {};
    if (dataset?.close != null) dialog.close();
    else if (dataset?.step) step(Number(dataset.step));
    else if (dataset?.scale != null) {
      state.settings.scale = state.settings.scale === "own" ? "shared" : "own";
      show();
    } else if (dataset?.map) {
      state.settings.map = dataset.map;
      show();
    }
  });
  report.closeBeside(dialog);
  dialog.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    step(by);
  });
  dialog.addEventListener("close", () => state.closed?.(state.position));

  return {
    open,
    close: () => dialog.open && dialog.close(),
    // The name of the image that is shown to the gallery; "" while the dialog is closed.
    file: () => (dialog.open && state.shown ? tiles.fileName(state.run, state.order[state.position]) : ""),
  };
})();
