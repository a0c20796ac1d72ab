"use strict";

// The bar at the foot of the window: the one place where runs are chosen for all sections, and what can be done with the
// selected ones. Links inside the page keep the choice in the address.
document.addEventListener("DOMContentLoaded", async () => {
  const bar = document.getElementById("runs-bar");
  const field = bar.elements;
  const table = await runTable.ready;

  const option = (value, text) => report.element("option", { value }, text);
  const options = () => [...table.runs.values()].map(({ key, label }) => option(key, label));
  field.run.append(...options());
  field.other.append(option("", "no other run"), ...options());

  function show({ selected, other }) {
    field.run.value = runTable.shownRun(table);
    field.other.value = other;
    const count = selected.length;
    field.compare.disabled = count < 2 || count > state.MOST_COMPARED;
    field.clear.hidden = count === 0;
    bar.querySelector("output").textContent = count
      ? `${count} selected`
      : `Tick 2 to ${state.MOST_COMPARED} ${table.unit} to compare them.`;
  }

  field.run.addEventListener("change", () => state.change("focus", field.run.value));
  field.other.addEventListener("change", () => state.change("contrast", field.other.value));
  field.open.addEventListener("click", () => state.change("open", field.run.value));
  field.compare.addEventListener("click", () => state.change("compare", state.now.selected));
  field.clear.addEventListener("click", () => state.change("select", []));
  bar.addEventListener("submit", (event) => event.preventDefault());
  bar.hidden = false;

  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-open]");
    if (opener) state.change("open", runTable.runOf(table, opener.dataset.open));
  });
  state.watch(show);
});

// A link to a part of the page moves there, and keeps what is chosen: it would replace the address otherwise.
document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#"]');
  const target = link && document.getElementById(link.hash.slice(1));
  if (!target || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  state.change("visit", target.id === "main" ? "" : target.id);
  target.scrollIntoView();
  // The next Tab reaches the first control of the section.
  target.focus({ preventScroll: true });
});

state.watch(({ at }, before) => {
  if (at === before.at || !at || document.readyState === "loading") return;
  document.getElementById(at)?.scrollIntoView();
});
document.addEventListener("DOMContentLoaded", () => {
  // After a reload, as of a page that was built again, the browser restores the place that was read.
  if (performance.getEntriesByType("navigation")[0]?.type === "reload") return;
  document.getElementById(state.now.at)?.scrollIntoView();
});
