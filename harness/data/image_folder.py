"""A folder of images as train, validation and test splits: one class map, every structural problem named at once."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import numpy as np

from harness.config import RunConfig
from harness.data import duplicates
from harness.data.decode import read_below
from harness.data.digests import digests_of
from harness.data.folder_scan import EXTENSIONS, Listing, summarise
from harness.data.source import list_images
from harness.data.split_names import SPELLINGS
from harness.data.unread_files import unread_notes
from harness.errors import DataError
from harness.runs.rules import printable


@dataclasses.dataclass(frozen=True)
class Split:
    """Images of one split: POSIX paths relative to the root, sorted, and their class indices int64 (N,)."""

    name: str
    files: tuple[str, ...]
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """Three splits under one class map. `notes` are messages for the user, `ignored` counts entries by reason."""

    root: Path
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    notes: tuple[str, ...]
    ignored: dict[str, int]
    digests: tuple[str, ...]  # of the images of train, then val, then test; "" if one cannot be read
    read: Callable[[str], bytes]  # the bytes of an image; DecodeError if it cannot be read

    @property
    def splits(self) -> tuple[Split, Split, Split]:
        return self.train, self.val, self.test


def load_image_folder(
    root: str | os.PathLike[str],
    *,
    seed: int = 0,
    split_fraction: float = 0.2,
    cache_dir: str | os.PathLike[str] | None = None,
) -> ImageFolder:
    """The splits under `root`; a missing valid or test split is cut from train, per class, by `seed`."""
    folder, problems = scan_image_folder(root, seed=seed, split_fraction=split_fraction, cache_dir=cache_dir)
    if problems:
        raise DataError(problems)
    return folder


def load_configured_folder(config: RunConfig) -> ImageFolder:
    """The splits that a run with this config trains and scores on."""
    return load_image_folder(
        config.data, seed=config.split_seed, split_fraction=config.split_fraction, cache_dir=config.cache_dir
    )


def scan_image_folder(
    root: str | os.PathLike[str],
    *,
    seed: int,
    split_fraction: float,
    cache_dir: str | os.PathLike[str] | None = None,
) -> tuple[ImageFolder, list[str]]:
    """The folder that `load_image_folder` returns, as complete as possible, and every problem it would raise."""
    listing = list_images(Path(root).expanduser().absolute())
    read = listing.read or functools.partial(read_below, listing.root)
    classes = tuple(sorted(listing.images.get("train", {})))
    problems = [*listing.problems, *_class_problems(listing, classes)]
    notes = _absent_classes(listing, classes)
    digests = digests_of(listing.root, listing.stamps, read, cache_dir)
    cut_problems, cut_notes = _cut_missing_splits(listing, seed=seed, fraction=split_fraction)
    splits = {name: _split(name, listing.images.get(name, {}), classes) for name in SPELLINGS}
    copy_problems, copy_notes = _copies(splits.values(), listing.folders, digests)
    left_out = [f"left out: {listing.left_out()}"] if listing.left_out() else []
    left_out += unread_notes(listing.root, listing.unread)
    notes += [*cut_notes, *copy_notes, *_nested_notes(listing), *left_out]
    folder = ImageFolder(
        listing.root,
        classes,
        **splits,
        notes=tuple(notes),
        ignored=dict(listing.ignored),
        digests=tuple(digests[file] for split in splits.values() for file in split.files),
        read=read,
    )
    return folder, [*problems, *cut_problems, *copy_problems]


def fingerprint(folder: ImageFolder, digests: Iterable[str]) -> str:
    """One hash of what is learned from (classes, split, path, label, content), the same wherever the folder lies.

    `digests` are those of the images of train, then val, then test.
    """
    content = hashlib.sha256(json.dumps(folder.classes).encode())
    entries = [(s.name, file, int(label)) for s in folder.splits for file, label in zip(s.files, s.labels, strict=True)]
    for entry, digest in zip(entries, digests, strict=True):
        content.update(json.dumps([*entry, digest]).encode())
    return content.hexdigest()


def _split(name: str, images: dict[str, list[str]], classes: tuple[str, ...]) -> Split:
    index = {name: label for label, name in enumerate(classes)}
    labelled = sorted((file, index[name]) for name, files in images.items() if name in index for file in files)
    return Split(name, tuple(file for file, _ in labelled), np.array([label for _, label in labelled], dtype=np.int64))


def _class_problems(listing: Listing, classes: tuple[str, ...]) -> list[str]:
    problems = []
    train = listing.images.get("train", {})
    count = sum(len(files) for files in train.values())
    empty = [name for name in classes if not train[name]]
    if count and empty:
        problems.append(
            f"train/ has class folders without an image ({len(empty)}): {summarise(empty)}. "
            f"Add images ({', '.join(EXTENSIONS)}) or remove the folders."
        )
    if count and len(classes) < 2:
        problems.append(f"train/ has one class ({summarise(classes)}): telling classes apart takes at least two.")
    if 0 < count < len(classes):
        problems.append(f"train/ has more classes ({len(classes)}) than images ({count}): every class needs its own.")
    for split, folder in listing.folders.items():
        for name in sorted(listing.images[split].keys() - set(classes)) if classes else ():
            near = difflib.get_close_matches(name, classes, n=1)
            hint = f"Did you mean {printable(near[0])}?" if near else "Add the class to train/ or remove the folder."
            problems.append(f"{folder}/ has a class that train/ does not have: {printable(name)}. {hint}")
    return problems


def _absent_classes(listing: Listing, classes: tuple[str, ...]) -> list[str]:
    notes = []
    for split, folder in listing.folders.items():
        absent = [name for name in classes if not listing.images[split].get(name)]
        if split != "train" and absent and any(listing.images[split].values()):
            notes.append(
                f"{folder}: no images of {len(absent)} of {len(classes)} classes ({summarise(absent, 3)}); "
                "they count 0 in macro F1"
            )
    return notes


def _nested_notes(listing: Listing) -> list[str]:
    folders = [f"{folder} ({count})" for folder, count in listing.nested.items()]
    return [f"images in folders below a class are read as that class: {summarise(folders, 5)}"] if folders else []


def _cut_missing_splits(listing: Listing, *, seed: int, fraction: float) -> tuple[list[str], list[str]]:
    """Move a share of each class of train to the splits that have no folder; returns problems and notes.

    Which images go depends on the seed, the class name and the sorted file names alone: not on the order on
    disk, nor on other classes.
    """
    missing = [name for name in SPELLINGS if name not in listing.images]
    if "train" in missing or not missing:
        return [], []
    train = listing.images["train"]
    total = sum(len(files) for files in train.values())
    scarce = []
    listing.images.update({split: {} for split in missing})
    for name, files in train.items():
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
        order = np.random.default_rng([seed, key]).permutation(len(files))
        rest = [sorted(files)[position] for position in order]
        share = min(max(1, int(len(rest) * fraction + 0.5)), max(0, len(rest) - 1) // len(missing))
        if files and not share:
            scarce.append(f"{name} ({len(files)})")
        for split in missing:
            listing.images[split][name], rest = rest[:share], rest[share:]
        train[name] = rest
    names = " and ".join(f"{SPELLINGS[split][0]}/" for split in missing)
    notes = []
    for split in missing:
        count = sum(len(files) for files in listing.images[split].values())
        notes.append(
            f"{SPELLINGS[split][0]}: {count} of train's {total} images set aside, as there is no such folder "
            f"(share {fraction:g} of each class, seed {seed})"
        )
    if not scarce:
        return [], notes
    return [
        f"There is no {names}, so each class of train/ has to give one image to each missing split and keep one. "
        f"Too few for that: {summarise(scarce)}. Add images to them, or add {names}."
    ], []


def _copies(
    splits: Iterable[Split], folders: Collection[str], digests: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Problems and notes on images in two splits: a score would count what was learned by heart.

    `folders` are the splits that were not cut from train.
    """
    entries = [(split.name, file) for split in splits for file in split.files]
    given: list[str] = []
    cut: list[str] = []
    for group in duplicates.exact(entries, digests):
        origins = {split if split in folders else "train" for split, _ in group}
        (given if len(origins) > 1 else cut).append(" = ".join(file for _, file in group))
    problems = [
        f"The same images, byte for byte, are in two splits ({len(given)}), so scores would count what was trained "
        f"on. Keep one of each:\n  {summarise(given, separator=chr(10) + '  ')}"
    ]
    notes = [
        f"images that train/ holds more than once fell into two splits when these were cut ({len(cut)}); "
        f"for honest scores remove the copies: {summarise(cut, 3)}"
    ]
    return (problems if given else []), (notes if cut else [])
