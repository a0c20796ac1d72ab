"""The best setting against the others on the same test images: the difference of macro F1, its interval and p-value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.runs.paired import difference_interval, holm, resampled, swap_test
from harness.runs.resampling import LEVEL, RESAMPLES, macro_f1
from harness.runs.rules import printable
from reports import columns
from reports.stats import crossed
from reports.stats.same_images import aligned, obstacle
from reports.stats.setting import Setting

SWAPS = 10_000  # of the permutation test

# An interval and a p-value of a difference.
Tested = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Comparison:
    """The best setting against another one by mean macro F1 on the same test images; if there is a reason, no numbers.

    Of a setting with one seed, the mean is its score.
    """

    setting: Setting
    reason: str = ""  # why the two cannot be compared; empty when they can
    difference: float | None = None  # best - other
    low: float | None = None  # 95 % interval of the difference, of this comparison alone
    high: float | None = None
    p: float | None = None  # two-sided, of this comparison alone
    p_holm: float | None = None  # adjusted for all comparisons with the best
    comparisons: int = 0  # how many those are
    images: int = 0
    differing: int = 0  # images that the two predict differently, with any seed
    over_seeds: bool = False  # whether seeds were sampled as well as images
    p_is_least: bool = False  # whether no swap gave as large a difference: p may be smaller

    @property
    def comparable(self) -> bool:
        return not self.reason

    @property
    def indistinguishable(self) -> bool:
        """Whether the difference is not significant: 5 % chance of any false difference among all comparisons."""
        return self.p_holm is not None and self.p_holm > 1 - LEVEL

    @property
    def p_text(self) -> str:
        """Holm's p; "≤" before one that may be smaller."""
        text = columns.p_value(self.p_holm)
        return f"≤{text}" if self.p_is_least and not text.startswith("<") else text


@dataclass(frozen=True, eq=False)
class Models:
    """The models of a setting: predictions (S, N), scores (S,), and scores on redrawn images (S, R)."""

    predicted: np.ndarray
    scores: np.ndarray
    resampled: np.ndarray


def compare(
    best: Setting, others: Sequence[Setting], *, resamples: int = RESAMPLES, swaps: int = SWAPS, seed: int = 0
) -> list[Comparison]:
    """Compare each of the others with the best, in their order. The same arguments give the same numbers.

    The best must have been chosen by a validation metric: if these images chose it, its lead is overstated. Between
    settings with one seed only the sampling of test images is measured: trained with other seeds they would differ
    more. If one of the two has several seeds, seeds and images are sampled: see `crossed`. Holm's method (1979) adjusts
    p for the number of comparisons, whatever their dependence.
    """
    reasons = [_reason(best, other) for other in others]
    compared = [other for other, reason in zip(others, reasons, strict=True) if not reason]
    if not compared:
        return [Comparison(other, reason) for other, reason in zip(others, reasons, strict=True)]
    first = best.runs[0].predictions
    labels, num_classes = first.labels, len(first.classes)
    all_models = _models([best, *compared], labels, num_classes, resamples, seed)
    own, *theirs = all_models
    # Holm multiplies p by up to the number of comparisons: the smallest possible p must stay small after that.
    swaps = max(swaps, 50 * len(compared))
    tested = []
    for setting, models in zip(compared, theirs, strict=True):
        if len(own.scores) == len(models.scores) == 1:
            tested.append(_over_images(own, models, labels, num_classes, swaps=swaps, seed=seed))
        else:
            tested.append(_over_seeds(best, own, setting, models, len(labels)))
    results = iter(zip(compared, theirs, tested, holm([p for *_, p in tested]), strict=True))

    comparisons = []
    for other, reason in zip(others, reasons, strict=True):
        if reason:
            comparisons.append(Comparison(other, reason))
            continue
        _, models, (low, high, p), p_holm = next(results)
        difference = float(own.scores.mean() - models.scores.mean())
        differing = _differing(own, models)
        several = max(len(own.scores), len(models.scores)) > 1
        comparisons.append(
            Comparison(
                *(other, "", difference, low, high, p, p_holm, len(compared), len(labels), differing),
                over_seeds=several,
                p_is_least=not several and p * (swaps + 1) < 1.5,
            )
        )
    return comparisons


def _reason(best: Setting, other: Setting) -> str:
    """Why two settings cannot be compared image by image; empty when they can."""
    first = best.runs[0]
    for run in (*best.runs[1:], *other.runs):
        if why := obstacle(first, run):
            return why if len(best.runs) == len(other.runs) == 1 else f"{why} ({printable(run.name)})"
    return ""


def _models(
    settings: Sequence[Setting], labels: np.ndarray, num_classes: int, resamples: int, seed: int
) -> list[Models]:
    """Of the settings, whose runs were tested on the images of the first one."""
    first = settings[0].runs[0]
    predicted = [[aligned(first, run) for run in setting.runs] for setting in settings]
    every = [of_run for of_setting in predicted for of_run in of_setting]
    rows = iter(resampled(labels, every, num_classes, resamples=resamples, seed=seed))
    return [
        Models(
            np.array(of_setting),
            np.array([macro_f1(labels, of_run, num_classes) for of_run in of_setting]),
            np.array([next(rows) for _ in of_setting]),
        )
        for of_setting in predicted
    ]


def _differing(one: Models, other: Models) -> int:
    """Images with different predictions, of any two seeds."""
    every = np.concatenate([one.predicted, other.predicted])
    return int((every != every[0]).any(axis=0).sum())


def _over_images(one: Models, other: Models, labels: np.ndarray, num_classes: int, *, swaps: int, seed: int) -> Tested:
    """Of two settings with one seed each.

    p: if two models are equally good, it does not matter which of the two made a prediction. Their predictions are
    therefore swapped at random, image by image; p is the share of swaps with a difference at least as large as the
    observed one (permutation test for paired data, Efron & Tibshirani 1993, chapter 15). Unlike bootstrap p-values it
    keeps its level between good models that differ in a few images.

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
    p = swap_test(labels, one.predicted[0], other.predicted[0], num_classes, swaps=swaps, seed=seed)
    difference = float(one.scores[0] - other.scores[0])
    differences = one.resampled[0] - other.resampled[0]
    low, high = difference_interval(differences, difference, p, _differing(one, other), len(labels))
    return low, high, p


def _over_seeds(best: Setting, one: Models, setting: Setting, other: Models, images: int) -> Tested:
    """Of two settings of which one has several seeds: a t-test of the means, paired by image.

    With the same seeds it is also paired by seed. Simulated with 10 classes of 10 and 50 of 5 images, macro F1 0.6 to
    0.97: equally good settings with 3 or 5 seeds are told apart at 0.05 in 0 to 7 % of the cases, with 2 seeds in 0 to
    12 %; the interval of a mean covers the truth in 89 to 98 %.
    """
    if not (differing := _differing(one, other)):
        low, high = difference_interval(np.zeros(1), 0.0, 1.0, differing, images)
        return low, high, 1.0
    seeds = [list(map(str, each.seeds)) for each in (best, setting)]
    same_seeds = sorted(seeds[0]) == sorted(seeds[1]) and len(seeds[0]) > 1
    order = [sorted(range(len(of_one)), key=of_one.__getitem__) for of_one in seeds]
    estimate = crossed.difference(
        one.scores[order[0]],
        other.scores[order[1]],
        one.resampled[order[0]],
        other.resampled[order[1]],
        same_seeds=same_seeds,
    )
    return max(estimate.low, -1.0), min(estimate.high, 1.0), estimate.p
