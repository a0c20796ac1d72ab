"""PixelCaches made from arrays, for tests that need no files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.data.cache import PixelCache


def cache_of(pictures: Sequence[np.ndarray]) -> PixelCache:
    """Images uint8 (H, W, 3) laid out one after another, as the cache on disk does."""
    sizes = np.array([picture.size for picture in pictures], dtype=np.int64)
    return PixelCache(
        shards=(np.concatenate([picture.ravel() for picture in pictures]),),
        shard=np.zeros(len(pictures), dtype=np.int32),
        offsets=np.cumsum(sizes) - sizes,
        heights=np.array([picture.shape[0] for picture in pictures], dtype=np.int32),
        widths=np.array([picture.shape[1] for picture in pictures], dtype=np.int32),
        digests=("",) * len(pictures),
        bad={},
    )
