"""PixelCaches made from arrays, for tests that need no files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.data.cache import PixelCache


def cache_of(images: Sequence[np.ndarray]) -> PixelCache:
    """Images uint8 (H, W, 3) laid out one after another, as the cache on disk does."""
    sizes = np.array([image.size for image in images], dtype=np.int64)
    return PixelCache(
        shards=(np.concatenate([image.ravel() for image in images]),),
        shard=np.zeros(len(images), dtype=np.int32),
        offsets=np.cumsum(sizes) - sizes,
        heights=np.array([image.shape[0] for image in images], dtype=np.int32),
        widths=np.array([image.shape[1] for image in images], dtype=np.int32),
        digests=("",) * len(images),
        bad={},
    )
