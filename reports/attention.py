"""Where a run's model looked, as `attention/` in its folder tells it: test images, maps, and sprites of the images.

n images, L layers, H heads, P = g² patches row by row, C classes. Files may be damaged or come from anywhere: what
cannot be used is an `Unusable` with the reason in a few words.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from reports.runs import DAMAGE, content_of

AGGREGATES = ("mean over layers", "rollout", "relevance")
# Of attention.npz: one number for each image.
PER_PICTURE = ("labels", "predicted", "probability", "label_probability", "outlier_share", "outlier_attention")
VERSION = 1  # of attention.npz and of sprites.json that this reads

# As in harness/explain/outliers.py: outlier patches that draw so much of the attention, and so many times their share.
TAKEN, EXCESS = 0.5, 2.0


class Unusable(Exception):
    """Why a file of a run cannot be shown, in a few words."""


@dataclass(frozen=True, eq=False)
class Attention:
    """What `attention.npz` says of n images; the maps, which are large, are read by `maps`."""

    path: Path
    files: tuple[str, ...]  # (n,)
    classes: tuple[str, ...]  # (C,)
    labels: np.ndarray  # (n,) int, -1 unknown
    predicted: np.ndarray  # (n,) int
    probability: np.ndarray  # (n,) float, of the predicted class
    label_probability: np.ndarray  # (n,) float, of the label; NaN unknown
    outlier_share: np.ndarray  # (n,) float: of the patches, in the layer where outliers take most attention ...
    outlier_attention: np.ndarray  # (n,) float: ... and of that attention
    settings: Mapping[str, Any]
    stamp: str  # of the file that this was read from, or an earlier one: another when it is replaced

    def __len__(self) -> int:
        return len(self.files)

    @property
    def misleading(self) -> np.ndarray:
        """(n,) bool: maps that are not to be trusted, for a few outlier patches draw the attention."""
        return (self.outlier_attention >= TAKEN) & (self.outlier_attention >= EXCESS * self.outlier_share)


@dataclass(frozen=True, eq=False)
class Maps:
    """All maps of all images, M = 3 + L + H of each: AGGREGATES, layers, heads of one layer."""

    values: np.ndarray  # (n, M, P) float32; relevance divided by its sum, for images differ in its scale
    layers: int
    heads: int
    side: int  # g

    @property
    def largest(self) -> np.ndarray:
        """(n, M): the largest finite value of each map, 0 if there is none above."""
        return np.max(self.values, axis=-1, where=np.isfinite(self.values), initial=0.0)


@dataclass(frozen=True, eq=False)
class HeadStatistics:
    """What each head does, as means over the images."""

    values: np.ndarray  # (L, H, K) float64
    names: tuple[str, ...]  # (K,)


@dataclass(frozen=True)
class Sprites:
    """Small images in sheets of columns x rows cells of `side` pixels, filled row by row."""

    folder: Path
    side: int
    columns: int
    rows: int
    sheets: tuple[str, ...]
    pictures: tuple[int, ...]  # which of attention.npz's they are
    pixels: str  # the same for runs that saw the same pixels

    @property
    def layout(self) -> str:
        """Another for sheets that the same pixels stand on in another way."""
        return f"{self.side} {self.columns} {self.rows} {self.sheets}"


def read_attention(run_folder: Path) -> Attention:
    """What is known of each image, maps aside. Raises Unusable."""
    path = run_folder / "attention" / "attention.npz"
    stamp = _stamp(path)  # first: what is replaced meanwhile is then read again by the next page
    found = _arrays(path, ("files", "classes", "settings", *PER_PICTURE))
    files, classes = (tuple(map(str, found[name].tolist())) for name in ("files", "classes"))
    per_picture = {name: found[name] for name in PER_PICTURE}
    try:
        settings = json.loads(str(found["settings"]))
        wrong = [name for name, values in per_picture.items() if values.shape != (len(files),)]
        labels, predicted = (found[name].astype(np.int64) for name in ("labels", "predicted"))
        numbers = {name: values.astype(np.float64) for name, values in per_picture.items()}
    except (ValueError, TypeError, RecursionError) as error:
        raise Unusable(f"{path.name} is damaged ({error})") from error
    if not isinstance(settings, dict) or settings.get("version") not in (None, VERSION):
        raise Unusable(f"{path.name} is of another version")
    if wrong or not files:
        raise Unusable(f"{path.name} is damaged ({wrong[0]} does not fit)" if wrong else f"{path.name} has no images")
    if predicted.min() < 0 or max(predicted.max(), labels.max()) >= len(classes) or len(set(files)) < len(files):
        raise Unusable(f"{path.name} is damaged (classes or images do not fit)")
    del numbers["labels"], numbers["predicted"]
    return Attention(path, files, classes, labels, predicted, settings=settings, stamp=stamp, **numbers)


def _stamp(path: Path) -> str:
    try:
        about = path.stat()
    except OSError:
        return ""  # what is wrong is said when it is read
    return f"{about.st_mtime_ns}-{about.st_size}"


def maps(attention: Attention) -> Maps:
    """The maps of its images. Raises Unusable."""
    found = _arrays(attention.path, ("layers", "heads", "rollout", "relevance"))
    layers, heads, rollout, relevance = (found[name] for name in ("layers", "heads", "rollout", "relevance"))
    n, patches = len(attention), rollout.shape[-1]
    side = math.isqrt(patches)
    if (
        {rollout.shape, relevance.shape} != {(n, patches)}
        or not layers.ndim == heads.ndim == 3
        or {layers.shape[::2], heads.shape[::2]} != {(n, patches)}
        or 0 in (patches, layers.shape[1], heads.shape[1])
        or side * side != patches
    ):
        raise Unusable(f"{attention.path.name} is damaged (its maps do not fit together)")
    try:
        layers, heads, rollout, relevance = (each.astype(np.float32) for each in (layers, heads, rollout, relevance))
    except ValueError as error:
        raise Unusable(f"{attention.path.name} is damaged ({error})") from error
    finite = np.isfinite(relevance)
    total = relevance.sum(1, keepdims=True, where=finite)
    shares = np.divide(relevance, total, out=np.where(finite, relevance.dtype.type(0), relevance), where=total > 0)
    aggregates = np.stack([layers.mean(1), rollout, shares], axis=1)
    return Maps(np.concatenate([aggregates, layers, heads], axis=1), layers.shape[1], heads.shape[1], side)


def read_statistics(run_folder: Path) -> HeadStatistics:
    """The statistics of `attention.npz`. Raises Unusable."""
    path = run_folder / "attention" / "attention.npz"
    found = _arrays(path, ("statistics", "statistic_names"))
    values, names = found["statistics"], tuple(map(str, found["statistic_names"].tolist()))
    if values.ndim != 3 or 0 in values.shape or values.shape[2] != len(names) or values.dtype.kind != "f":
        raise Unusable(f"{path.name} is damaged (its statistics do not fit)")
    return HeadStatistics(values.astype(np.float64), names)


def read_sprites(run_folder: Path, n: int) -> Sprites:
    """The sprites of a run whose `attention.npz` has `n` images. Raises Unusable."""
    folder = run_folder / "attention" / "sprites"
    try:
        about = json.loads(content_of(folder / "sprites.json"))
    except FileNotFoundError:
        raise Unusable("no small images") from None
    except (OSError, ValueError, RecursionError) as error:
        raise Unusable(f"sprites.json is damaged ({error})") from error
    try:
        if about["version"] != VERSION:
            raise Unusable("sprites.json is of another version")
        side, columns, rows = (int(about[name]) for name in ("side", "columns", "rows"))
        sheets, pictures = tuple(about["sheets"]), tuple(about["pictures"])
        fits = (
            min(side, columns, rows) > 0
            and all(isinstance(name, str) and PurePosixPath(name).name == name and "\\" not in name for name in sheets)
            and all(type(number) is int and 0 <= number < n for number in pictures)
            and len(set(pictures)) == len(pictures) <= len(sheets) * columns * rows
        )
        found = Sprites(folder, side, columns, rows, sheets, pictures, str(about["pixels"]))
    except (KeyError, TypeError, ValueError) as error:
        raise Unusable(f"sprites.json is damaged ({error})") from error
    if not fits:
        raise Unusable("sprites.json is damaged (it does not fit attention.npz)")
    if missing := [name for name in sheets if not (folder / name).is_file()]:
        raise Unusable(f"sprites/{missing[0]} is missing")
    return found


def read_file(path: Path) -> bytes:
    """An image of a run as it is. Raises Unusable."""
    try:
        return content_of(path)
    except OSError as error:
        raise Unusable(f"{path.name} cannot be read ({error.strerror})") from error


def _arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Those arrays of an npz file; nothing in it is run."""
    if path.exists() and not path.is_file():
        raise Unusable(f"{path.name} is not a file")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}
    except FileNotFoundError:
        raise Unusable(f"{path.name} is missing") from None
    except DAMAGE as error:
        raise Unusable(f"{path.name} is damaged ({error})") from error
