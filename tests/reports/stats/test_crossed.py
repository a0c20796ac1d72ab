from __future__ import annotations

import math

import numpy as np
import pytest

from harness.runs.paired import resampled
from harness.runs.resampling import macro_f1
from reports.stats import crossed

# Of two seeds on four redrawn sets of images: variances 2 / 3 and 8 / 3, covariance 4 / 3 (x 1e-4).
REDRAWN = np.array([[1.0, 2.0, 3.0, 2.0], [2.0, 4.0, 6.0, 4.0]]) / 100


def test_a_mean_worked_by_hand() -> None:
    """MS = 0.0002, MS / S + C = 0.0001 + 0.00013333; the images alone give (2/3 + 8/3 + 8/3) / 4 = 1.5e-4."""
    found = crossed.mean(np.array([0.80, 0.82]), REDRAWN)
    variance = 0.0001 + 4 / 3 * 1e-4
    df = variance**2 / (0.0001**2 / 1)
    assert df == pytest.approx(5.4444, abs=1e-4)
    assert found.value == pytest.approx(0.81)
    # t of 5.4444 degrees of freedom lies between those of 5 (2.571) and 6 (2.447).
    half = (found.high - found.low) / 2
    assert 2.447 < half / math.sqrt(variance) < 2.571
    assert found.low + found.high == pytest.approx(1.62)


def test_the_interval_is_never_narrower_than_that_over_images() -> None:
    """Equal scores: MS is 0, and all that is left is the variance over images of these seeds, 1.5e-4."""
    found = crossed.mean(np.array([0.81, 0.81]), REDRAWN)
    assert found.high - found.low == pytest.approx(2 * 1.959964 * math.sqrt(1.5e-4), rel=1e-6)


def test_a_difference_of_the_same_seeds_is_the_mean_of_their_differences() -> None:
    one, other = np.array([0.80, 0.82]), np.array([0.70, 0.71])
    zeros = np.zeros((2, 4))
    found = crossed.difference(one, other, REDRAWN, zeros, same_seeds=True)
    alone = crossed.mean(one - other, REDRAWN)
    assert (found.value, found.low, found.high, found.p) == (alone.value, alone.low, alone.high, alone.p)
    assert found.value == pytest.approx(0.105)


def test_a_difference_of_other_seeds_adds_their_variances() -> None:
    one, other = np.array([0.80, 0.82]), np.array([0.70, 0.71, 0.75])
    images = np.zeros((2, 4)), np.zeros((3, 4))
    found = crossed.difference(one, other, *images, same_seeds=False)
    # Without images it is Welch's test (1947): 0.0002 / 2 + 0.0007 / 3, with 2.87 degrees of freedom.
    parts = 0.0002 / 2, 0.0007 / 3
    df = sum(parts) ** 2 / (parts[0] ** 2 / 1 + parts[1] ** 2 / 2)
    assert found.value == pytest.approx(0.09)
    assert found.p == pytest.approx(crossed.two_sided_p(0.09 / math.sqrt(sum(parts)), df))
    # A setting with one seed is given the variance of the other's: 0.0002 * (1 / 2 + 1), one degree of freedom.
    single = crossed.difference(one, np.array([0.70]), np.zeros((2, 4)), np.zeros((1, 4)), same_seeds=False)
    assert single.p == pytest.approx(crossed.two_sided_p(0.11 / math.sqrt(0.0003), 1))


def test_no_variance_at_all() -> None:
    zeros = np.zeros((2, 4))
    equal = crossed.mean(np.zeros(2), zeros)
    assert (equal.low, equal.high, equal.p) == (0, 0, 1)


def models(generator: np.random.Generator, labels: np.ndarray, seeds: int, right: float, sd: float) -> np.ndarray:
    """Predictions (S, N) of seeds that differ by `sd`, on images whose difficulty all seeds share."""
    difficulty = generator.normal(0, 1, len(labels))
    return with_difficulty(generator, labels, difficulty, seeds, right, sd)


def with_difficulty(
    generator: np.random.Generator, labels: np.ndarray, difficulty: np.ndarray, seeds: int, right: float, sd: float
) -> np.ndarray:
    """An image is right if quality of the seed + difficulty + noise is above 0, in the share `right` of all cases."""
    spread = math.sqrt(sd**2 + 1 + 0.5**2)
    quality = generator.normal(NORMAL[right] * spread, sd, seeds)
    noise = generator.normal(0, 0.5, (seeds, len(labels)))
    wrong = (labels + generator.integers(1, 10, (seeds, len(labels)))) % 10
    return np.where(quality[:, None] + difficulty + noise > 0, labels, wrong)


# Quantiles of the normal distribution.
NORMAL = {0.6: 0.253347, 0.9: 1.281552}


@pytest.mark.parametrize(("right", "sd", "seeds"), [(0.6, 0.1, 3), (0.9, 0.1, 3), (0.9, 0.3, 5)])
def test_the_interval_covers_the_mean_over_seeds_and_images(right: float, sd: float, seeds: int) -> None:
    """10 classes of 10 images: errors are spread evenly, so the true macro F1 is the accuracy. 200 test sets.

    The interval over images alone, of the first seed, covers it less often.
    """
    generator, labels = np.random.default_rng(3), np.repeat(np.arange(10), 10)
    covered = by_images_alone = 0
    for number in range(200):
        predicted = models(generator, labels, seeds, right, sd)
        scores = np.array([macro_f1(labels, of_seed, 10) for of_seed in predicted])
        redrawn = resampled(labels, list(predicted), 10, resamples=200, seed=number)
        found = crossed.mean(scores, redrawn)
        covered += found.low <= right <= found.high
        by_images_alone += abs(scores[0] - right) <= 1.96 * redrawn[0].std()
    assert 176 <= covered <= 199
    assert by_images_alone < covered


@pytest.mark.parametrize(("same_seeds", "others"), [(True, 3), (False, 3), (False, 1)])
def test_equally_good_settings_are_seldom_told_apart(same_seeds: bool, others: int) -> None:
    """200 pairs of settings with seeds that differ, 5 % of which is 10 (standard deviation 3)."""
    generator, labels = np.random.default_rng(4), np.repeat(np.arange(10), 10)
    rejected = 0
    for number in range(200):
        difficulty = generator.normal(0, 1, len(labels))
        one, other = (with_difficulty(generator, labels, difficulty, n, 0.9, 0.1) for n in (3, others))
        rows = resampled(labels, [*one, *other], 10, resamples=200, seed=number)
        scores = [np.array([macro_f1(labels, row, 10) for row in rows]) for rows in (one, other)]
        rejected += crossed.difference(*scores, rows[:3], rows[3:], same_seeds=same_seeds).p <= 0.05
    assert rejected <= 19
