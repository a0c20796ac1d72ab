"""A prediction of one image, or why there is none, and the images that paths name."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.data.folder_scan import EXTENSIONS


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the model predicts for one image; without probabilities if it cannot be used, and `problem` says why."""

    path: Path
    probabilities: np.ndarray  # (C,) float64, empty if there is a problem
    problem: str = ""

    def top(self, count: int) -> list[tuple[int, float]]:
        """The (class index, probability) pairs of the most probable classes; of equal ones, the first class first."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(int(index), float(self.probabilities[index])) for index in order]


def find_images(paths: Iterable[Path]) -> Iterator[Prediction | Path]:
    """The images that files, folders and glob patterns name, each once; a Prediction with a problem for the rest.

    The images of a folder and the matches of a pattern are sorted. Links to folders are not followed.
    """
    known: set[Path] = set()
    for path in paths:
        for image in _images_of(path):
            key = (image.path if isinstance(image, Prediction) else image).absolute()
            if key not in known:
                known.add(key)
                yield image


def _images_of(path: Path) -> Iterator[Prediction | Path]:
    if all(os.path.isfile(path / name) for name in ("config.json", "summary.json")):  # noqa: PTH113 (no error)
        # runs/lr0.0001* may match two: the figures of the second are not what to predict.
        yield failed(path, "it is a run folder, not a folder of images")
    elif path.is_dir():
        yield from _images_in(path)
    elif os.path.lexists(path) or not glob.has_magic(str(path)):
        yield path
    elif matches := sorted(glob.glob(str(path), recursive=True)):  # noqa: PTH207 (absolute patterns)
        for match in map(Path, matches):
            yield from _images_in(match) if match.is_dir() else [match]
    else:
        yield failed(path, "the pattern matches no file")


def _images_in(folder: Path) -> Iterator[Prediction | Path]:
    """Images in a folder and below it, without hidden ones."""
    unlisted: list[OSError] = []
    files = [
        Path(parent, name)
        for parent, _, names in os.walk(folder, onerror=unlisted.append)
        for name in names
        if name.lower().endswith(EXTENSIONS)
    ]
    images = [file for file in files if not any(part.startswith(".") for part in file.relative_to(folder).parts)]
    yield from sorted(images)
    for error in unlisted:
        yield failed(Path(error.filename), f"the folder cannot be listed ({(error.strerror or '').lower()})")
    if not images and not unlisted:
        yield failed(folder, f"the folder holds no images ({', '.join(EXTENSIONS)})")


def failed(path: Path, problem: str) -> Prediction:
    """That there is no prediction for a file, a folder or a pattern, and why."""
    return Prediction(path, np.empty(0), problem)
