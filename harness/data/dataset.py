"""A data set ready for use: the images of every split, decoded, the unreadable ones left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.config import RunConfig
from harness.data.cache import PixelCache, open_cache
from harness.data.gpu_augment import ImagesOnDevice
from harness.data.image_folder import ImageFolder, Split, fingerprint
from harness.data.resize import Resize
from harness.errors import UndecodableError
from harness.model.preprocessing import Preprocessing


@dataclasses.dataclass(frozen=True)
class CachedImages:
    """One split: where its images are in the cache int64 (N,), their class indices int64 (N,), and their files."""

    cache: PixelCache
    positions: np.ndarray
    labels: np.ndarray
    files: tuple[str, ...]
    on_device: ImagesOnDevice | None = None  # the same images, where they are in device memory

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, chosen: Sequence[int]) -> CachedImages:
        """Those of its images, by their places in the split."""
        places = np.array(chosen, np.int64)
        files = tuple(self.files[place] for place in chosen)
        return dataclasses.replace(self, positions=self.positions[places], labels=self.labels[places], files=files)


@dataclasses.dataclass(frozen=True)
class Dataset:
    root: Path  # what the files of its images are relative to
    classes: tuple[str, ...]
    pixels: PixelCache
    train: CachedImages
    val: CachedImages
    test: CachedImages
    skipped: dict[str, str]  # file -> why it could not be read
    fingerprint: str  # of contents and class names: equal on every machine

    def facts(self) -> dict[str, object]:
        """What the manifest and W&B keep about the data."""
        return {
            "fingerprint": self.fingerprint,
            "classes": len(self.classes),
            "images": {"train": len(self.train), "val": len(self.val), "test": len(self.test)},
            "skipped": self.skipped,
        }


def open_dataset(folder: ImageFolder, preprocessing: Preprocessing, config: RunConfig) -> Dataset:
    """Decode what is not decoded yet, and select each split's readable images."""
    files = tuple(file for split in folder.splits for file in split.files)
    pixels = open_cache(
        folder.root,
        files,
        digests=folder.digests,
        read=folder.read,
        resize=Resize(preprocessing.resize_size, preprocessing.interpolation),
        cache_dir=config.cache_dir,
        bad_images=config.bad_images,
    )
    starts = np.cumsum([0, *(len(split.files) for split in folder.splits)])
    train, val, test = (
        _readable(split, int(start), pixels) for split, start in zip(folder.splits, starts, strict=False)
    )
    present = set(train.labels.tolist())
    problems = [
        f"No readable training image is left of class {name} in {folder.root}; add some, or remove the class."
        for index, name in enumerate(folder.classes)
        if index not in present
    ]
    for name, images in (("validation", val), ("test", test)):
        if not len(images):
            problems.append(f"No readable {name} image is left in {folder.root}; add some, or remove the split.")
    if problems:
        raise UndecodableError(problems)
    return Dataset(
        root=folder.root,
        classes=folder.classes,
        pixels=pixels,
        train=train,
        val=val,
        test=test,
        skipped={files[index]: reason for index, reason in pixels.bad.items()},
        fingerprint=fingerprint(folder, pixels.digests),
    )


def _readable(split: Split, start: int, pixels: PixelCache) -> CachedImages:
    kept = np.array([start + index not in pixels.bad for index in range(len(split.files))], dtype=bool)
    return CachedImages(
        cache=pixels,
        positions=start + np.flatnonzero(kept),
        labels=split.labels[kept],
        files=tuple(file for file, keep in zip(split.files, kept, strict=True) if keep),
    )
