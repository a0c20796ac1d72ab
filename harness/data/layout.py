"""Data folders that are laid out otherwise than expected: what they probably are, and what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from harness.data.folder_scan import LAYOUT, MASKS, class_images
from harness.data.listing import Listing
from harness.data.split_names import SPELLINGS, is_by_product, likely_split
from harness.errors import summarise
from harness.runs.rules import printable

LEVELS = 3  # of folders below the root that are searched for one with train/
MOST = 2000  # folders searched


def check_layout(listing: Listing) -> list[str]:
    """Problems of a root without train/, and of folders that look like a missing split; others are left out."""
    if listing.others is None:
        return []  # the root could not be listed, which is a problem already
    if "train" not in listing.folders:
        return [_no_train(listing.root, listing.others)]
    problems = []
    for name in listing.others:
        likely = likely_split(name)
        if likely and likely not in listing.images and class_images(listing.root, name):
            right = SPELLINGS[likely][0]
            problems.append(
                f"{printable(name)}/ looks like the {right} split: rename it to {right}/. "
                "If it is something else, move it out of the data folder."
            )
        elif name != MASKS:
            listing.leave_out("folder(s) beside train, valid and test", name)
    return problems


def without_labels(folder: str) -> str:
    """What to do with a split that has no class folders."""
    return (
        f"Without labels no score is possible. To train, move {printable(folder)}/ out of the data folder: a share of "
        "train/ is then set aside instead. harness predict names the classes of the images afterwards."
    )


def _no_train(root: Path, folders: list[str]) -> str:
    missing = f"{printable(root)} has no train/ folder"
    similar = [name for name in folders if name.casefold().startswith("train")]
    if similar:
        return f"{missing}, but {printable(similar[0])}/: rename it to train/."
    classes = [name for name in folders if class_images(root, name)]
    if classes and root.name == "train":
        return f"{missing}, because it is the train/ folder. Give the folder above it: {printable(root.parent)}."
    below = next(_folders_with_train(root), None)
    if below:
        return f"{missing}, but {printable(below.relative_to(root))}/ has one: give {printable(below)} instead."
    if classes:
        return (
            f"{missing}. Its folders hold images ({summarise(classes, 3)}): if they are the classes, move them under "
            f"train/, as train/{printable(classes[0])}/; valid and test are then cut from them."
        )
    return f"{missing}. Expected {LAYOUT}."


def _folders_with_train(root: Path) -> Iterator[Path]:
    """Folders below `root` that hold train/, as an archive has them that was unpacked into a folder of its name."""
    level = [root]
    for _ in range(LEVELS):
        level = [folder for above in level for folder in _subfolders(above)][:MOST]
        yield from (folder for folder in level if os.path.isdir(folder / "train"))  # noqa: PTH112 (False if refused)


def _subfolders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return [folder / name for name in sorted(names) if not (name.startswith(".") or is_by_product(name))]
