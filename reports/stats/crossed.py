"""Mean macro F1 over seeds that were tested on the same images: its interval, and the test of a difference.

Seeds and images are crossed, as the readers and the cases of an imaging study. The variance of a mean over S seeds is
    V = MS / S + C, at least I
MS  mean square of the seeds' scores (with S - 1): seeds, and their interaction with the images
C   covariance, over redrawn images, of the scores of two seeds: the images that all seeds have in common
I   variance of the mean over redrawn images, of these very seeds
(Obuchowski & Rockette 1995, Communications in Statistics B 24:285). t has V² / ((MS / S)² / (S - 1)) degrees of freedom
(Hillis 2007, Statistics in Medicine 26:596). C and I come from the bootstrap of `paired`. The bound I is not in these
papers: with few seeds MS is often much too small by chance. S seeds, N images, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.runs.resampling import LEVEL
from reports.stats.student_t import quantile, two_sided_p


@dataclass(frozen=True)
class Estimate:
    """A mean, or a difference of two means, with its 95 % interval."""

    value: float
    low: float
    high: float
    p: float  # two-sided, of the value 0


@dataclass(frozen=True)
class SeedVariance:
    """The part of a variance that comes from the seeds of a setting."""

    variance: float  # MS / S
    df: int  # S - 1


def mean(scores: np.ndarray, resampled: np.ndarray) -> Estimate:
    """Of the scores (S,) of at least two seeds, with their scores (S, R) on redrawn images."""
    seeds = len(scores)
    part = SeedVariance(float(scores.var(ddof=1)) / seeds, seeds - 1)
    images = float(resampled.mean(axis=0).var(ddof=1))
    return _estimate(float(scores.mean()), [part], _shared(resampled), images)


def difference(
    one: np.ndarray, other: np.ndarray, resampled_one: np.ndarray, resampled_other: np.ndarray, *, same_seeds: bool
) -> Estimate:
    """Mean of `one` (S,) minus mean of `other` (T,), on the same redrawn images; at least one has several seeds.

    With the same seeds, in the same order, each seed gives one difference. Otherwise the variances of both are added. A
    setting with one seed is given the variance of the other's seeds, and C is then the variance of its one score.
    """
    if same_seeds:
        return mean(one - other, resampled_one - resampled_other)
    sizes = (len(one), len(other))
    squares = [float(scores.var(ddof=1)) for scores in (one, other) if len(scores) > 1]
    if len(squares) == 1:
        parts = [SeedVariance(squares[0] * (1 / sizes[0] + 1 / sizes[1]), max(sizes) - 1)]
    else:
        parts = [SeedVariance(square / size, size - 1) for square, size in zip(squares, sizes, strict=True)]
    between = float(_covariances(resampled_one, resampled_other).mean())
    shared = _shared(resampled_one) + _shared(resampled_other) - 2 * between
    images = float((resampled_one.mean(axis=0) - resampled_other.mean(axis=0)).var(ddof=1))
    return _estimate(float(one.mean() - other.mean()), parts, shared, images)


def _estimate(value: float, parts: Sequence[SeedVariance], shared: float, images: float) -> Estimate:
    variance = max(sum(part.variance for part in parts) + max(shared, 0.0), images)
    if variance == 0:
        return Estimate(value, value, value, float(value == 0))
    squares = sum(part.variance**2 / part.df for part in parts)
    df = variance**2 / squares if squares else math.inf
    error = math.sqrt(variance)
    half = quantile(LEVEL, df) * error
    return Estimate(value, value - half, value + half, two_sided_p(value / error, df))


def _shared(resampled: np.ndarray) -> float:
    """C: mean covariance of two different seeds (S, R); the variance if there is one seed."""
    covariances = _covariances(resampled, resampled)
    seeds = len(covariances)
    if seeds == 1:
        return float(covariances[0, 0])
    return float((covariances.sum() - np.trace(covariances)) / (seeds * (seeds - 1)))


def _covariances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(S, T) covariances of the rows (S, R) and (T, R) over the resamples."""
    one, other = (rows - rows.mean(axis=1, keepdims=True) for rows in (one, other))
    return one @ other.T / (one.shape[1] - 1)
