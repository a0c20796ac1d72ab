"""Folders below a class folder: links out of the class, and images that were made from other images."""

from __future__ import annotations

import collections
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

# Folders with these names usually hold images made from those beside them.
DERIVED = ("mask", "masks", "crop", "crops", "cropped", "thumb", "thumbs", "thumbnails", "resized", "augmented", "aug")


def leaves_class(link: str, class_folder: Path, root: Path, splits: Iterable[str]) -> bool:
    """Whether a linked folder holds other classes too: one above the class, or in another class of a split.

    `link` is the real path of what the link leads to. A link to images outside of the splits is fine.
    """
    target = Path(link)
    real_root, real_class = Path(os.path.realpath(root)), Path(os.path.realpath(class_folder))
    if real_class.is_relative_to(target) and target != real_class:
        return True
    if target.is_relative_to(real_class):
        return False
    return any(target.is_relative_to(real_root / split) for split in splits) or real_root.is_relative_to(target)


def below(files: Iterable[str]) -> dict[str, int]:
    """Images per folder below the class folders; files are <split>/<class>/.../<image>."""
    folders = collections.Counter(file.rpartition("/")[0] for file in files)
    return {folder: count for folder, count in sorted(folders.items()) if folder.count("/") > 1}


def twins(files: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Per nested folder, an image in it and the one of the same name it was probably made from.

    The other one lies in a folder above, or, for folders in DERIVED, anywhere else in the class.
    """
    by_stem: dict[tuple[str, ...], list[PurePosixPath]] = {}
    for file in files:
        path = PurePosixPath(file)
        by_stem.setdefault((*path.parts[:2], path.stem.casefold()), []).append(path)
    pairs: dict[str, tuple[str, str]] = {}
    for same in by_stem.values():
        for path in same:
            derived = path.parent.name.casefold() in DERIVED
            for other in same:
                above = other.parent in path.parent.parents
                if above or (derived and other.parent != path.parent):
                    pairs.setdefault(str(path.parent), (str(path), str(other)))
    return dict(sorted(pairs.items()))
