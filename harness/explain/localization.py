"""How much of the attention is on the object, where masks say what the object is.

Masks lie beside the data as `harness data demo` writes them: of the image `<data>/test/golf/0001.jpg` it is
`<data>/masks/test/golf/0001.png`, of the same size, white where the object is and black elsewhere. n images, P = g²
patches row by row, K maps of an image.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from harness.data.augment import centre_crop
from harness.data.decode import DecodeError, decode_pil, upright_size
from harness.data.resize import Resize, resized
from harness.errors import DataError, summarise
from harness.explain.drawing.canvas import percent
from harness.explain.maps import combined_maps
from harness.files import write_atomically
from harness.model.preprocessing import Preprocessing, checked_preprocessing
from harness.runs.attention_files import Archive
from harness.runs.resampling import Interval, mean_intervals
from harness.runs.rules import AGGREGATES

FOLDER = "masks"
CENTRE_WIDTH = 0.25  # standard deviation of the prior at the centre, as a share of the image's side


@dataclasses.dataclass(frozen=True)
class Share:
    """The part of a map that is on the object; differences are between the same images."""

    name: str  # of the map: AGGREGATES, then "layer 1" ...
    n: int  # images; a map without any mass has no share
    share: Interval
    above_chance: Interval  # less the object's share of the area, which an even map would have
    above_centre: Interval  # less the share of a Gaussian at the centre, CENTRE_WIDTH wide


@dataclasses.dataclass(frozen=True)
class OnObject:
    """The content of `object.json`: means over the images whose mask has an object."""

    n: int
    chance: Interval
    centre: Interval
    centre_width: float
    maps: tuple[Share, ...]  # those that have any mass

    @property
    def aggregates(self) -> list[Share]:
        return [one for one in self.maps if one.name in AGGREGATES]

    def sentence(self) -> str:
        found = "".join(f"{in_percent(one.share)} of {one.name}, " for one in self.aggregates)
        return (
            f"On the object ({self.n} images with masks; means, 95 % intervals): {found}"
            f"{percent(self.chance.value)} by chance, {percent(self.centre.value)} of a Gaussian at the centre."
        )

    def summary(self) -> dict[str, float]:
        """For a run's summary."""
        found = {"object/n": float(self.n), "object/chance": self.chance.value, "object/centre": self.centre.value}
        for one in self.aggregates:
            key = f"object/{one.name.split()[0].lower()}"
            found |= {key: one.share.value, f"{key}_low": one.share.low, f"{key}_high": one.share.high}
        return found


def on_object(archive: Archive, root: Path) -> OnObject | None:
    """Attention on the objects of an archive's images; None where nothing can be measured.

    `root` is the data's folder. None without masks, without an object inside the
    crop, or if all maps are 0. Raises DataError for masks that cannot be used, OSError without access to them.
    """
    files = [str(file) for file in archive.files]
    having = [index for index, file in enumerate(files) if mask_path(root, file).is_file()]
    if not having:
        return None
    preprocessing = checked_preprocessing(archive.settings["preprocessing"])
    side = math.isqrt(archive.rollout.shape[1])
    covered = coverage(root, [files[index] for index in having], preprocessing, side)
    seen = np.flatnonzero(covered.any(1))  # the rest lost their object to the crop
    if not len(seen):
        return None
    found = measure(maps_of(archive, np.array(having)[seen]), covered[seen])
    return found if found.maps else None


def mask_path(root: Path, file: str) -> Path:
    """Where the mask of an image is, if it has one; `file` is relative to `root`."""
    return root / FOLDER / PurePosixPath(file).with_suffix(".png")


def coverage(root: Path, files: Sequence[str], preprocessing: Preprocessing, side: int) -> np.ndarray:
    """What part of each patch the object covers, (n, P) from 0 to 1; resized and cropped as the images were.

    Raises DataError with everything that is wrong with the masks.
    """
    rule = Resize(preprocessing.resize_size, preprocessing.interpolation)
    found, problems = [], []
    for file in files:
        path = mask_path(root, file)
        try:
            mask = decode_pil(path).convert("L")
            size, expected = mask.size, upright_size(root / file)
            if size != expected:
                raise DecodeError(f"{size[0]}x{size[1]} pixels, its image has {expected[0]}x{expected[1]}")
            if 0 < (brightest := int(np.asarray(mask).max())) < 128:
                raise DecodeError(f"its brightest value is {brightest}; object pixels must be 255")
            cells = centre_crop(np.asarray(resized(mask, rule)), preprocessing.crop_size) / 255.0
        except DecodeError as error:
            problems.append(f"{path.relative_to(root)} ({error.reason})")
            continue
        patch = len(cells) // side
        found.append(cells.reshape(side, patch, side, patch).mean((1, 3)).ravel())
    if problems:
        raise DataError(f"{len(problems)} of {len(files)} masks cannot be used: {summarise(problems, 3)}.")
    return np.stack(found)


def maps_of(archive: Archive, indices: np.ndarray) -> dict[str, np.ndarray]:
    """Every map of those images, (n, P) each."""
    layers = archive.layers[indices].astype(np.float64)
    return {
        **combined_maps(archive, indices),
        **{f"layer {number}": layers[:, number - 1] for number in range(1, layers.shape[1] + 1)},
    }


def energy(maps: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Σ map · coverage / Σ map, the share of a map's mass that is on the object: (n,), NaN where it has no mass.

    Both (n, P). (The energy-based pointing game of Wang et al. 2020, arXiv 1910.01279.)
    """
    values = maps.astype(np.float64)
    total = values.sum(1)
    sound = np.isfinite(total) & (total > 0)
    return np.divide((values * covered).sum(1), total, out=np.full(len(values), np.nan), where=sound)


def centre_prior(side: int) -> np.ndarray:
    """A Gaussian at the centre of the image, CENTRE_WIDTH of its side wide: (P,)."""
    offsets = (np.arange(side) + 0.5) / side - 0.5
    one = np.exp(-0.5 * (offsets / CENTRE_WIDTH) ** 2)
    return np.outer(one, one).ravel()


def measure(maps: dict[str, np.ndarray], covered: np.ndarray) -> OnObject:
    """Shares of maps (n, P) each on objects that cover (n, P), against chance and centre."""
    chance = covered.mean(1)
    centre = energy(np.broadcast_to(centre_prior(math.isqrt(covered.shape[1])), covered.shape), covered)
    shares = {name: energy(each, covered) for name, each in maps.items()}
    known = {name: share for name, share in shares.items() if np.isfinite(share).any()}
    columns = [chance, centre, *(part for one in known.values() for part in (one, one - chance, one - centre))]
    of_chance, of_centre, *intervals = mean_intervals(np.stack(columns, axis=1))
    found = tuple(
        Share(name, int(np.isfinite(share).sum()), *intervals[3 * index : 3 * index + 3])
        for index, (name, share) in enumerate(known.items())
    )
    return OnObject(len(covered), of_chance, of_centre, CENTRE_WIDTH, found)


def in_percent(interval: Interval) -> str:
    """The interval of a share as text: "29.6 % (28 % to 31.3 %)"."""
    return f"{percent(interval.value)} ({percent(interval.low)} to {percent(interval.high)})"


def write(path: Path, found: OnObject) -> None:
    write_atomically(path, (json.dumps(dataclasses.asdict(found), indent=1) + "\n").encode())
