"""The best run against the others on the same test images: the difference of macro F1, its interval and p-value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.runs.paired import difference_interval, holm, resampled, swap_test
from harness.runs.resampling import LEVEL, RESAMPLES, macro_f1
from reports.runs import Run

SWAPS = 10_000  # of the permutation test


@dataclass(frozen=True, eq=False)
class Comparison:
    """The best run against another one by macro F1 on the same test images; without numbers if there is a reason."""

    run: Run
    reason: str = ""  # why the two cannot be compared; empty when they can
    difference: float | None = None  # best - other
    low: float | None = None  # 95 % interval of the difference, of this comparison alone
    high: float | None = None
    p: float | None = None  # two-sided, of this comparison alone
    p_holm: float | None = None  # adjusted for all comparisons with the best
    comparisons: int = 0  # how many those are
    images: int = 0
    differing: int = 0  # images that the two predict differently

    @property
    def comparable(self) -> bool:
        return not self.reason

    @property
    def indistinguishable(self) -> bool:
        """Whether the difference is not significant: 5 % chance of any false difference among all comparisons."""
        return self.p_holm is not None and self.p_holm > 1 - LEVEL


def compare(
    best: Run, others: Sequence[Run], *, resamples: int = RESAMPLES, swaps: int = SWAPS, seed: int = 0
) -> list[Comparison]:
    """Compare each of the others with the best, in their order. The same arguments give the same numbers.

    The best run must have been chosen by a validation metric: if these images chose it, its lead is overstated. Only
    the sampling of test images is measured. The models are fixed; trained with other seeds they would differ more.

    p: if two models are equally good, it does not matter which of the two made a prediction. Their predictions are
    therefore swapped at random, image by image; p is the share of swaps with a difference at least as large as the
    observed one (permutation test for paired data, Efron & Tibshirani 1993, chapter 15). Unlike bootstrap p-values it
    keeps its level between good models that differ in a few images. Holm's method (1979) adjusts p for the number of
    comparisons, whatever their dependence.

    Interval: a paired bootstrap. Images are redrawn within their class, n - 1 of n and rescaled (Rao & Wu 1988), the
    same ones for all runs; classes with one image share a stratum. Resampling biases the macro F1 of each run. In a
    difference this bias cancels only between equal models, so it is estimated and subtracted (Efron & Tibshirani 1993,
    chapter 10). If two runs differ in few images, there is too little to resample: an interval therefore contains 0
    if the test does not reject 0. If they differ in none, it is the exact bound on the share of images in which they
    would differ (Clopper & Pearson 1934).

    Simulated with 100 classes of 5 images and 10 classes of 10, macro F1 0.2 to 0.99, also with equally good models
    that are good at different classes. Equal models: p is at most 0.05 in 0 to 6 % of the cases. The interval covers
    the true difference, 0 to 0.7, in 92 to 100 % (93 % or more if the two differ in at least 8 images).
    """
    reasons = [_obstacle(best, other) for other in others]
    compared = [other for other, reason in zip(others, reasons, strict=True) if not reason]
    labels, own, num_classes = best.predictions.labels, best.predictions.predicted, len(best.predictions.classes)
    predicted = [_aligned(best, other) for other in compared]
    # Holm multiplies p by up to the number of comparisons: the smallest possible p must stay small after that.
    swaps = max(swaps, 50 * len(compared))
    p_values = [swap_test(labels, own, theirs, num_classes, swaps=swaps, seed=seed) for theirs in predicted]
    scores = resampled(labels, [own, *predicted], num_classes, resamples=resamples, seed=seed) if compared else None
    results = iter(zip(predicted, p_values, holm(p_values), range(1, len(compared) + 1), strict=True))

    comparisons = []
    for other, reason in zip(others, reasons, strict=True):
        if reason or scores is None:
            comparisons.append(Comparison(other, reason))
            continue
        theirs, p, p_holm, row = next(results)
        difference = macro_f1(labels, own, num_classes) - macro_f1(labels, theirs, num_classes)
        differing = int((own != theirs).sum())
        low, high = difference_interval(scores[0] - scores[row], difference, p, differing, len(labels))
        comparisons.append(
            Comparison(other, "", difference, low, high, p, p_holm, len(compared), len(labels), differing)
        )
    return comparisons


def _obstacle(best: Run, other: Run) -> str:
    """Why two runs cannot be compared image by image; empty when they can."""
    of_best, of_other = best.predictions, other.predictions
    if of_best.problem:
        return f"the best run's predictions cannot be used: {of_best.problem}"
    if of_other.problem:
        return f"its predictions cannot be used: {of_other.problem}"
    if set(of_best.classes) != set(of_other.classes):
        return "it was trained on other classes than the best run"
    fingerprints = [(run.manifest.get("data") or {}).get("fingerprint") for run in (best, other)]
    if None not in fingerprints and fingerprints[0] != fingerprints[1]:
        return "its data set is not the best run's (manifest.json: fingerprint)"
    labels_of_best, labels_of_other = (
        {file: table.classes[label] for file, label in zip(table.files, table.labels, strict=True)}
        for table in (of_best, of_other)
    )
    if labels_of_best == labels_of_other:
        return ""
    common = len(labels_of_best.items() & labels_of_other.items())
    return (
        f"it was tested on other images: {common} of its {len(labels_of_other)} are among the {len(labels_of_best)} of "
        "the best run"
    )


def _aligned(best: Run, other: Run) -> np.ndarray:
    """(N,) predictions of the other run, in the order of the best run's images and by its class indices."""
    classes = {name: index for index, name in enumerate(best.predictions.classes)}
    index = np.array([classes[name] for name in other.predictions.classes])
    row = {file: number for number, file in enumerate(other.predictions.files)}
    return index[other.predictions.predicted[[row[file] for file in best.predictions.files]]]
