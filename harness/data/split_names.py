"""Names of folders and files in a data folder: which are splits, likely misspellings of one, or by-products."""

from __future__ import annotations

import difflib
import re

# Accepted folder names of each split; messages suggest the first.
SPELLINGS = {"train": ("train",), "val": ("valid", "val", "validation"), "test": ("test",)}

# Words that mean a split although no folder of that name is read.
_WORDS = {
    "train": ("train", "training", "trains", "trainset", "trn"),
    "val": ("valid", "val", "validation", "validate", "validating", "validset", "valset", "vals", "dev", "eval"),
    "test": ("test", "testing", "tests", "testset", "tst"),
}

# Folders with such a word describe the images of a split; they do not hold them.
_COMPANIONS = {"annotation", "annotations", "label", "labels", "mask", "masks", "json", "csv", "xml"}


def likely_split(name: str) -> str | None:
    """The split that a folder's name probably means: "val" for Valid, val_images, vaild; None if none."""
    words = [word for word in re.split(r"[^a-z]+", name.casefold()) if word]
    if _COMPANIONS.intersection(words):
        return None
    for split, synonyms in _WORDS.items():
        if set(words) & set(synonyms):
            return split
    close = difflib.get_close_matches("".join(words), sum(SPELLINGS.values(), ()), n=1, cutoff=0.8)
    return next((split for split, names in SPELLINGS.items() if close and close[0] in names), None)


# Folders and files that programs leave beside images: thumbnails, settings, the other halves of Mac archives.
_BY_PRODUCTS = {
    "@eadir",
    "__macosx",
    ".ipynb_checkpoints",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    ".ds_store",
    ".thumbnails",
    ".appledouble",
    ".spotlight-v100",
    ".trashes",
    ".fseventsd",
    "#recycle",
    "$recycle.bin",
    "system volume information",
    "lost+found",
}


def is_by_product(name: str) -> bool:
    return name.casefold() in _BY_PRODUCTS or name.startswith("._")
