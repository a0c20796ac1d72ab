"use strict";

// One picture large, with all its maps, by one run or by two side by side; arrows go on to others.
const picture = (() => {
  const dialog = document.getElementById("picture");
  if (!dialog) return null;
  const { element, percent } = pictures;
  const LARGE = 224; // pixels of the picture, about
  const SMALL = 67; // and of a map beside others

  // {look, other, order, at, settings, label, closed}: the run's pictures and another's, if any; numbers of pictures to
  // go through, and the place of this one; which map is laid over it, on which scale; names of runs; what to do in the end.
  let opened = null;

  function open(what) {
    opened = what;
    show();
    if (dialog.open) return;
    dialog.showModal();
    dialog.focus();
  }

  function show() {
    const { look, other, order, at, settings, label } = opened;
    const index = order[at];
    const truth = look.set.labels[index];
    const step = (by, words) => element("button", { type: "button", "data-go": by, disabled: !(at + by in order) }, words);
    const head = element(
      "header",
      {},
      element("h3", { id: "picture-title" }, pictures.fileName(look, index)),
      element(
        "p",
        { class: "abreast" },
        step(-1, "← Previous"),
        element("span", {}, `${at + 1} of ${order.length}`),
        step(1, "Next →"),
        element("button", { type: "button", "data-scale": true, "aria-pressed": String(settings.scale === "shared") }, "One scale for all"),
        element("button", { type: "button", "data-close": true }, "Close"),
      ),
      element("p", {}, truth < 0 ? "Truth unknown." : `Truth: ${pictures.className(look, truth)}.`),
    );
    const looks = element("div", { class: "looks" }, panel(look, index, 0));
    if (other) {
      const same = other.indexOf(pictures.fileName(look, index));
      looks.append(same == null ? element("p", {}, `${label(other.key)} did not look at this picture.`) : panel(other, same, 1));
    }
    const keys = element("p", { class: "keys" }, "Keys: ← and → go on, Esc closes. A map that is pressed is laid over the picture.");
    const focus = focused();
    dialog.replaceChildren(head, looks, keys);
    // Never outside, where keys would not be heard.
    if (dialog.open) ((focus && dialog.querySelector(`${focus}:not(:disabled)`)) || dialog).focus();
  }

  // How to find the button again that has the focus, once all are new.
  function focused() {
    if (!dialog.contains(document.activeElement)) return "";
    return ["go", "scale", "map", "place"]
      .filter((name) => name in document.activeElement.dataset)
      .map((name) => `[data-${name}="${document.activeElement.dataset[name]}"]`)
      .join("");
  }

  // What one run made of the picture.
  function panel(look, index, place) {
    const { settings, label } = opened;
    const chosen = Math.max(look.maps.indexOf(settings.map), 0); // the first, where it has no such map
    const factor = pictures.factorFor(look, LARGE);
    const outcome = pictures.outcome(look, index);
    const warning = pictures.warning(look, index);
    const truth = outcome === "wrong" ? `, ${percent(look.truth[index])} for the truth` : "";
    const made = element(
      "section",
      { class: "look" },
      element("h4", {}, label(look.key)),
      element("p", { class: `guess ${outcome}` }, `${outcome ? `${outcome}: ` : ""}${pictures.predictionWords(look, index)}${truth}`),
      warning ? element("p", { class: "warning" }, `⚠ ${warning}.`) : null,
      look.blind.includes(index) ? element("p", {}, "Grey squares: values that are not finite.") : null,
      element(
        "div",
        { class: "abreast" },
        captioned(pictures.photograph(look, index, factor * look.side), pictures.description(look, index), "what the model saw"),
        captioned(
          pictures.overlay(look, index, chosen, settings.scale, factor),
          pictures.description(look, index, chosen),
          `${look.maps[chosen]}: ${pictures.scaleWords(look, index, chosen, settings.scale)}`,
        ),
      ),
    );
    const kinds = [
      ["Added up over layers", 0, 3],
      ["Each layer, mean over heads", 3, look.layers],
      [`Each head of layer ${look.headLayer}`, 3 + look.layers, look.heads],
    ];
    for (const [title, first, count] of kinds) {
      const row = element("div", { class: "abreast tiles", role: "group", "aria-label": title });
      for (let map = first; map < first + count; map++) row.append(tile(look, index, map, map === chosen, place));
      made.append(element("h5", {}, title), row);
    }
    return made;
  }

  function captioned(box, name, words) {
    box.setAttribute("role", "img");
    box.setAttribute("aria-label", name);
    return element("figure", {}, box, element("figcaption", {}, words));
  }

  // A small map; a button that lays it over the picture.
  function tile(look, index, map, pressed, place) {
    const { scale } = opened.settings;
    const attributes = {
      type: "button",
      class: "tile",
      "data-map": look.maps[map],
      "data-place": place,
      "aria-pressed": String(pressed),
      "aria-label": `${look.maps[map]}, ${pictures.scaleWords(look, index, map, scale)}`,
    };
    return element(
      "button",
      attributes,
      pictures.map(look, index, map, scale, pictures.factorFor(look, SMALL)),
      element("span", {}, map < 3 ? look.maps[map] : look.maps[map].split(" ")[1]),
      element("span", { class: "end" }, percent(look.ends[index][map])),
    );
  }

  function go(by) {
    if (!(opened.at + by in opened.order)) return;
    opened.at += by;
    show();
  }

  dialog.addEventListener("click", ({ target }) => {
    const { dataset } = target.closest("button") ?? {};
    if (target === dialog || dataset?.close != null) dialog.close();
    else if (dataset?.go) go(Number(dataset.go));
    else if (dataset?.scale != null) {
      opened.settings.scale = opened.settings.scale === "own" ? "shared" : "own";
      show();
    } else if (dataset?.map) {
      opened.settings.map = dataset.map;
      show();
    }
  });
  dialog.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    go(by);
  });
  dialog.addEventListener("close", () => opened.closed?.(opened.at));

  return { open };
})();
