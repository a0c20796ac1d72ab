"use strict";

// Shared by the page's scripts: data, the theme, copying. Text from runs is only ever set as text.
const report = (() => {
  const root = document.documentElement;

  // ---- Data. It is loaded as scripts: a page that was opened from a file may not fetch.

  const values = new Map(); // name -> {promise, resolve}

  function script(address) {
    return new Promise((resolve, reject) => {
      const element = document.createElement("script");
      element.src = address;
      element.onload = () => {
        element.remove();
        resolve();
      };
      element.onerror = () => {
        element.remove();
        reject(new Error(`${address} cannot be read`));
      };
      document.head.append(element);
    });
  }

  // The value that was written as data/<name>.js; the file is read on the first call.
  function load(name, query = "") {
    if (!values.has(name)) {
      const entry = {};
      entry.promise = new Promise((resolve, reject) => {
        entry.resolve = resolve;
        script(`data/${encodeURIComponent(name)}.js${query}`).catch(reject);
      });
      values.set(name, entry);
    }
    return values.get(name).promise;
  }

  // The value as it is now, of a page that is built again while it is open.
  function loadAgain(name) {
    values.delete(name);
    return load(name, `?${Date.now()}`);
  }

  // Called by the data scripts.
  function deliver(name, value) {
    values.get(name)?.resolve(value);
  }

  // ---- Elements. Children that are null are left out; text is text, whatever it holds. A function listens to the event of
  // its name.

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === "function") made.addEventListener(name, value);
      else if (value === true) made.setAttribute(name, "");
      else if (value !== false && value != null) made.setAttribute(name, value);
    }
    made.append(...children.filter((child) => child != null));
    return made;
  }

  // A press beside an open dialog closes it; one between its parts does not, nor one that began inside, to select text.
  function closeBeside(dialog) {
    const isBeside = ({ target, clientX, clientY }) => {
      const { left, right, top, bottom } = dialog.getBoundingClientRect();
      return target === dialog && !(clientX >= left && clientX <= right && clientY >= top && clientY <= bottom);
    };
    let beganBeside = false;
    dialog.addEventListener("pointerdown", (event) => (beganBeside = isBeside(event)));
    dialog.addEventListener("click", (event) => beganBeside && isBeside(event) && dialog.close());
  }

  // Below 1, it does not round to 1: a score with an error is not perfect.
  function score(value, digits) {
    return (value < 1 ? Math.min(value, 1 - 10 ** -digits) : value).toFixed(digits);
  }

  function percent(share) {
    return share == null ? "unknown" : `${Number((100 * share).toPrecision(3))} %`;
  }

  // ---- Theme: the system's until the reader chooses one.

  const THEMES = ["auto", "light", "dark"];
  const listeners = [];

  function stored(name, value) {
    try {
      if (value === undefined) return localStorage.getItem(name);
      localStorage.setItem(name, value);
    } catch {
      // Some browsers store nothing for files: the choice then lasts until the page is closed.
    }
    return null;
  }

  function themeChanged() {
    for (const listener of listeners) listener();
  }

  function setTheme(theme) {
    root.dataset.theme = theme;
    stored("report-theme", theme);
    themeChanged();
  }

  root.dataset.theme = THEMES.includes(stored("report-theme")) ? stored("report-theme") : "auto";
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", themeChanged);

  // A colour of the style sheet in the current theme.
  function colour(name) {
    const probe = document.createElement("i");
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const computed = getComputedStyle(probe).color;
    probe.remove();
    return computed;
  }

  function watchThemeButton() {
    const button = document.getElementById("theme");
    const showName = () => (button.querySelector("span").textContent = root.dataset.theme);
    button.hidden = false;
    showName();
    button.addEventListener("click", () => {
      setTheme(THEMES[(THEMES.indexOf(root.dataset.theme) + 1) % THEMES.length]);
      showName();
    });
  }

  // ---- Copying, navigation, printing.

  let fading = 0;

  function notify(text) {
    const place = document.getElementById("notice");
    // What is outside an open dialog is neither seen nor read aloud.
    ([...document.querySelectorAll("dialog[open]")].at(-1) ?? document.body).append(place);
    place.textContent = text;
    place.classList.add("shown");
    clearTimeout(fading);
    fading = setTimeout(() => place.classList.remove("shown"), 4000);
  }

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Browsers have no clipboard API outside secure contexts.
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      if (!done) return notify(`Copy it from here: ${text}`);
    }
    return notify(`Copied: ${text}`);
  }

  // On a narrow page the sections are behind a button.
  function watchMenu() {
    const menu = document.querySelector(".menu");
    const open = (isOpen) => menu.setAttribute("aria-expanded", String(isOpen));
    menu.addEventListener("click", () => open(menu.getAttribute("aria-expanded") !== "true"));
    document.addEventListener("click", ({ target }) => target.closest(".menu") || open(false));
    document.addEventListener("keydown", ({ key }) => key === "Escape" && open(false));
  }

  // Marks the link of the section that is being read.
  function watchSections() {
    const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
    const sections = new IntersectionObserver(
      (entries) => {
        for (const { isIntersecting, target } of entries) {
          if (!isIntersecting) continue;
          for (const [id, link] of links) {
            if (id === target.id) link.setAttribute("aria-current", "true");
            else link.removeAttribute("aria-current");
          }
        }
      },
      { rootMargin: "-15% 0px -75% 0px" },
    );
    for (const id of links.keys()) {
      const section = document.getElementById(id);
      if (section) sections.observe(section);
    }
  }

  // Paper is white and narrow, and closed details cannot be opened there.
  let opened = [];
  addEventListener("beforeprint", () => {
    root.dataset.printing = "";
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const details of opened) details.open = true;
    themeChanged();
  });
  addEventListener("afterprint", () => {
    delete root.dataset.printing;
    for (const details of opened) details.open = false;
    themeChanged();
  });

  document.addEventListener("DOMContentLoaded", () => {
    watchThemeButton();
    watchMenu();
    watchSections();
    document.addEventListener("click", (event) => {
      const button = event.target.closest("[data-copy]");
      if (button) copy(button.dataset.copy);
    });
  });

  return {
    script, load, loadAgain, deliver, element, closeBeside, percent, score, notify, colour,
    onThemeChange: (listener) => listeners.push(listener),
  };
})();
