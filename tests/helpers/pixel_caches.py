"""PixelCaches made from arrays, for tests that need no files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.data.cache import PixelCache
from harness.data.dataset import CachedImages
from harness.data.gpu_augment import ImagesOnDevice
from harness.model.preprocessing import Preprocessing


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


def split_of(
    cache: PixelCache, positions: np.ndarray, labels: np.ndarray, on_device: ImagesOnDevice | None = None
) -> CachedImages:
    """Images of a cache as a split, without files."""
    return CachedImages(cache, positions, labels, (), on_device)


def cropped(
    size: int, mean: tuple[float, float, float] = (0.5,) * 3, std: tuple[float, float, float] = (0.5,) * 3
) -> Preprocessing:
    """For images that are resized already: only the crop and normalisation count."""
    return Preprocessing(size, size, "bilinear", mean, std)
