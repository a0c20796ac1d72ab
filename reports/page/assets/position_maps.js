"use strict";

// Position embeddings of a run as maps that follow the pointer: how similar each patch is to all others, before and after.
// Rows and columns are counted from 0 here and from 1 in texts.
const positionMaps = (() => {
  const { element } = report;
  // viridis at equal steps: perceptually uniform, and distinct with any colour vision.
  const COLOURS = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"]
    .map((colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)));
  const WHEN = ["before", "after"];
  const MISSING = [128, 128, 128, 255];

  // A share from 0 to 1 as a colour; null: not finite.
  function coloured(share) {
    if (share === null) return MISSING;
    const place = Math.min(Math.max(share, 0), 1) * (COLOURS.length - 1);
    const low = Math.min(Math.floor(place), COLOURS.length - 2);
    return [...COLOURS[low].map((part, channel) => Math.round(part + (place - low) * (COLOURS[low + 1][channel] - part))), 255];
  }

  // Cosines of the bytes that Python wrote: 0 is -1, 254 is 1, 255 is not finite.
  const decoded = (text) => Array.from(atob(text), (letter) => (letter === "\xff" ? null : letter.charCodeAt(0) / 127 - 1));

  function read({ side, step, tiles, token, moved }) {
    return { side, step, tiles: tiles.map(decoded), token: token.map(decoded), moved, perRow: Math.ceil((side - Math.floor(step / 2)) / step) };
  }

  // Number of the tile next to a patch.
  function tileOf({ side, step, perRow }, row, column) {
    const nearest = (place) => Math.min(Math.max(Math.round((Math.min(place, side - 1) - Math.floor(step / 2)) / step), 0), perRow - 1);
    return { row: nearest(row), column: nearest(column), number: nearest(row) * perRow + nearest(column) };
  }

  // The patch that a tile belongs to.
  const patchOf = ({ step }, { row, column }) => ({ row: Math.floor(step / 2) + row * step, column: Math.floor(step / 2) + column * step });

  const canvas = (cells, name) => element("canvas", { width: cells, height: cells, role: "img", "aria-label": name });

  // Cells (null is not finite) as pixels of a canvas, side by side; `share` makes a share of a colour scale of a value.
  function paint(made, values, share) {
    const context = made.getContext("2d");
    const pixels = context.createImageData(made.width, made.height);
    values.forEach((value, place) => pixels.data.set(coloured(value === null ? null : share(value)), 4 * place));
    context.putImageData(pixels, 0, 0);
  }

  const ofCosine = (value) => (value + 1) / 2;

  // All tiles side by side, with a transparent line between them.
  function paintTiles(made, { side, perRow }, tiles) {
    const context = made.getContext("2d");
    const pixels = context.createImageData(made.width, made.height);
    tiles.forEach((value, place) => {
      const [tile, patch] = [Math.floor(place / side ** 2), place % side ** 2];
      const y = Math.floor(tile / perRow) * (side + 1) + Math.floor(patch / side);
      const x = (tile % perRow) * (side + 1) + (patch % side);
      pixels.data.set(coloured(value === null ? null : ofCosine(value)), 4 * (y * made.width + x));
    });
    context.putImageData(pixels, 0, 0);
  }

  // The cell of a grid that the pointer is on.
  function cellAt(event, cells) {
    const box = event.target.getBoundingClientRect();
    const place = (offset, size) => Math.min(Math.max(Math.floor((offset / size) * cells), 0), cells - 1);
    return { row: place(event.clientY - box.top, box.height), column: place(event.clientX - box.left, box.width) };
  }

  const named = ({ row, column }) => `row ${row + 1}, column ${column + 1}`;
  const digits = (value) => (value === null ? "not finite" : value.toFixed(2));

  // All patches before and after, and how far each one moved: canvases with their captions.
  function overview(run, label) {
    const all = WHEN.map((when) => canvas(run.perRow * (run.side + 1) - 1, `All patches ${when}: ${label}`));
    const moved = canvas(run.side, `Movement of each patch: ${label}`);
    const most = Math.max(...run.moved.filter((value) => value !== null), 0);
    WHEN.forEach((_, place) => paintTiles(all[place], run, run.tiles[place]));
    paint(moved, run.moved, (value) => value / (most || 1));
    return { all, moved, captions: [...WHEN, `movement, 0 to ${Number(most.toPrecision(2))}`] };
  }

  // The same as an element: one run of many.
  function summary(content, label) {
    const { all, moved, captions } = overview(read(content), label);
    return element("div", { class: "position-maps" }, element("div", { class: "pair three" }, ...captioned([...all, moved], captions)));
  }

  // Elements of a run's maps. `choose` is called with {row, column} when the reader chooses a patch. Returns
  // {element, show}: `show` draws the maps of a patch.
  function explorer(content, label, choose) {
    const run = read(content);
    const { side, perRow } = run;
    const { all, moved, captions } = overview(run, label);
    const [one, token] = ["The chosen patch", "The class token"].map((what) => WHEN.map((when) => canvas(side, `${what} ${when}: ${label}`)));
    const status = element("p", { class: "soft", role: "status" });
    let tile = tileOf(run, 0, 0);
    WHEN.forEach((_, place) => paint(token[place], run.token[place], ofCosine));

    const cosines = (place) => run.tiles[place].slice(tile.number * side ** 2, (tile.number + 1) * side ** 2);
    const describe = (at) => (status.textContent = described(run, tile, at, WHEN.map((_, place) => cosines(place))));

    function show(row, column) {
      tile = tileOf(run, row, column);
      WHEN.forEach((_, place) => paint(one[place], cosines(place), ofCosine));
      describe();
    }

    const chooser = element("div", { class: "pair", tabindex: 0, role: "group", "aria-label": `Patches of ${label}: arrow keys choose one` }, ...captioned(all, WHEN));
    followPointer(all, perRow, (at) => (at.row !== tile.row || at.column !== tile.column) && choose(patchOf(run, at)));
    followKeys(chooser, perRow, () => tile, (at) => choose(patchOf(run, at)));
    followPointer([...one, ...token, moved], side, describe);
    // A finger leaves a map when it is lifted: the numbers of a tap stay.
    for (const map of [...one, ...token, moved]) map.addEventListener("pointerleave", ({ pointerType }) => pointerType !== "touch" && describe());
    const body = element("div", { class: "position-maps" },
      element("h5", {}, "All patches: a tile for each"), chooser,
      element("h5", {}, "The chosen patch with every patch"), element("div", { class: "pair" }, ...captioned(one, WHEN)), status,
      element("h5", {}, "The class token with every patch; movement of every patch"),
      element("div", { class: "pair three" }, ...captioned([...token, moved], captions)));
    return { element: body, show };
  }

  // What the maps of a tile show, and at a patch that the pointer is on.
  function described(run, tile, at, cosines) {
    const chosen = `Patch in ${named(patchOf(run, tile))}`;
    if (!at) return `${chosen}.`;
    const place = at.row * run.side + at.column;
    const pair = (values) => values.map((of, when) => `${digits(of[place])} ${WHEN[when]}`).join(", ");
    return `${chosen}; with the patch in ${named(at)}: ${pair(cosines)}. `
      + `Class token there: ${pair(run.token)}. Moved by ${digits(run.moved[place])}.`;
  }

  // A tap sends no pointermove.
  function followPointer(canvases, cells, action) {
    for (const each of canvases) {
      for (const type of ["pointerdown", "pointermove"]) each.addEventListener(type, (event) => action(cellAt(event, cells)));
    }
  }

  function followKeys(target, cells, from, action) {
    const moves = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] };
    const within = (place) => Math.min(Math.max(place, 0), cells - 1);
    target.addEventListener("keydown", (event) => {
      const move = moves[event.key];
      if (!move) return;
      event.preventDefault();
      action({ row: within(from().row + move[0]), column: within(from().column + move[1]) });
    });
  }

  const captioned = (canvases, captions) => canvases.map((each, place) =>
    element("figure", {}, each, element("figcaption", {}, captions[place])));

  return { summary, explorer, read, tileOf, patchOf, coloured };
})();
