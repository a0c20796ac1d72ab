"""The maps of `attention.npz`, as pages show them: those that combine all layers, each layer, each head of one layer.

n images, L layers, H heads, P = g² patches row by row. Numpy only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.runs.attention_files import ADDED_LATER, ATTENTION_FIELDS, Attention
from harness.runs.npz_arrays import damaged, read_arrays
from harness.runs.rules import AGGREGATES, LEGRAD, MEAN_MAP, RELEVANCE, ROLLOUT

FLAT = 1.25  # times its mean: the largest value of a map that is nearly even, which is to look it


@dataclass(frozen=True, eq=False)
class Maps:
    """All maps of all images, M = A + L + H of each: combined over layers, layers, heads of one layer."""

    values: np.ndarray  # (n, M, P) float32; relevance and LeGrad divided by their sum, because images differ in scale
    combined: tuple[str, ...]  # (A,): those of AGGREGATES that the file has, in their order
    layers: int
    heads: int
    side: int  # g

    @property
    def largest(self) -> np.ndarray:
        """(n, M): the largest finite value of each map, 0 if none is above 0."""
        return np.max(self.values, axis=-1, where=np.isfinite(self.values), initial=0.0)

    @property
    def above_mean(self) -> tuple[np.ndarray, np.ndarray]:
        """(n, M) twice: the scale of each map over an image, from its mean to its largest value or to FLAT times the
        mean if that is more.
        """
        finite = np.isfinite(self.values)
        total = np.sum(self.values, axis=-1, where=finite, dtype=np.float64)
        mean = (total / np.maximum(finite.sum(-1), 1)).astype(np.float32)
        return mean, np.maximum(self.largest, FLAT * mean)


def read_maps(attention: Attention) -> Maps:
    """The maps of its images. Raises UnreadableError."""
    path, stored = attention.path, ("layers", "heads", "rollout", "relevance", "legrad")
    arrays = read_arrays(path, ATTENTION_FIELDS, stored, {"n": len(attention)}, optional=ADDED_LATER)
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    layers, heads, rollout = arrays["layers"], arrays["heads"], arrays["rollout"]
    patches = rollout.shape[1]
    side = math.isqrt(patches)
    if 0 in (patches, layers.shape[1], heads.shape[1]) or side * side != patches:
        raise damaged(path, "its maps do not form a square grid")
    combined = {RELEVANCE: as_shares(arrays["relevance"]), MEAN_MAP: layers.mean(1), ROLLOUT: rollout}
    if "legrad" in arrays:
        combined[LEGRAD] = as_shares(arrays["legrad"])
    names = tuple(name for name in AGGREGATES if name in combined)
    values = np.concatenate([np.stack([combined[name] for name in names], axis=1), layers, heads], axis=1)
    return Maps(values, names, layers.shape[1], heads.shape[1], side)


def as_shares(maps: np.ndarray) -> np.ndarray:
    """Maps (n, P), each divided by its sum; values that are not finite stay, and a map without a sum becomes 0."""
    is_finite = np.isfinite(maps)
    total = maps.sum(1, keepdims=True, where=is_finite)
    return np.divide(maps, total, out=np.where(is_finite, np.float32(0), maps), where=total > 0)
