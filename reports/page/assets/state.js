"use strict";

// What the reader has chosen, for the whole page: one value that is changed only by the functions in `changes`, and that
// is written to the address, so that a reload, a link and Back keep the view.
const state = (() => {
  const MOST_COMPARED = 5;
  // Names of the controls of sections, as they are in the address.
  const FIELDS = [
    ...["board-sort", "board-open", "board-columns"],
    ...["curves-colour", "curves-only", "curves-log", "curves-smooth"],
    ...["mistakes-more", "matrix-order", "matrix-off", "classes-sort"],
    ...["truth", "predicted", "outcome", "least", "most", "order", "map", "scale", "view", "size", "flagged", "page", "image"]
      .map((name) => `gallery-${name}`),
    "positions-patch",
  ];

  // Keys of settings are in `selected` and `compared`, keys of runs in `run` and `other`; "" is the page's own choice.
  const EMPTY = Object.freeze({
    at: "", // id of the section that a link led to
    selected: Object.freeze([]),
    run: "", // whose mistakes, images, position embeddings and heads are shown
    other: "", // the run it is compared with there
    view: "", // "run" or "compare" while that panel is open
    compared: Object.freeze([]),
    words: "", // of the filter
    fields: Object.freeze({}), // name of a control -> text, without those that have their standard value
  });

  // Each returns the next state and changes nothing.
  const changes = {
    toggle: (now, key) => ({
      ...now,
      selected: now.selected.includes(key) ? now.selected.filter((other) => other !== key) : [...now.selected, key],
    }),
    select: (now, keys) => ({ ...now, selected: [...new Set(keys)] }),
    focus: (now, run) => ({ ...now, run, other: now.other === run ? "" : now.other }),
    contrast: (now, other) => ({ ...now, other: other === now.run ? "" : other }),
    open: (now, run) => ({ ...changes.focus(now, run), view: "run" }),
    compare: (now, keys) => {
      const compared = [...new Set(keys)].slice(0, MOST_COMPARED);
      return compared.length > 1 ? { ...now, compared, view: "compare" } : now;
    },
    close: (now) => ({ ...now, view: "" }),
    leave: (now, { at, run = now.run, other = now.other }) => ({ ...now, view: "", at, run, other: other === run ? "" : other }),
    filter: (now, words) => ({ ...now, words }),
    visit: (now, at) => ({ ...now, at }),
    // `values`: name of a control -> text; "" is its standard value.
    set: (now, values) => ({
      ...now,
      fields: Object.fromEntries(Object.entries({ ...now.fields, ...values }).filter(([, text]) => text !== "")),
    }),
    // Without runs and settings that the page does not have, as after a link to an earlier page.
    keep: (now, { runs, settings }) => {
      const compared = now.compared.filter((key) => settings.has(key));
      const run = runs.has(now.run) ? now.run : "";
      const isOpen = now.view === "run" ? Boolean(run) : compared.length > 1;
      return {
        ...now,
        selected: now.selected.filter((key) => settings.has(key)),
        compared,
        run,
        other: runs.has(now.other) ? now.other : "",
        view: isOpen ? now.view : "",
      };
    },
  };

  // "#at=gallery&select=r1,r2&filter=lr%3D0.1"; "" for an empty state.
  function toAddress(now) {
    const parts = new URLSearchParams();
    const put = (name, value) => value && parts.set(name, value);
    put("at", now.at);
    put("select", now.selected.join(","));
    put("run", now.run);
    put("with", now.other);
    put("view", now.view);
    put("compare", now.view === "compare" ? now.compared.join(",") : "");
    put("filter", now.words);
    for (const name of FIELDS) put(name, now.fields[name]);
    const text = parts.toString().replaceAll("%2C", ",");
    return text && `#${text}`;
  }

  // Anything may stand in an address: what is not a key, an id or a known word is left out.
  function fromAddress(address) {
    const text = address.replace(/^#/, "");
    if (/^[\w-]+$/.test(text)) return { ...EMPTY, at: text }; // a link to a section: "#gallery"
    const parts = new URLSearchParams(text);
    const keys = (name) => [...new Set((parts.get(name) ?? "").split(","))].filter((key) => /^[rs][0-9a-f]{10}$/.test(key));
    const view = parts.get("view");
    const [run = ""] = keys("run");
    const [other = ""] = keys("with");
    const compared = keys("compare").slice(0, MOST_COMPARED);
    const at = parts.get("at") ?? "";
    const opened = view === "run" ? Boolean(run) : view === "compare" && compared.length > 1;
    return {
      at: /^[\w-]+$/.test(at) ? at : "",
      selected: keys("select"),
      run,
      other: other === run ? "" : other,
      view: opened ? view : "",
      compared,
      words: parts.get("filter") ?? "",
      fields: Object.fromEntries(FIELDS.map((name) => [name, parts.get(name)]).filter(([, text]) => text)),
    };
  }

  let now = fromAddress(location.hash);
  let known = null; // {runs, settings}: sets of the page's keys, once they are loaded
  const listeners = [];

  function set(next) {
    const before = now;
    now = known ? changes.keep(next, known) : next;
    for (const listener of listeners) listener(now, before);
  }

  // Applies a change by its name. `replace`: Back skips this step, as between the letters of a filter.
  function change(name, argument, { replace = false } = {}) {
    const next = changes[name](now, argument);
    const address = toAddress(next) || location.pathname + location.search;
    if (address !== (toAddress(now) || location.pathname + location.search)) {
      history[replace ? "replaceState" : "pushState"](null, "", address);
    }
    set(next);
  }

  addEventListener("popstate", () => set(fromAddress(location.hash)));

  return {
    EMPTY, MOST_COMPARED, FIELDS, changes, toAddress, fromAddress, change,
    get now() { return now; },
    know(keys) {
      known = keys;
      set(now);
    },
    // The listener gets the state and the one before; it is called at once, too.
    watch(listener) {
      listeners.push(listener);
      listener(now, EMPTY);
    },
  };
})();
