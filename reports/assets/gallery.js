"use strict";

// The gallery of test pictures: which are shown in which order, and one of them large in a dialog.
const gallery = (() => {
  const controls = document.getElementById("gallery-controls");
  if (!controls) return null;
  const { element, percent } = pictures;
  const field = controls.elements;
  const place = document.getElementById("gallery-pictures");
  const pages = document.getElementById("gallery-pages");
  const dialog = document.getElementById("picture");
  const PER_PAGE = { over: 40, alone: 40, strips: 15 };
  const SMALL = 112; // pixels of a map beside others, about

  let look, other; // of the run that is shown, and of the one beside it, if any
  let order = []; // numbers of pictures that pass, sorted
  let page = 0;
  let opened = null; // {look, other, order, at}: the picture in the dialog, and those one goes on to from there

  const twin = (index, from = look, to = other) => to?.indexOf(pictures.fileName(from, index));
  const label = (key) => [...field.run.options].find((option) => option.value === key)?.textContent ?? "";

  function fill(select, choices, kept) {
    select.replaceChildren(...choices.map(([value, words]) => element("option", { value }, words)));
    select.value = choices.some(([value]) => String(value) === kept) ? kept : String(choices[0][0]);
  }

  async function choose() {
    const [key, beside] = [field.run.value, field.other.value];
    try {
      const found = await Promise.all([pictures.read(key), beside ? pictures.read(beside) : undefined]);
      if (key !== field.run.value || beside !== field.other.value) return; // something else was chosen meanwhile
      [look, other] = found;
    } catch (error) {
      document.getElementById("gallery-count").textContent = `These pictures cannot be read: ${error.message}.`;
      return;
    }
    const classes = look.set.classes.map((name, index) => [index, name]);
    fill(field.truth, [["", "any class"], ...classes], field.truth.value);
    fill(field.predicted, [["", "any class"], ...classes], field.predicted.value);
    const words = look.maps.map((name, index) => [index, name.startsWith("head") ? `${name} of layer ${look.headLayer}` : name]);
    fill(field.map, words, field.map.value || String(look.maps.indexOf("rollout")));
    for (const option of controls.querySelectorAll("[data-pair]")) {
      option.hidden = option.disabled = !other;
      if (!other && option.selected) option.parentElement.value = "";
    }
    select();
  }

  function select() {
    if (!look) return;
    const chosen = (name) => (field[name].value === "" ? null : Number(field[name].value));
    const [truth, predicted, least, most] = [chosen("truth"), chosen("predicted"), chosen("least"), chosen("most")];
    const wanted = field.outcome.value;
    order = [...look.predicted.keys()].filter((index) => {
      if (truth != null && look.set.labels[index] !== truth) return false;
      if (predicted != null && look.predicted[index] !== predicted) return false;
      const sure = 100 * (look.probability[index] ?? 0);
      if (sure < (least ?? 0) || sure > (most ?? 100)) return false;
      if (field.flagged.checked && !look.outliers[index]) return false;
      return !wanted || passes(wanted, index);
    });
    const keys = {
      error: (index) => look.truth[index] ?? Infinity,
      unsure: (index) => look.probability[index] ?? 0,
      sure: (index) => -(look.probability[index] ?? 0),
      change: (index) => -Math.abs((look.truth[index] ?? 0) - (other?.truth[twin(index)] ?? look.truth[index] ?? 0)),
    };
    const by = keys[field.order.value];
    if (by) order.sort((left, right) => by(left) - by(right) || left - right);
    page = 0;
    show();
  }

  function passes(wanted, index) {
    const here = pictures.outcome(look, index);
    if (wanted === "right" || wanted === "wrong") return here === wanted;
    const same = twin(index);
    if (same == null) return false;
    const there = pictures.outcome(other, same);
    if (wanted === "won") return here === "right" && there === "wrong";
    if (wanted === "lost") return here === "wrong" && there === "right";
    const names = [[look, index], [other, same]].map(([from, at]) => pictures.className(from, from.predicted[at]));
    return names[0] !== names[1];
  }

  function show(focus = null) {
    const size = PER_PAGE[field.view.value];
    const count = Math.max(1, Math.ceil(order.length / size));
    page = Math.min(Math.max(page, 0), count - 1);
    const part = order.slice(page * size, (page + 1) * size);
    place.classList.toggle("strips", field.view.value === "strips");
    place.replaceChildren(...part.map((index, number) => card(index, number === (focus ?? 0))));
    const total = look.predicted.length;
    const extent = part.length ? `${page * size + 1} to ${page * size + part.length} of ` : "";
    const filtered = order.length < total ? `, of all ${total}` : "";
    document.getElementById("gallery-count").textContent = order.length
      ? `Pictures ${extent}${order.length}${filtered}.`
      : `None of ${total} pictures is like this.`;
    pages.hidden = count < 2;
    pages.querySelector("span").textContent = `page ${page + 1} of ${count}`;
    for (const button of pages.querySelectorAll("button")) {
      const to = page + Number(button.dataset.step);
      button.disabled = to < 0 || to >= count;
    }
    document.getElementById("gallery-scale").textContent = scaleLegend();
    if (focus != null) place.children[Math.min(focus, part.length - 1)]?.focus();
  }

  function scaleLegend() {
    const even = `an even share is ${percent(1 / (look.side ** 2 + 1))} per patch`;
    const scale = field.scale.value === "own"
      ? "Each map goes from none to its own largest value"
      : `All maps go from none to ${percent(look.sharedEnd)} of the attention (or relevance) and beyond`;
    const views = {
      strips: `Strips: layers 1 to ${look.layers}, and the heads of layer ${look.headLayer}${other ? ", then those of the other run" : ""}. `,
      over: other ? `From left: picture, ${label(look.key)}, ${label(other.key)}. ` : "",
    };
    return `${views[field.view.value] ?? views.over}${scale}; ${even}.`;
  }

  // One picture of the page; a button that opens it.
  function card(index, first) {
    const same = other && twin(index);
    const label = look.set.labels[index];
    const parts = field.view.value === "strips" ? strips(index, same) : overlays(index, same);
    const truth = label < 0 ? "truth unknown" : `truth ${pictures.className(look, label)}`;
    const words = [guess(look, index)];
    if (other) words.push(same == null ? element("span", {}, "not looked at by the other") : guess(other, same));
    words.push(element("span", {}, truth));
    if (field.view.value !== "strips") words.push(element("span", { class: "ends" }, ends(index, same)));
    const named = `${pictures.description(look, index, Number(field.map.value))}${
      same == null ? "" : `; the other run: ${pictures.predictionWords(other, same)}`
    }`;
    return element(
      "button",
      { type: "button", class: "card", tabindex: first ? 0 : -1, "data-index": index, "aria-label": named },
      parts,
      ...words,
    );
  }

  // Where the scales of the maps end.
  function ends(index, same) {
    const number = Number(field.map.value);
    const here = pictures.scaleWords(look, index, number, field.scale.value);
    const there = other?.maps.indexOf(look.maps[number]) ?? -1;
    return same == null || there < 0 ? here : `${here}; ${pictures.scaleWords(other, same, there, field.scale.value)}`;
  }

  function guess(from, index) {
    const outcome = pictures.outcome(from, index);
    const mark = { right: "✓ ", wrong: "✗ " }[outcome] ?? "";
    const warning = pictures.warning(from, index);
    return element(
      "span",
      { class: `guess ${outcome}` },
      `${mark}${pictures.predictionWords(from, index)}`,
      warning ? element("span", { class: "warning", title: warning }, " ⚠") : null,
    );
  }

  function overlays(index, same) {
    const factor = pictures.factorFor(look, SMALL);
    const [number, scale, alone] = [Number(field.map.value), field.scale.value, field.view.value === "alone"];
    const row = element("span", { class: "abreast" }, pictures.photograph(look, index, look.side * factor));
    row.append(pictures.overlay(look, index, number, scale, factor, alone));
    if (same != null) {
      const name = other.maps.indexOf(look.maps[number]);
      const fitting = pictures.factorFor(other, SMALL);
      row.append(name < 0 ? element("span", {}, "no such map") : pictures.overlay(other, same, name, scale, fitting, alone));
    }
    return row;
  }

  function strips(index, same) {
    const row = element("span", { class: "abreast" });
    const factor = pictures.factorFor(look, SMALL);
    row.append(pictures.photograph(look, index, look.side * factor));
    const stack = element("span", { class: "stack" });
    for (const [from, at] of [[look, index], [other, same]]) {
      if (!from || at == null) continue;
      const small = pictures.factorFor(from, SMALL / 2);
      const scale = field.scale.value;
      stack.append(
        pictures.maps(from, at, 3, from.layers, scale, small),
        pictures.maps(from, at, 3 + from.layers, from.heads, scale, small),
      );
    }
    row.append(stack);
    return row;
  }

  // The dialog

  function open(from, beside, list, at) {
    opened = { look: from, other: beside, order: list, at };
    detail();
    if (!dialog.open) dialog.showModal();
  }

  function detail(focus = "") {
    const { look: from, other: beside, order: list, at } = opened;
    const index = list[at];
    const label = from.set.labels[index];
    const number = (step, words) =>
      element("button", { type: "button", "data-go": step, disabled: !(at + step in list) }, words);
    const scale = field.scale.value;
    const head = element(
      "header",
      {},
      element("h3", { id: "picture-title" }, pictures.fileName(from, index)),
      element(
        "p",
        { class: "abreast" },
        number(-1, "← Previous"),
        element("span", {}, `${at + 1} of ${list.length}`),
        number(1, "Next →"),
        element("button", { type: "button", "data-scale": scale, "aria-pressed": String(scale === "shared") }, "One scale for all"),
        element("button", { type: "button", "data-close": true }, "Close"),
      ),
      element("p", {}, label < 0 ? "Truth unknown." : `Truth: ${pictures.className(from, label)}.`),
    );
    const panels = element("div", { class: "looks" }, panel(from, index, 0));
    if (beside) {
      const same = twin(index, from, beside);
      const none = () => element("p", {}, `${label(beside.key)} did not look at this picture.`);
      panels.append(same == null ? none() : panel(beside, same, 1));
    }
    dialog.replaceChildren(head, panels, element("p", { class: "keys" }, "Keys: ← and → go on, Esc closes. A map that is pressed is laid over the picture."));
    if (focus) dialog.querySelector(focus)?.focus();
  }

  function panel(from, index, number) {
    const chosen = Math.min(Number(field.map.value), from.maps.length - 1);
    const scale = field.scale.value;
    const large = pictures.factorFor(from, 2 * SMALL);
    const side = large * from.side;
    const outcome = pictures.outcome(from, index);
    const shown = (box, name, words) => {
      box.setAttribute("role", "img");
      box.setAttribute("aria-label", name);
      return element("figure", {}, box, element("figcaption", {}, words));
    };
    const warning = pictures.warning(from, index);
    const truth = outcome === "wrong" ? `, ${percent(from.truth[index])} for the truth` : "";
    const made = element(
      "section",
      { class: "look" },
      element("h4", {}, label(from.key)),
      element("p", { class: `guess ${outcome}` }, `${outcome ? `${outcome}: ` : ""}${pictures.predictionWords(from, index)}${truth}`),
      warning ? element("p", { class: "warning" }, `⚠ ${warning}.`) : null,
      element(
        "div",
        { class: "abreast" },
        shown(pictures.photograph(from, index, side), pictures.description(from, index), "what the model saw"),
        shown(
          pictures.overlay(from, index, chosen, scale, large),
          pictures.description(from, index, chosen),
          `${from.maps[chosen]}: ${pictures.scaleWords(from, index, chosen, scale)}`,
        ),
      ),
    );
    const kinds = [
      ["Added up over layers", 0, 3],
      ["Each layer, mean over heads", 3, from.layers],
      [`Each head of layer ${from.headLayer}`, 3 + from.layers, from.heads],
    ];
    for (const [title, first, count] of kinds) {
      const row = element("div", { class: "abreast tiles", role: "group", "aria-label": title });
      for (let map = first; map < first + count; map++) row.append(tile(from, index, map, map === chosen, number));
      made.append(element("h5", {}, title), row);
    }
    return made;
  }

  function tile(from, index, map, pressed, panelNumber) {
    const words = pictures.scaleWords(from, index, map, field.scale.value);
    const name = map < 3 ? from.maps[map] : from.maps[map].split(" ")[1];
    return element(
      "button",
      {
        type: "button",
        class: "tile",
        "data-map": map,
        "data-panel": panelNumber,
        "aria-pressed": String(pressed),
        "aria-label": `${from.maps[map]}, ${words}`,
      },
      pictures.map(from, index, map, field.scale.value, pictures.factorFor(from, SMALL * 0.6)),
      element("span", {}, name),
      element("span", { class: "end" }, percent(from.ends[index][map])),
    );
  }

  function go(step) {
    if (!(opened.at + step in opened.order)) return;
    opened.at += step;
    detail(dialog.contains(document.activeElement) && document.activeElement.dataset.go ? `[data-go="${step}"]` : "");
  }

  // Events

  function step(event) {
    const cards = [...place.children];
    const at = cards.indexOf(document.activeElement);
    if (at < 0) return;
    const perRow = cards.filter((one) => one.offsetTop === cards[0].offsetTop).length;
    const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: perRow, ArrowUp: -perRow, Home: -at, End: cards.length - 1 - at };
    const turns = { PageDown: 1, PageUp: -1 };
    if (!(event.key in moves) && !(event.key in turns)) return;
    event.preventDefault();
    const to = at + (moves[event.key] ?? 0);
    const last = Math.ceil(order.length / PER_PAGE[field.view.value]) - 1;
    if (event.key in turns || to < 0 || to >= cards.length) {
      const by = turns[event.key] ?? (to < 0 ? -1 : 1);
      if (page + by < 0 || page + by > last) return;
      page += by;
      show(by < 0 && !(event.key in turns) ? PER_PAGE[field.view.value] - 1 : 0);
      return;
    }
    cards[at].tabIndex = -1;
    cards[to].tabIndex = 0;
    cards[to].focus();
  }

  controls.addEventListener("change", (event) => (["run", "other"].includes(event.target.name) ? choose() : select()));
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.addEventListener("reset", (event) => {
    event.preventDefault(); // the runs stay, and so does how maps are drawn
    for (const name of ["truth", "predicted", "outcome", "order"]) field[name].value = "";
    [field.least.value, field.most.value, field.flagged.checked] = ["0", "100", false];
    select();
  });
  place.addEventListener("keydown", step);
  place.addEventListener("click", (event) => {
    const pressed = event.target.closest(".card");
    if (pressed) open(look, other, order, order.indexOf(Number(pressed.dataset.index)));
  });
  pages.addEventListener("click", (event) => {
    const by = Number(event.target.dataset?.step ?? 0);
    if (!by) return;
    page += by;
    show();
    controls.scrollIntoView({ block: "start" });
  });
  dialog.addEventListener("click", (event) => {
    const pressed = event.target.closest("button");
    if (event.target === dialog || pressed?.dataset.close != null) dialog.close();
    else if (pressed?.dataset.go) go(Number(pressed.dataset.go));
    else if (pressed?.dataset.scale) {
      field.scale.value = pressed.dataset.scale === "own" ? "shared" : "own";
      show();
      detail("[data-scale]");
    } else if (pressed?.dataset.map) {
      field.map.value = pressed.dataset.map;
      show();
      detail(`[data-map="${pressed.dataset.map}"][data-panel="${pressed.dataset.panel}"]`);
    }
  });
  dialog.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    go(by);
  });
  dialog.addEventListener("close", () => {
    const index = opened?.order[opened.at];
    const at = opened?.order === order ? opened.at : -1;
    opened = null;
    if (at < 0) return;
    page = Math.floor(at / PER_PAGE[field.view.value]);
    show([...order.slice(page * PER_PAGE[field.view.value])].indexOf(index));
  });

  // Nothing is read before somebody comes near: the first view is of who won.
  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    choose();
  }, { rootMargin: "600px" }).observe(controls.closest("section"));

  return {
    label,
    has: (key) => [...field.run.options].some((option) => option.value === key),
    // One picture of a run, and those (by file) that the arrows go on to.
    async open(key, files, at) {
      if (!look) await choose();
      const from = await pictures.read(key);
      const list = files.map((file) => from.indexOf(file));
      if (list[at] != null) open(from, undefined, list.filter((index) => index != null), list.slice(0, at).filter((index) => index != null).length);
    },
    // All pictures of a run of one class that were taken for another.
    async pair(key, truth, predicted) {
      [field.run.value, field.outcome.value, field.order.value] = [key, "", ""];
      [field.least.value, field.most.value, field.flagged.checked] = ["0", "100", false];
      await choose();
      [field.truth.value, field.predicted.value] = [truth, predicted].map((name) => String(look.set.classes.indexOf(name)));
      select();
      controls.scrollIntoView({ block: "start" });
      place.firstElementChild?.focus({ preventScroll: true });
    },
  };
})();
