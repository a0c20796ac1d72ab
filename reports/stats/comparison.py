"""How far runs lie behind the best one on the same test images, and whether that could be chance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from reports.runs import Run

LEVEL = 0.95
RESAMPLES = 2000  # of the bootstrap
SWAPS = 10_000  # of the test

# Elements of one block of resamples or swaps; they are made block by block, so that memory stays bounded.
BLOCK = 2**22

# Equal differences of macro F1 may differ in their last bits.
ROUNDING = 1e-12


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
        low, high = _interval(scores[0] - scores[row], difference, p, differing, len(labels))
        comparisons.append(
            Comparison(other, "", difference, low, high, p, p_holm, len(compared), len(labels), differing)
        )
    return comparisons


def macro_f1(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> float:
    """Mean F1 over all classes; one that nobody shows or names counts 0."""
    hits = np.bincount(labels[labels == predicted], minlength=num_classes)
    counted = np.bincount(labels, minlength=num_classes) + np.bincount(predicted, minlength=num_classes)
    return float(_f1(hits, counted).mean())


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for being len(p_values) tests, by Holm's step-down method (1979)."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = largest
    return adjusted


def swap_test(
    labels: np.ndarray, one: np.ndarray, other: np.ndarray, num_classes: int, *, swaps: int, seed: int = 0
) -> float:
    """Two-sided p of equal macro F1 under random swaps of two models' predictions (N,); at least 1 / (swaps + 1)."""
    differing = np.flatnonzero(one != other)
    if not len(differing):
        return 1.0
    hits, counted = (np.zeros((2, num_classes), np.int64) for _ in range(2))
    for model, predicted in enumerate((one, other)):
        hits[model] = np.bincount(labels[labels == predicted], minlength=num_classes)
        counted[model] = np.bincount(labels, minlength=num_classes) + np.bincount(predicted, minlength=num_classes)
    difference = (_f1(hits[0], counted[0]) - _f1(hits[1], counted[1])).sum()
    labels, one, other = labels[differing], one[differing], other[differing]
    # In all other classes the two have equal counts, swapped or not.
    touched = np.unique(np.concatenate([labels, one, other]))
    one_right, other_right, every = (
        np.flatnonzero(chosen) for chosen in (one == labels, other == labels, one != other)
    )

    generator = np.random.Generator(np.random.Philox(seed))
    as_far = 0
    for size in _blocks(swaps, len(differing)):
        tosses = generator.integers(0, 256, (len(differing), -(-size // 8)), np.uint8)
        # The narrowest integers that hold any sum: adding them up is what takes the time.
        swapped = np.unpackbits(tosses, axis=1, count=size).astype(np.min_scalar_type(-2 * len(differing)))
        gained = _sums(swapped, every, other, num_classes) - _sums(swapped, every, one, num_classes)
        hit = _sums(swapped, other_right, labels, num_classes) - _sums(swapped, one_right, labels, num_classes)
        apart = np.zeros(size)
        for k in touched:
            one_less_other = _f1(hits[0, k] + hit[k], counted[0, k] + gained[k])
            one_less_other -= _f1(hits[1, k] - hit[k], counted[1, k] - gained[k])
            apart += one_less_other
        as_far += int((np.abs(apart) >= abs(difference) - ROUNDING).sum())
    return (1 + as_far) / (1 + swaps)


def resampled(
    labels: np.ndarray, predicted: Sequence[np.ndarray], num_classes: int, *, resamples: int, seed: int = 0
) -> np.ndarray:
    """(models, R) macro F1 of models' predictions (N,) on the same redrawn images."""
    generator = np.random.Generator(np.random.Philox(seed))
    every, rights = np.arange(len(labels)), [np.flatnonzero(labels == named) for named in predicted]
    blocks = []
    for size in _blocks(resamples, len(labels)):
        weights = _weights(labels, num_classes, size, generator)
        shown = _sums(weights, every, labels, num_classes)
        scores = []
        for right, named in zip(rights, predicted, strict=True):
            counted = shown + _sums(weights, every, named, num_classes)
            scores.append(_f1(_sums(weights, right, labels, num_classes), counted).mean(axis=0))
        blocks.append(scores)
    return np.concatenate(blocks, axis=1)


def _weights(labels: np.ndarray, num_classes: int, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """(N, R) how much each image counts: of a stratum of n, n - 1 are drawn and count n / (n - 1) each."""
    count = np.bincount(labels, minlength=num_classes)
    stratum = np.where(count[labels] == 1, num_classes, labels)
    weights = np.empty((len(labels), resamples))
    for one in np.unique(stratum):
        pictures = np.flatnonzero(stratum == one)
        n = len(pictures)
        drawn = max(n - 1, 1)
        weights[pictures] = generator.multinomial(drawn, np.full(n, 1 / n), size=resamples).T * (n / drawn)
    return weights


def _interval(
    differences: np.ndarray, difference: float, p: float, differing: int, pictures: int
) -> tuple[float, float]:
    """Percentiles of resampled differences less their bias, with the two exceptions that `compare` tells of."""
    outside = (1 - LEVEL) / 2
    if not differing:
        bound = 1 - outside ** (1 / pictures)
        return -bound, bound
    bias = float(differences.mean()) - difference
    low, high = (float(bound) - bias for bound in np.quantile(differences, [outside, 1 - outside]))
    held = [difference, 0.0] if p > 1 - LEVEL else [difference]
    return max(min(low, *held), -1.0), min(max(high, *held), 1.0)


def _sums(rows: np.ndarray, pictures: np.ndarray, keys: np.ndarray, count: int) -> np.ndarray:
    """(count, R): row k is the sum of the rows (N, R) of those of the images whose key (N,) is k."""
    sums = np.zeros((count, rows.shape[1]), rows.dtype)
    # Row by row: each addition is long enough to run at the speed of memory, and nothing is sorted, copied or cast.
    for picture, key in zip(pictures.tolist(), keys[pictures].tolist(), strict=True):
        sums[key] += rows[picture]
    return sums


def _f1(hits: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """F1 from hits and the sum of images shown and named; 0 where there are none."""
    return np.divide(2 * hits, counted, out=np.zeros(counted.shape), where=counted > 0)


def _blocks(total: int, rows: int) -> Iterator[int]:
    """Sizes of blocks of columns that make up the total, each of about BLOCK elements."""
    size = max(1, min(total, BLOCK // rows))
    for start in range(0, total, size):
        yield min(size, total - start)


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
