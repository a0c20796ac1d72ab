"""Folders below a class folder: links out of the class, and images that were made from other images."""

from __future__ import annotations

import collections
import errno
import os
from collections.abc import Iterable
from itertools import islice
from pathlib import PurePosixPath

# Folders with these names usually hold images made from those beside them.
DERIVED = ("mask", "masks", "crop", "crops", "cropped", "thumb", "thumbs", "thumbnails", "resized", "augmented", "aug")


def leaves_class(target: str, class_folder: str, splits: Iterable[str]) -> bool:
    """Whether a linked folder holds other classes too: one above the class, or in another class of a split.

    All are real paths; `target` is what the link leads to. A link to images outside of the splits is fine.
    """
    if is_within(target, class_folder):
        return False
    return is_within(class_folder, target) or meets_splits(target, splits)


def leads_nowhere(entry: os.DirEntry[str]) -> str:
    """Why a link in a folder cannot be followed, and what to do; "" if it can be or if it is not a link."""
    if entry.is_symlink():
        try:
            entry.stat()
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return "a link to nothing. Restore or remove it."
            return f"a link that cannot be followed ({error.strerror}). Check its target's permissions and disk."
    return ""


def meets_splits(target: str, splits: Iterable[str]) -> bool:
    """Whether a folder or file is in one of the splits, or holds one; all are real paths."""
    return any(is_within(target, split) or is_within(split, target) for split in splits)


def is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def below(files: Iterable[str]) -> dict[str, int]:
    """Images per folder below the class folders; files are <split>/<class>/.../<image>."""
    folders = collections.Counter(file.rpartition("/")[0] for file in files)
    return {folder: count for folder, count in sorted(folders.items()) if folder.count("/") > 1}


def twins(files: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Per nested folder, an image in it and the one of the same name it was probably made from.

    The other one lies in a folder above, or, for folders in DERIVED, anywhere else in the class.
    """
    by_stem: dict[tuple[str, ...], dict[PurePosixPath, str]] = {}  # split, class and stem -> folder -> its first file
    for file in files:
        path = PurePosixPath(file)
        by_stem.setdefault((*path.parts[:2], path.stem.casefold()), {}).setdefault(path.parent, file)
    pairs: dict[str, tuple[str, str]] = {}
    for places in by_stem.values():
        for folder, file in places.items():
            # Not each with each: data sets have thousands of folders that hold the same name, one per person or video.
            above = next((place for place in folder.parents if place in places), None)
            if above is None and folder.name.casefold() in DERIVED:
                above = next((place for place in islice(places, 2) if place != folder), None)
            if above is not None:
                pairs.setdefault(str(folder), (file, places[above]))
    return dict(sorted(pairs.items()))
