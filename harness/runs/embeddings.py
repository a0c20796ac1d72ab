"""Position embeddings as numbers that readers and writers of a run share: cosines and movements of patches.

P patches, D hidden size. Numpy only.
"""

from __future__ import annotations

import numpy as np

_TINY = 1e-300


def centred(patches: np.ndarray) -> np.ndarray:
    """Minus the mean over patches (P, D): what is added to all of them alike changes nothing that a model does."""
    return np.asarray(patches - patches.mean(0))


def cosine(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Cosines between rows of (n, D) and (m, D): (n, m); 0 where a row is 0."""
    left, right = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _TINY) for rows in (left, right))
    return np.asarray(left @ right.T)


def typical_length(patches: np.ndarray) -> float:
    """Root mean square length of the centred embeddings."""
    return float(np.sqrt((centred(patches) ** 2).sum(1).mean()))


def movement(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """How far each patch's centred embedding moved, over the typical length of one before: (P,)."""
    return np.asarray(np.linalg.norm(centred(after) - centred(before), axis=1) / max(typical_length(before), _TINY))
