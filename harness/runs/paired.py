"""Models on the same images: a permutation test, a paired bootstrap, Holm's correction.

N images, C classes, R resamples. Numpy only; the same arguments give the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from harness.runs.resampling import LEVEL, class_f1, hits_and_counted

# Elements of one block of resamples or swaps. Blocks bound the memory.
BLOCK = 2**22

# Equal differences of macro F1 may differ in their last bits.
ROUNDING = 1e-12


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for the number of tests, by Holm's step-down method (1979)."""
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
    hits, counted = zip(*(hits_and_counted(labels, predicted, num_classes) for predicted in (one, other)), strict=True)
    difference = (class_f1(hits[0], counted[0]) - class_f1(hits[1], counted[1])).sum()
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
        # The narrowest integers that hold any sum: the additions take most of the time.
        swapped = np.unpackbits(tosses, axis=1, count=size).astype(np.min_scalar_type(-2 * len(differing)))
        gained = _sums(swapped, every, other, num_classes) - _sums(swapped, every, one, num_classes)
        hit = _sums(swapped, other_right, labels, num_classes) - _sums(swapped, one_right, labels, num_classes)
        apart = np.zeros(size)
        for k in touched:
            one_less_other = class_f1(hits[0][k] + hit[k], counted[0][k] + gained[k])
            one_less_other -= class_f1(hits[1][k] - hit[k], counted[1][k] - gained[k])
            apart += one_less_other
        as_far += int((np.abs(apart) >= abs(difference) - ROUNDING).sum())
    return (1 + as_far) / (1 + swaps)


def resampled(
    labels: np.ndarray, predicted: Sequence[np.ndarray], num_classes: int, *, resamples: int, seed: int = 0
) -> np.ndarray:
    """(models, R) macro F1 of the models' predictions (N,) on the same redrawn images."""
    generator = np.random.Generator(np.random.Philox(seed))
    every, hits = np.arange(len(labels)), [np.flatnonzero(labels == of_model) for of_model in predicted]
    blocks = []
    for size in _blocks(resamples, len(labels)):
        weights = _weights(labels, num_classes, size, generator)
        support = _sums(weights, every, labels, num_classes)
        scores = []
        for hits_of_model, of_model in zip(hits, predicted, strict=True):
            counted = support + _sums(weights, every, of_model, num_classes)
            scores.append(class_f1(_sums(weights, hits_of_model, labels, num_classes), counted).mean(axis=0))
        blocks.append(scores)
    return np.concatenate(blocks, axis=1)


def difference_interval(
    differences: np.ndarray, difference: float, p: float, differing: int, images: int
) -> tuple[float, float]:
    """95 % interval of a difference of macro F1 between two models on the same images.

    `differences` (R,) are resampled ones, `differing` counts the images with different predictions, `p` is that of
    `swap_test`. Percentiles minus their bias. The interval contains 0 if the test does not reject 0. If no prediction
    differs, it is the exact bound on the share of images in which they would differ (Clopper & Pearson 1934).
    """
    outside = (1 - LEVEL) / 2
    if not differing:
        bound = 1 - outside ** (1 / images)
        return -bound, bound
    bias = float(differences.mean()) - difference
    low, high = (float(bound) - bias for bound in np.quantile(differences, [outside, 1 - outside]))
    inside = [difference, 0.0] if p > 1 - LEVEL else [difference]
    return max(min(low, *inside), -1.0), min(max(high, *inside), 1.0)


def _weights(labels: np.ndarray, num_classes: int, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """(N, R) weights of images: of a stratum of n, n - 1 are drawn, each with weight n / (n - 1)."""
    count = np.bincount(labels, minlength=num_classes)
    stratum = np.where(count[labels] == 1, num_classes, labels)
    weights = np.empty((len(labels), resamples))
    for number in np.unique(stratum):
        images = np.flatnonzero(stratum == number)
        n = len(images)
        drawn = max(n - 1, 1)
        weights[images] = generator.multinomial(drawn, np.full(n, 1 / n), size=resamples).T * (n / drawn)
    return weights


def _sums(rows: np.ndarray, images: np.ndarray, keys: np.ndarray, count: int) -> np.ndarray:
    """(count, R): row k is the sum of the rows (N, R) of `images` whose key (N,) is k."""
    sums = np.zeros((count, rows.shape[1]), rows.dtype)
    # Row by row: an addition of this length runs at the speed of memory, without sorting, copies or casts.
    for image, key in zip(images.tolist(), keys[images].tolist(), strict=True):
        sums[key] += rows[image]
    return sums


def _blocks(total: int, rows: int) -> Iterator[int]:
    """Sizes of blocks of columns that make up the total, each of about BLOCK elements."""
    size = max(1, min(total, BLOCK // rows))
    for start in range(0, total, size):
        yield min(size, total - start)
