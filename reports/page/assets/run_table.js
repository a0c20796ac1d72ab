"use strict";

// The runs and settings of the page, as all sections know them: the content of data/runs.js.
const runTable = (() => {
  const ready = report.load("runs").then((content) => {
    const byKey = new Map();
    for (const row of content.settings) {
      byKey.set(row.key, row);
      for (const run of row.runs) byKey.set(run.key, row);
    }
    const runs = new Map(content.settings.flatMap((row) => row.runs.map((run) => [run.key, run])));
    state.know({ runs: new Set(runs.keys()), settings: new Set(content.settings.map((row) => row.key)) });
    return { ...content, byKey, runs };
  });

  // Everything below is for a `table` that `ready` has delivered.

  const label = (table, key) => table.runs.get(key)?.label ?? table.byKey.get(key)?.label ?? "";

  // The run that stands for a key: the best seed of a setting, or the run itself.
  const runOf = (table, key) => (table.runs.has(key) ? key : (table.byKey.get(key)?.runs[0].key ?? ""));

  // The run that all sections show: the chosen one, else the best.
  const shownRun = (table) => state.now.run || [...table.runs.keys()][0];

  // Keys of the settings that pass the words of the filter.
  function passing(table, text) {
    const terms = words.parsed(text);
    return new Set(table.settings.filter((row) => terms.every((term) => words.passes(term, row))).map((row) => row.key));
  }

  // Keys of the settings that charts emphasise: the selected ones, else those that pass the filter; null: all alike.
  function emphasised(table, { selected, words: text }) {
    if (selected.length) return new Set(selected);
    return text.trim() ? passing(table, text) : null;
  }

  return { ready, label, runOf, shownRun, passing, emphasised };
})();
