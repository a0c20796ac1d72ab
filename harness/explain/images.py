"""Images as a model sees them: the files, and the square that is left of each after resize and crop."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from harness.data.augment import centre_crop
from harness.data.cache import PixelCache
from harness.data.decode import DecodeError
from harness.errors import DataError, summarise
from harness.files import not_a_file
from harness.model.preprocessing import Preprocessing
from harness.predict import crop_of
from harness.prediction import Prediction, find_images
from harness.runs.rules import printable

# What an image is drawn from: its number to uint8 (S, S, 3).
Crops = Callable[[int], np.ndarray]


def resolve_image_paths(images: Sequence[Path]) -> tuple[Path, tuple[str, ...]]:
    """The images that `find_images` finds: their common folder, and their paths relative to it, in order."""
    files, problems = [], []
    for image in find_images(images):
        path, problem = (image.path, image.problem) if isinstance(image, Prediction) else (image, not_a_file(image))
        # A path with ".." would lead out of the common folder; the name of a link to an image is kept.
        files.append(Path(os.path.realpath(path.parent), path.name) if ".." in path.parts else path.absolute())
        if problem:
            problems.append(f"{printable(path)} cannot be used: {problem}.")
    if problems:
        raise DataError(problems)
    files = list(dict.fromkeys(files))
    root = Path(os.path.commonpath([file.parent for file in files]))
    return root, tuple(file.relative_to(root).as_posix() for file in files)


def of_cache(pixels: PixelCache, places: np.ndarray, size: int) -> Crops:
    """From images decoded and resized before; `places` (n,) are theirs in the cache."""
    return lambda index: centre_crop(pixels.image(int(places[index])), size)


def of_files(root: Path, files: Sequence[str], preprocessing: Preprocessing) -> Crops:
    """From the files themselves, the same to the last bit; raises DataError at once if files are missing."""
    if missing := [file for file in files if not (root / file).is_file()]:
        raise DataError(
            f"{len(missing)} of {len(files)} images are missing in {printable(root)} ({summarise(missing, 3)}). "
            "Give their folder with --data."
        )

    def load(index: int) -> np.ndarray:
        try:
            return crop_of(root / files[index], preprocessing)
        except DecodeError as error:
            raise DataError(f"{printable(root / files[index])} cannot be used: {error.reason}.") from error

    return load


def evenly_spaced(total: int, most: int) -> list[int]:
    """Up to `most` of the numbers below `total`, at even distances: all classes of a sorted split keep their share."""
    count = min(total, most)
    return (np.arange(count) * total // count).tolist() if count else []
