"use strict";

// The gallery of test pictures: which are shown, in which order, and how.
const gallery = (() => {
  const controls = document.getElementById("gallery-controls");
  if (!controls) return null;
  const { element, percent } = pictures;
  const field = controls.elements;
  const place = document.getElementById("gallery-pictures");
  const pages = document.getElementById("gallery-pages");
  const PER_PAGE = { over: 40, alone: 40, strips: 15 };
  const SMALL = matchMedia("(max-width: 30rem)").matches ? 72 : 112; // pixels of a map beside others, about

  let look, other; // of the run that is shown, and of the one beside it, if any
  let order = []; // numbers of pictures that pass, sorted
  let page = 0;

  // How maps are drawn, here and of the picture that is opened; a map by its name, for models differ in layers.
  const settings = {
    get map() { return field.map.value; },
    set map(name) {
      if (look.maps.includes(name)) field.map.value = name;
      show();
    },
    get scale() { return field.scale.value; },
    set scale(name) { field.scale.value = name; show(); },
  };

  const twin = (index) => other?.indexOf(pictures.fileName(look, index));
  const label = (key) => [...field.run.options].find((option) => option.value === key)?.textContent ?? "";

  // Other choices; what was chosen stays, by its words, where it is among them.
  function fill(select, choices, otherwise) {
    const before = select.selectedOptions[0]?.textContent;
    select.replaceChildren(...choices.map(([value, words]) => element("option", { value }, words)));
    select.value = String((choices.find(([, words]) => words === before) ?? [otherwise])[0]);
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
    fill(field.truth, [["", "any class"], ...classes], "");
    fill(field.predicted, [["", "any class"], ...classes], "");
    fill(field.map, look.maps.map((name) => [name, name.startsWith("head") ? `${name} of layer ${look.headLayer}` : name]), "rollout");
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
      ? `Pictures ${extent}${order.length}${filtered}.${apart()}`
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

  // What is to be known of two runs that looked at other pictures.
  function apart() {
    if (!other) return "";
    const common = look.set.files.filter((file) => other.indexOf(file) != null).length;
    return common < look.predicted.length ? ` ${label(other.key)} looked at ${common || "none"} of all.` : "";
  }

  function scaleLegend() {
    const even = `an even share is ${percent(1 / (look.side ** 2 + 1))} per patch`;
    const scale = field.scale.value === "own"
      ? "Each map goes from none to its own largest value"
      : `All maps go from none to ${percent(look.sharedEnd)} of the attention (or relevance) and beyond`;
    const views = {
      strips: `Strips: ${look.maps.slice(0, 3).join(", ")}; layers 1 to ${look.layers}; heads of layer ${look.headLayer}${other ? "; then the other run's" : ""}. `,
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
    const named = `${pictures.description(look, index, look.maps.indexOf(settings.map))}${
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
    const number = look.maps.indexOf(settings.map);
    const here = pictures.scaleWords(look, index, number, field.scale.value);
    const there = other?.maps.indexOf(settings.map) ?? -1;
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
    const [number, scale, alone] = [look.maps.indexOf(settings.map), settings.scale, field.view.value === "alone"];
    const row = element("span", { class: "abreast" }, pictures.photograph(look, index, look.side * factor));
    row.append(pictures.overlay(look, index, number, scale, factor, alone));
    if (same != null) {
      const there = other.maps.indexOf(settings.map);
      const fitting = pictures.factorFor(other, SMALL);
      row.append(there < 0 ? element("span", {}, "no such map") : pictures.overlay(other, same, there, scale, fitting, alone));
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
      const strip = (first, count) => pictures.maps(from, at, first, count, settings.scale, small);
      stack.append(strip(0, 3), strip(3, from.layers), strip(3 + from.layers, from.heads));
    }
    row.append(stack);
    return row;
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
    if (!pressed) return;
    const list = order;
    const closed = (at) => {
      if (list !== order) return; // others are shown by now
      page = Math.floor(at / PER_PAGE[field.view.value]);
      show(at % PER_PAGE[field.view.value]);
    };
    picture.open({ look, other, order, at: order.indexOf(Number(pressed.dataset.index)), settings, label, closed });
  });
  pages.addEventListener("click", (event) => {
    const by = Number(event.target.dataset?.step ?? 0);
    if (!by) return;
    page += by;
    show();
    controls.scrollIntoView({ block: "start" });
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
      if (list[at] == null) return;
      const there = list.filter((index) => index != null);
      picture.open({ look: from, order: there, at: there.indexOf(list[at]), settings, label });
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
