"use strict";

// The attention gallery: which test images are shown, in which order, page by page.
const gallery = (() => {
  const controls = document.getElementById("gallery-controls");
  if (!controls) return null;
  const field = controls.elements;
  const cards = document.getElementById("gallery-images");
  const pages = document.getElementById("gallery-pages");
  const count = document.getElementById("gallery-count");
  const PER_PAGE = { over: 40, alone: 40, strips: 15 };

  const keys = controls.dataset.runs.split(" "); // of the runs that have maps, the best first
  let table; // of all runs
  let run, other; // images of the run that is shown, and of the run it is compared with, if any
  let order = []; // indices of the images that pass the filters, sorted
  let page = 0;

  // How maps are drawn, here and in the dialog. A map is known by its name, because models differ in layers.
  const settings = {
    get map() { return field.map.value; },
    set map(name) {
      if (run.maps.includes(name)) field.map.value = name;
      show();
    },
    get scale() { return field.scale.value; },
    set scale(name) { field.scale.value = name; show(); },
  };

  const label = (key) => runTable.label(table, key);
  const chosen = () => [runTable.shownRun(table), state.now.other];
  const view = () => ({ run, other, map: settings.map, scale: settings.scale, layout: field.view.value, size: field.size.value, label });
  const otherIndex = (index) => galleryCards.otherIndex({ run, other }, index);
  const pageSize = () => PER_PAGE[field.view.value];
  const pageCount = () => Math.max(1, Math.ceil(order.length / pageSize()));

  // Replaces the options of a list. The chosen one stays chosen if the new options have its text.
  function fill(select, options, otherwise) {
    const text = select.selectedOptions[0]?.textContent;
    select.replaceChildren(...options.map(([value, words]) => report.element("option", { value }, words)));
    select.value = String((options.find(([, words]) => words === text) ?? [otherwise])[0]);
  }

  async function choose() {
    table = await runTable.ready;
    const [key, otherKey] = chosen();
    controls.hidden = !keys.includes(key);
    if (controls.hidden) {
      cards.replaceChildren();
      [pages.hidden, run] = [true, undefined];
      count.textContent = `The page has no maps of ${label(key)}. Choose another run below; the first that has them is ${label(keys[0])}.`;
      return;
    }
    try {
      const loaded = await Promise.all([tiles.load(key), keys.includes(otherKey) ? tiles.load(otherKey) : undefined]);
      if (chosen().join() !== [key, otherKey].join()) return; // the choice changed meanwhile
      [run, other] = loaded;
    } catch (error) {
      count.textContent = `These images cannot be read: ${error.message}.`;
      return;
    }
    const classes = run.set.classes.map((name, index) => [index, name]);
    fill(field.truth, [["", "any class"], ...classes], "");
    fill(field.predicted, [["", "any class"], ...classes], "");
    fill(field.map, run.maps.map((name) => [name, name.startsWith("head") ? `${name} of layer ${run.headLayer}` : name]), run.maps[0]);
    for (const option of controls.querySelectorAll("[data-pair]")) {
      option.hidden = option.disabled = !other;
      if (!other && option.selected) option.parentElement.value = "";
    }
    select();
  }

  function select() {
    if (!run) return;
    order = [...run.predicted.keys()].filter(passes);
    const keys = {
      error: (index) => run.truth[index] ?? Infinity,
      unsure: (index) => run.probability[index] ?? 0,
      sure: (index) => -(run.probability[index] ?? 0),
      change: (index) => -Math.abs((run.truth[index] ?? 0) - (other?.truth[otherIndex(index)] ?? run.truth[index] ?? 0)),
    };
    const key = keys[field.order.value];
    if (key) order.sort((left, right) => key(left) - key(right) || left - right);
    page = 0;
    show();
  }

  function passes(index) {
    const matches = (name, value) => field[name].value === "" || Number(field[name].value) === value;
    if (!matches("truth", run.set.labels[index]) || !matches("predicted", run.predicted[index])) return false;
    const probability = 100 * (run.probability[index] ?? 0);
    if (probability < Number(field.least.value || 0) || probability > Number(field.most.value || 100)) return false;
    if (field.flagged.checked && !run.outliers[index]) return false;
    return !field.outcome.value || hasOutcome(field.outcome.value, index);
  }

  function hasOutcome(expected, index) {
    const own = tiles.outcome(run, index);
    if (expected === "right" || expected === "wrong") return own === expected;
    const twin = otherIndex(index);
    if (twin == null) return false;
    const others = tiles.outcome(other, twin);
    if (expected === "won") return own === "right" && others === "wrong";
    if (expected === "lost") return own === "wrong" && others === "right";
    return tiles.className(run, run.predicted[index]) !== tiles.className(other, other.predicted[twin]);
  }

  // Draws the current page; `focus` is the place of the card that gets the focus, if any.
  function show(focus = null) {
    page = Math.min(Math.max(page, 0), pageCount() - 1);
    const first = page * pageSize();
    const part = order.slice(first, first + pageSize());
    const shown = view();
    cards.classList.toggle("strips", field.view.value === "strips");
    cards.classList.toggle("large", field.size.value === "large");
    cards.replaceChildren(...part.map((index, place) => galleryCards.card(shown, index, place === (focus ?? 0))));
    const total = run.predicted.length;
    const filtered = order.length < total ? `, filtered from ${total}` : "";
    count.textContent = order.length
      ? `Images ${first + 1} to ${first + part.length} of ${order.length}${filtered}.${withoutMaps()}${otherSet()}`
      : `None of the ${total} images passes the filters.`;
    pages.hidden = pageCount() < 2;
    pages.querySelector("span").textContent = `page ${page + 1} of ${pageCount()}`;
    for (const button of pages.querySelectorAll("button")) {
      const target = page + Number(button.dataset.step);
      button.disabled = target < 0 || target >= pageCount();
    }
    document.getElementById("gallery-scale").textContent = galleryCards.legend(shown);
    if (focus != null) cards.children[Math.min(focus, part.length - 1)]?.focus();
  }

  const withoutMaps = () => (run.tested > run.predicted.length ? ` The other ${run.tested - run.predicted.length} test images have no maps.` : "");

  // A remark where the other run has maps of other images.
  function otherSet() {
    if (!other) return state.now.other ? ` The page has no maps of ${label(state.now.other)}.` : "";
    const common = run.set.files.filter((file) => other.indexOf(file) != null).length;
    return common < run.predicted.length ? ` ${label(other.key)} has maps of ${common || "none"} of them.` : "";
  }

  function resetFilters() {
    for (const name of ["truth", "predicted", "outcome", "order"]) field[name].value = "";
    [field.least.value, field.most.value, field.flagged.checked] = ["0", "100", false];
  }

  // Arrow keys move between cards, and at an end to the next page.
  function moveFocus(event) {
    const all = [...cards.children];
    const from = all.indexOf(document.activeElement);
    if (from < 0) return;
    const perRow = all.filter((card) => card.offsetTop === all[0].offsetTop).length;
    const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: perRow, ArrowUp: -perRow, Home: -from, End: all.length - 1 - from };
    const turns = { PageDown: 1, PageUp: -1 };
    if (!(event.key in moves) && !(event.key in turns)) return;
    event.preventDefault();
    const to = from + (moves[event.key] ?? 0);
    if (event.key in turns || to < 0 || to >= all.length) {
      const by = turns[event.key] ?? (to < 0 ? -1 : 1);
      if (page + by < 0 || page + by >= pageCount()) return;
      page += by;
      show(by < 0 && !(event.key in turns) ? pageSize() - 1 : 0);
      return;
    }
    all[from].tabIndex = -1;
    all[to].tabIndex = 0;
    all[to].focus();
  }

  function openCard(event) {
    const card = event.target.closest(".card");
    if (!card) return;
    const opened = order;
    const closed = (position) => {
      if (opened !== order) return; // the filters changed meanwhile
      page = Math.floor(position / pageSize());
      show(position % pageSize());
    };
    imageView.open({ run, other, order, position: order.indexOf(Number(card.dataset.index)), settings, label, closed });
  }

  controls.addEventListener("change", select);
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.addEventListener("reset", (event) => {
    event.preventDefault(); // the runs stay chosen, and so does how maps are drawn
    resetFilters();
    select();
  });
  cards.addEventListener("keydown", moveFocus);
  cards.addEventListener("click", openCard);
  pages.addEventListener("click", (event) => {
    const by = Number(event.target.dataset?.step ?? 0);
    if (!by) return;
    page += by;
    show();
    controls.scrollIntoView({ block: "start" });
  });
  // Nothing is loaded before the section comes near: most readers first look at the leaderboard.
  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    choose();
    state.watch((now, before) => (now.run !== before.run || now.other !== before.other) && choose());
  }, { rootMargin: "600px" }).observe(controls.closest("section"));

  return {
    has: (key) => keys.includes(key),
    // Opens one image of a run; the arrows of the dialog step through `files`.
    async open(key, files, position) {
      if (!run) await choose();
      const opened = await tiles.load(key);
      const indices = files.map((file) => opened.indexOf(file));
      if (indices[position] == null) return;
      const known = indices.filter((index) => index != null);
      imageView.open({ run: opened, order: known, position: known.indexOf(indices[position]), settings, label });
    },
    // Shows a run's images of one class, or those that it predicted as another class: both are names, "" for any class.
    async showClasses(key, truth, predicted) {
      if (!keys.includes(key)) return report.notify("The page has no images of this run.");
      if (state.now.run !== key) state.change("focus", key);
      await choose();
      resetFilters();
      const option = (name) => (name ? String(run.set.classes.indexOf(name)) : "");
      [field.truth.value, field.predicted.value] = [option(truth), option(predicted)];
      select();
      controls.scrollIntoView({ block: "start" });
      return cards.firstElementChild?.focus({ preventScroll: true });
    },
  };
})();
