"""Class folders that cannot be trained on: empty ones, names that look the same, classes that train does not have."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

from harness.data.folder_scan import EXTENSIONS
from harness.data.layout import without_labels
from harness.data.listing import MAX_NAMED, Listing
from harness.errors import summarise
from harness.runs.rules import printable


def class_problems(listing: Listing, classes: tuple[str, ...]) -> list[str]:
    """Problems of the class folders of train, and of those of other splits that train does not have."""
    problems = []
    train, where = listing.images.get("train", {}), listing.place("train")
    count = sum(len(files) for files in train.values())
    empty = [name for name in classes if not train[name]]
    if count and empty:
        problems.append(
            f"train/ has class folders without an image ({len(empty)}): {summarise(empty)}. "
            f"Add images ({', '.join(EXTENSIONS)}) or remove the folders."
        )
    if count and len(classes) < 2:
        problems.append(f"{where} has one class ({summarise(classes)}): training needs at least two.")
    if 0 < count < len(classes):
        problems.append(
            f"{where} has more classes ({len(classes)}) than images ({count}): every class needs at least one."
        )
    pairs = lookalikes(classes)
    for name, other in pairs[:MAX_NAMED]:
        remedy = "Give both the same label." if listing.is_list else "Move the images of both into one folder."
        problems.append(
            f"{where} has two classes that look the same, {printable(name)}: they differ in "
            f"{' and '.join(difference(name, other))}. {remedy}"
        )
    if len(pairs) > MAX_NAMED:
        problems.append(f"{where} has {len(pairs) - MAX_NAMED} more pairs of such classes.")
    for split, folder in listing.folders.items():
        unknown = sorted(listing.images[split].keys() - set(classes)) if classes else []
        if split in listing.unlabelled:
            count = listing.unlabelled[split]
            problems.append(f"{folder}/ has images ({count}), but no class folders. {without_labels(folder)}")
        elif not listing.is_list and unknown and len(listing.images[split]) == 1 and not _nearest(unknown[0], classes):
            only = f"{folder}/ has one folder, {printable(unknown[0])}, which is not a class of train/."
            problems.append(f"{only} {without_labels(folder)}")
        else:
            problems += [_unknown_class(listing, split, name, classes) for name in unknown[:MAX_NAMED]]
            if (more := len(unknown) - MAX_NAMED) > 0:  # a hint compares a name with all classes
                problems.append(f"{listing.place(split)} has {more} more classes that {where} does not have.")
    return problems


def _unknown_class(listing: Listing, split: str, name: str, classes: tuple[str, ...]) -> str:
    train = listing.place("train")
    problem = f"{listing.place(split)} has a class that {train} does not have: {printable(name)}."
    if other := lookalike(name, classes):
        here, there = difference(name, other)
        return (
            f"{problem} It looks like a class of {train}, but is spelt with other characters ({here}, in {train} "
            f"{there}): rename it, with the name copied from {train}."
        )
    near = _nearest(name, classes)
    remove = "remove its rows" if listing.is_list else "remove the folder"
    hint = f"Did you mean {printable(near)}?" if near else f"Add the class to {train} or {remove}."
    return f"{problem} {hint}"


def _nearest(name: str, classes: tuple[str, ...]) -> str | None:
    near = [lookalike(name, classes), *difflib.get_close_matches(name, classes, n=1)]
    return next((other for other in near if other), None)


def absent_classes(listing: Listing, classes: tuple[str, ...]) -> list[str]:
    """A note for each split beside train that has no image of a class."""
    notes = []
    for split, folder in listing.folders.items():
        absent = [name for name in classes if not listing.images[split].get(name)]
        if split != "train" and absent and any(listing.images[split].values()):
            notes.append(
                f"{folder}: no images of {len(absent)} of {len(classes)} classes ({summarise(absent, 3)}); "
                "they count 0 in macro F1"
            )
    return notes


def lookalike(name: str, names: Iterable[str]) -> str | None:
    """One of `names` that differs from `name` only in what no reader sees, None if there is none."""
    seen = _as_seen(name)
    return next((other for other in names if other != name and _as_seen(other) == seen), None)


def lookalikes(names: Iterable[str]) -> list[tuple[str, str]]:
    """The pairs of `names` that differ only in what no reader sees; of three such names the first with each other."""
    first: dict[str, str] = {}
    pairs = []
    for name in sorted(set(names)):
        other = first.setdefault(_as_seen(name), name)
        if other != name:
            pairs.append((other, name))
    return pairs


def difference(first: str, second: str) -> tuple[str, str]:
    """The characters in which two names differ, as code points: ("U+00E9", "U+0065 U+0301")."""
    start = 0
    while start < min(len(first), len(second)) and first[start] == second[start]:
        start += 1
    end = 0
    while end < min(len(first), len(second)) - start and first[-1 - end] == second[-1 - end]:
        end += 1
    return _code_points(first[start : len(first) - end]), _code_points(second[start : len(second) - end])


def _as_seen(name: str) -> str:
    """The name with composed letters, plain spaces and no invisible characters."""
    visible = "".join(letter for letter in unicodedata.normalize("NFKC", name) if unicodedata.category(letter) != "Cf")
    return " ".join(visible.split())


def _code_points(text: str) -> str:
    return " ".join(f"U+{ord(letter):04X}" for letter in text) or "nothing"
