"use strict";

// Which images of a run the gallery shows, and in which order. Pure functions of images of runs, as of `tiles.load`.
const galleryFilter = (() => {
  // `other` is the run it is compared with, or undefined. `chosen`: {truth, predicted, outcome, least, most, flagged, order},
  // "" for any; classes are names, probabilities percent. Returns indices.
  function order(run, other, chosen) {
    const twin = (index) => other?.indexOf(tiles.fileName(run, index));
    const indices = [...run.predicted.keys()].filter((index) => passes(run, other, chosen, index, twin(index)));
    const truthOf = (one, index) => one?.truth[index] ?? null;
    const keys = {
      error: (index) => truthOf(run, index) ?? Infinity,
      unsure: (index) => run.probability[index] ?? 0,
      sure: (index) => -(run.probability[index] ?? 0),
      change: (index) => -Math.abs((truthOf(run, index) ?? 0) - (truthOf(other, twin(index)) ?? truthOf(run, index) ?? 0)),
    };
    const key = keys[chosen.order];
    return key ? indices.sort((left, right) => key(left) - key(right) || left - right) : indices;
  }

  function passes(run, other, { truth, predicted, outcome, least, most, flagged }, index, twin) {
    const matches = (name, label) => name === "" || name === run.set.classes[label];
    if (!matches(truth, run.set.labels[index]) || !matches(predicted, run.predicted[index])) return false;
    const probability = 100 * (run.probability[index] ?? 0);
    if (probability < least || probability > most) return false;
    if (flagged && !run.outliers[index]) return false;
    return !outcome || hasOutcome(run, other, outcome, index, twin);
  }

  function hasOutcome(run, other, expected, index, twin) {
    const own = tiles.outcome(run, index);
    if (expected === "right" || expected === "wrong") return own === expected;
    if (twin == null) return false;
    const others = tiles.outcome(other, twin);
    if (expected === "won") return own === "right" && others === "wrong";
    if (expected === "lost") return own === "wrong" && others === "right";
    return tiles.className(run, run.predicted[index]) !== tiles.className(other, other.predicted[twin]);
  }

  return { order };
})();
