"""A folder of images as train, validation and test splits: one class map, every structural problem named at once."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from harness.config import RunConfig
from harness.data import duplicates
from harness.data.class_problems import absent_classes, class_problems
from harness.data.decode import read_below
from harness.data.digests import known_files
from harness.data.layout import check_layout
from harness.data.listing import Listing
from harness.data.missing_splits import cut_missing_splits, missing_splits
from harness.data.near_copies import NearCopy, crossing_notes, near_copies
from harness.data.source import list_images
from harness.data.split_names import SPELLINGS
from harness.data.unread_files import unread_notes
from harness.errors import DataError, summarise


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
    near_copies: tuple[NearCopy, ...]  # images that look nearly the same; none of images that were not compared
    read: Callable[[str], bytes]  # the bytes of an image; DecodeError if it cannot be read

    @property
    def splits(self) -> tuple[Split, Split, Split]:
        return self.train, self.val, self.test


def load_image_folder(config: RunConfig) -> ImageFolder:
    """The splits that a run trains and scores on; missing ones are cut from train. DataError with all problems."""
    folder, problems = scan_image_folder(config)
    if problems:
        raise DataError(problems)
    return folder


def scan_image_folder(config: RunConfig) -> tuple[ImageFolder, list[str]]:
    """The folder that `load_image_folder` returns, as complete as possible, and every problem it would raise."""
    listing = list_images(Path(config.data).expanduser().absolute())
    read = listing.read or functools.partial(read_below, listing.root)
    classes = tuple(sorted(listing.images.get("train", {})))
    problems = [*listing.problems, *check_layout(listing), *class_problems(listing, classes)]
    notes = absent_classes(listing, classes)
    stamps = {file: listing.stamps[file] for _, file in _entries(listing)}
    known = known_files(listing.root, stamps, read, config.cache_dir)
    digests = {file: known[file].digest for file in known}
    copies = _copies(listing, digests)
    near, near_notes = near_copies(_class_of(listing), known, config.cache_dir)
    cut_problems, cut_notes = cut_missing_splits(listing, copies, near, config)
    split_of = {file: split for split, file in _entries(listing)}  # after the cut
    splits = {name: _split(name, listing.images.get(name, {}), classes) for name in SPELLINGS}
    left_out = [f"left out: {listing.left_out()}"] if listing.left_out() else []
    left_out += unread_notes(listing.root, listing.unread)
    notes += [*cut_notes, *near_notes, *crossing_notes(near, split_of), *_nested_notes(listing), *left_out]
    folder = ImageFolder(
        listing.root,
        classes,
        **splits,
        notes=tuple(notes),
        ignored=dict(listing.ignored),
        digests=tuple(digests[file] for split in splits.values() for file in split.files),
        near_copies=tuple(near),
        read=read,
    )
    return folder, [*problems, *cut_problems, *_copy_problems(copies)]


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


def _nested_notes(listing: Listing) -> list[str]:
    folders = [f"{folder} ({count})" for folder, count in listing.nested.items()]
    return [f"images in folders below a class are read as that class: {summarise(folders, 5)}"] if folders else []


def _entries(listing: Listing) -> list[duplicates.Entry]:
    """Split and path of every image, split by split."""
    return [
        (split, file)
        for split in SPELLINGS
        for file in sorted(file for files in listing.images.get(split, {}).values() for file in files)
    ]


def _class_of(listing: Listing) -> dict[str, str]:
    """The class of every image, split by split."""
    splits = (listing.images.get(split, {}) for split in SPELLINGS)
    return {file: name for images in splits for name, files in sorted(images.items()) for file in sorted(files)}


def _copies(listing: Listing, digests: Mapping[str, str]) -> list[list[duplicates.Entry]]:
    """Groups of byte-identical images that are in two splits, or in train if a split is cut from it."""
    within = ("train",) if missing_splits(listing) else ()
    return duplicates.exact(_entries(listing), digests, within=within)


def _copy_problems(copies: list[list[duplicates.Entry]]) -> list[str]:
    """A problem if images are in two splits that have folders: a score would count what was learned by heart."""
    across = [" = ".join(file for _, file in group) for group in copies if len({split for split, _ in group}) > 1]
    if not across:
        return []
    return [
        f"The same images, byte for byte, are in two splits ({len(across)}), so scores would count what was trained "
        f"on. Keep one of each:\n  {summarise(across, separator=chr(10) + '  ')}"
    ]
