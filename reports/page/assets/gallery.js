"use strict";

// The attention gallery: which test images are shown, in which order, page by page.
const gallery = (() => {
  const controls = document.getElementById("gallery-controls");
  if (!controls) return null;
  const field = controls.elements;
  const FILTERS = ["truth", "predicted", "outcome", "least", "most", "order", "flagged"];
  const NAMES = [...FILTERS, "map", "scale", "view", "size"]; // of all fields
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
    set map(name) { change({ map: name === run?.maps[0] ? "" : name }); },
    get scale() { return field.scale.value; },
    set scale(name) { change({ scale: name === "own" ? "" : name }); },
  };

  // What is chosen here is in the address: `values` are texts by name, "" for what the page has by itself.
  const kept = (name) => state.now.fields[`gallery-${name}`];
  const change = (values, options) =>
    state.change("set", Object.fromEntries(Object.entries(values).map(([name, text]) => [`gallery-${name}`, text])), options);

  const label = (key) => runTable.label(table, key);
  const chosen = () => [runTable.shownRun(table), state.now.other];
  const view = () => ({ run, other, map: settings.map, scale: settings.scale, layout: field.view.value, size: field.size.value, label });
  const pageSize = () => PER_PAGE[field.view.value];
  const pageCount = () => Math.max(1, Math.ceil(order.length / pageSize()));

  const fill = (select, options) =>
    select.replaceChildren(...options.map(([value, text]) => report.element("option", { value }, text)));

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
    const classes = run.set.classes.map((name) => [name, name]);
    fill(field.truth, [["", "any class"], ...classes]);
    fill(field.predicted, [["", "any class"], ...classes]);
    fill(field.map, run.maps.map((name) => [name, name.startsWith("head") ? `${name} of layer ${run.headLayer}` : name]));
    for (const option of controls.querySelectorAll("[data-pair]")) option.hidden = option.disabled = !other;
    select();
  }

  // Shows what the address says.
  function select() {
    if (!run) return;
    for (const name of NAMES) {
      fields.write(field[name], kept(name));
      if (field[name].selectedOptions?.[0]?.disabled) field[name].value = ""; // it needs another run
    }
    const { truth, predicted, outcome, least, most, flagged } = field;
    order = galleryFilter.order(run, other, {
      truth: truth.value, predicted: predicted.value, outcome: outcome.value, order: field.order.value,
      least: Number(least.value || 0), most: Number(most.value || 100), flagged: flagged.checked,
    });
    page = (Number.parseInt(kept("page") ?? "", 10) || 1) - 1;
    show();
    openKept();
  }

  // Draws the current page.
  function show() {
    page = Math.min(Math.max(page, 0), pageCount() - 1);
    const first = page * pageSize();
    const part = order.slice(first, first + pageSize());
    const shown = view();
    cards.classList.toggle("strips", field.view.value === "strips");
    cards.classList.toggle("large", field.size.value === "large");
    cards.replaceChildren(...part.map((index, place) => galleryCards.card(shown, index, place === 0)));
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
  }

  function turnTo(target) {
    if (target === page) return;
    change({ page: target ? String(target + 1) : "" });
  }

  function focusOn(card) {
    for (const other of cards.children) other.tabIndex = other === card ? 0 : -1;
    card?.focus();
  }

  const withoutMaps = () => (run.tested > run.predicted.length ? ` The other ${run.tested - run.predicted.length} test images have no maps.` : "");

  // A remark where the other run has maps of other images.
  function otherSet() {
    if (!other) return state.now.other ? ` The page has no maps of ${label(state.now.other)}.` : "";
    const common = run.set.files.filter((file) => other.indexOf(file) != null).length;
    return common < run.predicted.length ? ` ${label(other.key)} has maps of ${common || "none"} of them.` : "";
  }

  const noFilters = { ...Object.fromEntries(FILTERS.map((name) => [name, ""])), page: "" };

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
      turnTo(page + by);
      focusOn(by < 0 && !(event.key in turns) ? cards.lastElementChild : cards.firstElementChild);
      return;
    }
    focusOn(all[to]);
  }

  // The opened image, too, is in the address. `order` are the images that the arrows of the dialog step through.
  function open(opened, steps, position) {
    const file = (place) => opened.run.set.files[steps[place]];
    imageView.open({
      ...opened, order: steps, position, settings, label,
      shown: (place, isFirst) => change({ image: file(place) }, { replace: !isFirst }),
      closed: (place) => {
        const target = Math.floor(place / pageSize());
        const isSame = steps === order; // else the filters changed meanwhile, or another section opened it
        if (kept("image")) change({ image: "", ...(isSame ? { page: target ? String(target + 1) : "" } : {}) }); // else Back closed it
        if (isSame && target === page) focusOn(cards.children[place % pageSize()]);
      },
    });
  }

  function openKept() {
    const file = kept("image") ?? "";
    if (file === imageView.file()) return;
    const index = run.indexOf(file);
    if (index == null) return imageView.close();
    const place = order.indexOf(index);
    open({ run, other }, place < 0 ? [index] : order, Math.max(place, 0));
  }

  controls.addEventListener("change", ({ target }) => change({ [target.name]: fields.read(target), page: "" }));
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.addEventListener("reset", (event) => {
    event.preventDefault(); // the runs stay chosen, and so does how maps are drawn
    change(noFilters);
  });
  cards.addEventListener("keydown", moveFocus);
  cards.addEventListener("click", ({ target }) => {
    const card = target.closest(".card");
    if (card) open({ run, other }, order, order.indexOf(Number(card.dataset.index)));
  });
  pages.addEventListener("click", (event) => {
    const by = Number(event.target.dataset?.step ?? 0);
    if (!by) return;
    turnTo(page + by);
    controls.scrollIntoView({ block: "start" });
  });
  // Nothing is loaded before the section comes near, unless the address has an image: most readers first look at the
  // leaderboard.
  let begun = null;
  const begin = () => (begun ??= start());

  function start() {
    state.watch((now, before) => {
      const differs = (name) => now.fields[`gallery-${name}`] !== before.fields[`gallery-${name}`];
      if (now.run !== before.run || now.other !== before.other) choose();
      else if ([...NAMES, "page"].some(differs)) select();
      else if (differs("image")) openKept();
    });
    return choose();
  }
  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    begin();
  }, { rootMargin: "600px" }).observe(controls.closest("section"));
  if (kept("image")) addEventListener("load", begin);

  return {
    has: (key) => keys.includes(key),
    // Opens one image of a run; the arrows of the dialog step through `files`.
    async open(key, files, position) {
      await begin();
      const opened = await tiles.load(key);
      const indices = files.map((file) => opened.indexOf(file));
      if (indices[position] == null) return;
      const known = indices.filter((index) => index != null);
      open({ run: opened }, known, known.indexOf(indices[position]));
    },
    // Shows a run's images of one class, or those that it predicted as another class: both are names, "" for any class.
    async showClasses(key, truth, predicted) {
      if (!keys.includes(key)) return report.notify("The page has no images of this run.");
      await begin();
      if (state.now.run !== key) state.change("focus", key);
      change({ ...noFilters, truth, predicted });
      await choose();
      controls.scrollIntoView({ block: "start" });
      return cards.firstElementChild?.focus({ preventScroll: true });
    },
  };
})();
