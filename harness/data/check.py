"""Check a whole data set before training: broken images, duplicates, class balance, sizes."""

from __future__ import annotations

import collections
import dataclasses
import json
from pathlib import Path

import numpy as np

from harness.config import RunConfig
from harness.data import duplicates
from harness.data.blank import blank_by_class, is_blank
from harness.data.cache import cache_directory, undecodable_message
from harness.data.cache_build import readable
from harness.data.decode import DecodeError, decode_image
from harness.data.image_folder import ImageFolder, scan_image_folder
from harness.data.imbalance import imbalance_notes
from harness.data.order_notes import memory_notes
from harness.data.parallel import on_every_core, progress_of
from harness.data.resize import Resize, resized_shape
from harness.errors import summarise
from harness.runs.rules import printable

CACHED = Resize(256)  # the size most weights use; only for estimating the size of the cache


@dataclasses.dataclass(frozen=True)
class Balance:
    """Images of one split, in all and per class."""

    pictures: int
    smallest: int
    median: float
    largest: int
    smallest_classes: tuple[str, ...]  # up to five, unless all classes are equal


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Width and height in pixels, upright, and the most common ones as "224x224"."""

    smallest: tuple[int, int]  # by area, as are the next two
    median: tuple[int, int]
    largest: tuple[int, int]
    common: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Copy:
    """Two copies of one image; likeness 1 and `exact` if byte-identical."""

    first: str
    second: str
    likeness: float
    exact: bool


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """Result of a check: `problems` stop a run, `notes` do not."""

    root: str
    classes: tuple[str, ...]
    splits: dict[str, Balance]
    sizes: Sizes | None
    modes: dict[str, int]
    ignored: dict[str, int]
    broken: dict[str, str]
    blank: tuple[str, ...]  # files whose image is nearly one colour
    copies_across_splits: tuple[Copy, ...]
    copies_in_train: tuple[Copy, ...]
    cache_bytes: int
    cache_dir: str
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False)

    def lines(self) -> list[str]:
        """The report for a terminal."""
        count = len(self.classes)
        text = [f"{printable(self.root)}: {count} class{'es' if count != 1 else ''}", ""]
        text.append(f"  {'split':8}{'images':>10}   per class: smallest, median, largest")
        for name, split in self.splits.items():
            few = f"   fewest: {summarise(split.smallest_classes)}" if split.smallest_classes else ""
            text.append(f"  {name:8}{split.pictures:>10}   {split.smallest}, {split.median:g}, {split.largest}{few}")
        if self.sizes:
            ends = (self.sizes.smallest, self.sizes.median, self.sizes.largest)
            smallest, median, largest = (f"{width}x{height}" for width, height in ends)
            common = ", ".join(f"{size} ({count})" for size, count in self.sizes.common.items())
            modes = ", ".join(f"{mode} ({count})" for mode, count in self.modes.items())
            text += ["", f"  sizes   smallest {smallest}, median {median}, largest {largest}; most common {common}"]
            text.append(f"  modes   {modes}")
            text.append(
                f"  cache   about {readable(self.cache_bytes)} at a short side of {CACHED.size} pixels, "
                f"in {printable(self.cache_dir)}"
            )
        found = [*(f"note: {note}" for note in self.notes), *(f"problem: {problem}" for problem in self.problems)]
        return [*text, "", *(found or ["No problems found."])]


@dataclasses.dataclass(frozen=True)
class _Seen:
    """One image, decoded: what is kept of it."""

    size: tuple[int, int]
    mode: str
    grey_bits: int | None
    blank: bool


def report(config: RunConfig) -> CheckReport:
    """Every problem that would stop a run of these settings, and notes on what would not stop it."""
    folder, problems = scan_image_folder(config)
    splits = {file: split.name for split in folder.splits for file in split.files}
    files = list(splits)
    seen, broken = _look_at_all(folder.root, files)
    pairs = _copies(folder)
    across = tuple(pair for pair in pairs if splits[pair.first] != splits[pair.second])
    within = tuple(pair for pair in pairs if splits[pair.first] == splits[pair.second] == "train")
    if broken:
        problems.append(undecodable_message(folder.root, len(files), broken))
    shapes = [resized_shape(*image.size, CACHED) for image in seen.values()]
    cache_bytes = sum(width * height * 3 for width, height in shapes)
    return CheckReport(
        root=str(folder.root),
        classes=folder.classes,
        splits={split.name: _balance(folder.classes, split.labels) for split in folder.splits},
        sizes=_sizes([image.size for image in seen.values()]),
        modes=dict(collections.Counter(image.mode for image in seen.values()).most_common()),
        ignored=folder.ignored,
        broken=broken,
        blank=tuple(file for file, image in seen.items() if image.blank),
        copies_across_splits=across,
        copies_in_train=within,
        cache_bytes=cache_bytes,
        cache_dir=str(cache_directory(config.cache_dir)),
        problems=tuple(problems),
        notes=(
            *folder.notes,
            *imbalance_notes(folder),
            *_pixel_notes(seen, folder),
            *_train_copy_notes(folder, within),
            *memory_notes(cache_bytes),
        ),
    )


def _look_at_all(root: Path, files: list[str]) -> tuple[dict[str, _Seen], dict[str, str]]:
    """What was seen of each image that decodes, and the reason of each that does not."""

    def look_at(file: str) -> _Seen | str:
        try:
            decoded = decode_image(root / file, short_side=CACHED.size)
        except DecodeError as error:
            return error.reason
        return _Seen(decoded.size, decoded.mode, decoded.grey_bits, is_blank(decoded.image))

    with progress_of("checking images", len(files)) as add:
        results = dict(zip(files, on_every_core(look_at, files, add), strict=True))
    seen = {file: result for file, result in results.items() if isinstance(result, _Seen)}
    return seen, {file: result for file, result in results.items() if isinstance(result, str)}


def _copies(folder: ImageFolder) -> list[Copy]:
    """Near-copies, and of byte-identical files the first with each other one."""
    entries = [(split.name, file) for split in folder.splits for file in split.files]
    digests = dict(zip((file for _, file in entries), folder.digests, strict=True))
    groups = duplicates.exact(entries, digests, within=[split.name for split in folder.splits])
    exact = [Copy(group[0][1], file, 1.0, exact=True) for group in groups for _, file in group[1:]]
    return [*exact, *(Copy(*copy, exact=False) for copy in folder.near_copies)]


def _pixel_notes(seen: dict[str, _Seen], folder: ImageFolder) -> list[str]:
    notes = []
    few_bits = {file: image.grey_bits for file, image in seen.items() if image.grey_bits in (8, 12)}
    for bits in sorted(set(few_bits.values())):
        names = [file for file in few_bits if few_bits[file] == bits]
        notes.append(f"16-bit grey files whose values need {bits} bits are read as such ({len(names)}): {names[0]}")
    count = sum(image.blank for image in seen.values())
    if count:
        class_of = {
            file: folder.classes[label]
            for split in folder.splits
            for file, label in zip(split.files, split.labels.tolist(), strict=True)
        }
        classes = blank_by_class({file: image.blank for file, image in seen.items()}, class_of)
        notes.append(
            f"images are nearly one colour ({count}), by class: {classes}. Look at them: white drawings on "
            "transparency, files of few bits and failed downloads look like this"
        )
    return notes


def _train_copy_notes(folder: ImageFolder, within: tuple[Copy, ...]) -> list[str]:
    notes = []
    if within:
        notes.append(f"the training images contain copies of each other ({len(within)} pairs)")
    label = dict(zip(folder.train.files, folder.train.labels.tolist(), strict=True))
    torn = [f"{pair.first} ~ {pair.second}" for pair in within if label[pair.first] != label[pair.second]]
    if torn:
        notes.append(
            f"duplicate training images have two different labels ({len(torn)}); correct one:"
            f"\n  {summarise(torn, 20, chr(10) + '  ')}"
        )
    return notes


def _balance(classes: tuple[str, ...], labels: np.ndarray) -> Balance:
    counts = np.bincount(labels, minlength=len(classes))
    if not len(counts):
        return Balance(0, 0, 0.0, 0, ())
    fewest = np.argsort(counts, kind="stable")[: 5 if counts.min() < counts.max() else 0]
    names = tuple(f"{classes[index]} ({counts[index]})" for index in fewest)
    return Balance(len(labels), int(counts.min()), float(np.median(counts)), int(counts.max()), names)


def _sizes(sizes: list[tuple[int, int]]) -> Sizes | None:
    if not sizes:
        return None
    by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    common = collections.Counter(f"{width}x{height}" for width, height in sizes).most_common(3)
    return Sizes(by_area[0], by_area[len(by_area) // 2], by_area[-1], dict(common))
