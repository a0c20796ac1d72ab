"use strict";

// Differences between runs, from the content of data/run-<key>.js and data/mistakes-<key>.js. Pure functions.
const differences = (() => {
  const spread = (numbers) => Math.max(...numbers) - Math.min(...numbers);
  const haveSameClasses = (all) => all.every(({ classes }) => classes.join("\n") === all[0].classes.join("\n"));

  // [name, value of each run] of the settings or scores that are not the same in all runs.
  function entries(runs, pairsOf) {
    const maps = runs.map((run) => new Map(pairsOf(run)));
    const names = new Set(maps.flatMap((map) => [...map.keys()]));
    return [...names]
      .map((name) => [name, ...maps.map((map) => map.get(name) ?? "–")])
      .filter(([, first, ...others]) => others.some((value) => value !== first));
  }

  const settings = (runs) => entries(runs, ({ differs, config }) => [...differs.map(([name, here]) => [name, here]), ...config]);
  const scores = (runs) => entries(runs, (run) => run.scores);

  // [class, F1 of each run, largest difference], the largest difference first.
  function classes(all) {
    return all[0].classes
      .map((name, label) => [name, all.map(({ perClass }) => perClass[label][classScores.F1])])
      .map(([name, f1]) => [name, ...f1, spread(f1)])
      .sort((left, right) => right.at(-1) - left.at(-1));
  }

  // [truth, prediction, images of each run] of confusions that differ in number, the largest difference first.
  function confusions(all) {
    const byPair = new Map();
    all.forEach(({ cells: [truths, predictions, counts] }, run) => truths.forEach((truth, cell) => {
      const predicted = predictions[cell];
      if (truth === predicted) return;
      const pair = `${truth} ${predicted}`;
      if (!byPair.has(pair)) byPair.set(pair, [all[0].classes[truth], all[0].classes[predicted], ...all.map(() => 0)]);
      byPair.get(pair)[run + 2] = counts[cell];
    }));
    return [...byPair.values()]
      .filter(([, , ...counts]) => spread(counts) > 0)
      .sort((left, right) => spread(right.slice(2)) - spread(left.slice(2)));
  }

  // Positions of the images that `run` gets right and `other` wrong, and the other way round; both are of tiles.load.
  function wonAndLost(run, other, outcome = tiles.outcome) {
    const [won, lost] = [[], []];
    for (const index of run.predicted.keys()) {
      const twin = other.indexOf(run.set.files[index]);
      if (twin == null) continue;
      const pair = `${outcome(run, index)} ${outcome(other, twin)}`;
      if (pair === "right wrong") won.push(index);
      if (pair === "wrong right") lost.push(index);
    }
    return { won, lost };
  }

  return { settings, scores, classes, confusions, wonAndLost, haveSameClasses };
})();
