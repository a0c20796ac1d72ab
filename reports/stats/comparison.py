"""How far runs lie behind the best one on the same test images, and whether that could be chance."""

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
    """The best run against another by macro F1 on the test images of both; no numbers where there is a reason."""

    run: Run
    reason: str = ""  # why the two cannot be compared; empty when they can
    difference: float | None = None  # best - other
    low: float | None = None  # 95 % interval of the difference, of this comparison alone
    high: float | None = None
    p: float | None = None  # two-sided, of this comparison alone
    p_holm: float | None = None  # adjusted for all comparisons with the best
    comparisons: int = 0  # how many those are
    pictures: int = 0
    differing: int = 0  # images of which the two say different things

    @property
    def comparable(self) -> bool:
        return not self.reason

    @property
    def indistinguishable(self) -> bool:
        """Whether this run cannot be told from the best, with 5 % for any wrong "can be told" among all comparisons."""
        return self.p_holm is not None and self.p_holm > 1 - LEVEL


def compare(
    best: Run, others: Sequence[Run], *, resamples: int = RESAMPLES, swaps: int = SWAPS, seed: int = 0
) -> list[Comparison]:
    """Each of the others against the best, in their order; the same for the same arguments.

    The best must have been chosen by a validation metric: chosen by these images, its lead would be overstated. Only
    the sampling of test images is measured. The models are held fixed; trained with other seeds they differ more.

    p. If two models were equally good it would not matter which of them said what of an image. So their predictions
    are swapped, image by image, by tosses of a coin; p is the share of outcomes as far apart as the models are (the
    permutation test of Efron & Tibshirani 1993, chapter 15, for paired data). Unlike p-values of a bootstrap it holds
    its level also between good models that differ in a handful of images. Holm's method (1979) adjusts p for the
    number of comparisons with the best, however these depend on each other.

    Interval. A paired bootstrap: images are redrawn within their class, n - 1 of n and rescaled (Rao & Wu 1988), the
    same ones for all runs; classes with one image share a stratum. Resampling biases the macro F1 of each run; in a
    difference that cancels between equals only, so it is estimated and taken off (Efron & Tibshirani 1993, chapter
    10). Where two runs differ in few images, resampling has too little to vary: an interval holds 0 whenever the test
    does not reject 0, and where they differ in none it is the exact bound on the share of images in which they would
    (Clopper & Pearson 1934).

    Simulated with 100 classes of 5 images and 10 of 10, macro F1 0.2 to 0.99, also for models that are equally good
    and good at different classes: of equals, p is at most 0.05 in 0 to 6 % of the cases; the interval covers the true
    difference, 0 to 0.7, in 92 to 100 % (93 % or more where the two differ in 8 images or more).
    """
    reasons = [_obstacle(best, other) for other in others]
    compared = [other for other, reason in zip(others, reasons, strict=True) if not reason]
    labels, own, num_classes = best.predictions.labels, best.predictions.predicted, len(best.predictions.classes)
    predicted = [_aligned(best, other) for other in compared]
    # Enough of them for the smallest possible p to stay small when it is multiplied.
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
    one, two = best.predictions, other.predictions
    if one.problem:
        return f"the best run's predictions cannot be used: {one.problem}"
    if two.problem:
        return f"its predictions cannot be used: {two.problem}"
    if set(one.classes) != set(two.classes):
        return "it was trained on other classes than the best run"
    prints = [run.manifest.get("data") for run in (best, other)]
    prints = [data.get("fingerprint") if isinstance(data, dict) else None for data in prints]
    if None not in prints and prints[0] != prints[1]:
        return "its data set is not the best run's (manifest.json: fingerprint)"
    shown, own = ({f: p.classes[c] for f, c in zip(p.files, p.labels, strict=True)} for p in (one, two))
    if shown == own:
        return ""
    same = len(shown.items() & own.items())
    return f"it was tested on other images: {same} of its {len(own)} are among the {len(shown)} of the best run"


def _aligned(best: Run, other: Run) -> np.ndarray:
    """(N,) predictions of the other run, in the order of the best run's images and by its class indices."""
    classes = {name: index for index, name in enumerate(best.predictions.classes)}
    index = np.array([classes[name] for name in other.predictions.classes])
    row = {file: number for number, file in enumerate(other.predictions.files)}
    return index[other.predictions.predicted[[row[file] for file in best.predictions.files]]]
