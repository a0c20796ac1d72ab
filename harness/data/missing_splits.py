"""Splits that have no folder: a share of train, cut so that images that belong together stay in one split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from harness.config import RunConfig
from harness.data import duplicates
from harness.data.grouping import groups_of, members, named_groups, sibling_pairs
from harness.data.listing import Listing
from harness.data.near_copies import NearCopy
from harness.data.split_names import SPELLINGS
from harness.errors import summarise
from harness.runs.rules import printable

# split -> class -> files
Images = dict[str, dict[str, list[str]]]


def missing_splits(listing: Listing) -> list[str]:
    """The splits to cut from train; none if there is no train."""
    return [name for name in SPELLINGS if name not in listing.images] if "train" in listing.images else []


def cut_missing_splits(
    listing: Listing,
    copies: Sequence[Sequence[duplicates.Entry]],
    near: Sequence[NearCopy],
    config: RunConfig,
) -> tuple[list[str], list[str]]:
    """Move a share of each class of train to the splits that have no folder; returns problems and notes.

    `copies` are groups of byte-identical images, `near` pairs that look alike.
    """
    seed, fraction, pattern = config.split_seed, config.split_fraction, config.split_group
    problems, notes = group_remarks(listing, pattern) if pattern is not None else ([], [])
    missing = missing_splits(listing)
    if not missing:
        return problems, notes
    train = listing.images["train"]
    files = [file for classes in train.values() for file in classes]
    pairs = _pairs(train, copies, pattern)
    kept, apart = list(_within(train, near)), set[str]()
    while True:
        groups = groups_of([*pairs, *((copy.first, copy.second) for copy, _ in kept)])
        images, scarce = cut(train, missing, groups, seed=seed, fraction=fraction)
        # A class is refused for lack of images that are different files, not for images that only look alike.
        too_few = {name for _, classes in kept for name in classes}.intersection(scarce)
        if not too_few:
            break
        apart |= too_few
        kept = [(copy, classes) for copy, classes in kept if not too_few.intersection(classes)]
    listing.images.update(images)
    if scarce:
        return [*problems, _too_few(listing, missing, {name: train[name] for name in scarce}, groups)], notes
    kind = "split in the list" if listing.is_list else "folder"
    for split in missing:
        count = sum(len(chosen) for chosen in images[split].values())
        notes.append(
            f"{SPELLINGS[split][0]}: {count} of train's {len(files)} images set aside, as there is no such {kind} "
            f"(share {fraction:g} of each class, seed {seed})"
        )
    together = [" + ".join(group[:3]) + " + ..." * (len(group) > 3) for group in members(groups)]
    if together:
        notes.append(
            "images that belong together (copies, images made from others, groups of --split-group) were left in one "
            f"split: {len(groups)} images in {len(together)} groups ({summarise(together, 3, '; ')})"
        )
    if kept:
        notes.append(
            f"near-copies (images that look nearly the same) were left in one split: {len(kept)} pairs "
            f"({summarise([copy.text() for copy, _ in kept], 3)})"
        )
    if apart:
        notes.append(
            f"near-copies could not be left in one split in classes with too few other images ({len(apart)}): "
            f"{summarise(sorted(apart), 3)}"
        )
    return problems, notes


def _within(train: Mapping[str, Sequence[str]], near: Sequence[NearCopy]) -> Iterator[tuple[NearCopy, tuple[str, str]]]:
    """The near-copies of which both images are in train, each with the classes of the two."""
    class_of = {file: name for name, files in train.items() for file in files}
    for copy in near:
        if copy.first in class_of and copy.second in class_of:
            yield copy, (class_of[copy.first], class_of[copy.second])


def group_remarks(listing: Listing, pattern: str) -> tuple[list[str], list[str]]:
    """Problems and notes on --split-group: images that it does not match, groups in two splits that have folders."""
    split_of = {
        file: split for split, classes in listing.images.items() for images in classes.values() for file in images
    }
    files = list(split_of)
    groups, unmatched = named_groups(files, pattern)
    if files and not groups:
        return [
            f"--split-group {printable(pattern)} matches none of the {len(files)} images, such as "
            f"{printable(files[0])}. It is searched in the path of an image; its group (...) names the image's group."
        ], []
    notes = []
    if unmatched:
        notes.append(
            f"--split-group does not match {len(unmatched)} of {len(files)} images, which count as groups of one: "
            f"{summarise(unmatched, 3)}"
        )
    across = []
    for name, images in groups.items():
        one_each = {split_of[image]: image for image in reversed(images)}
        if len(one_each) > 1:
            across.append(f"{name}: {', '.join(sorted(one_each.values(), key=images.index))}")
    if not across:
        return [], notes
    return [
        f"Groups of --split-group are in two splits ({len(across)}), so scores would count what was trained on. "
        f"Move each group into one split:\n  {summarise(across, separator=chr(10) + '  ')}"
    ], notes


def _pairs(
    train: Mapping[str, Sequence[str]], copies: Sequence[Sequence[duplicates.Entry]], pattern: str | None
) -> list[tuple[str, str]]:
    """Pairs of train's images, by class, that belong together."""
    pairs = [pair for files in train.values() for pair in sibling_pairs(files)]
    for group in copies:
        same = [file for split, file in group if split == "train"]
        pairs += [(same[0], file) for file in same[1:]]
    if pattern is not None:
        for images in named_groups((file for files in train.values() for file in files), pattern)[0].values():
            pairs += [(images[0], file) for file in images[1:]]
    return pairs


def _too_few(listing: Listing, missing: Sequence[str], scarce: dict[str, list[str]], groups: dict[str, str]) -> str:
    names = " and ".join(map(listing.place, missing))
    counts = []
    for name, files in scarce.items():
        together = len({groups.get(file, file) for file in files})
        counts.append(f"{name} ({len(files)}{f' in groups: {together}' if together < len(files) else ''})")
    grouped = any(file in groups for files in scarce.values() for file in files)
    unit = "group of images that belong together" if grouped else "image"
    train = listing.place("train")
    return (
        f"There is no {names}, so each class of {train} has to give one {unit} to each missing split and keep one. "
        f"Too few for that: {summarise(counts)}. Add images to them, or add {names}."
    )


def cut(
    train: Mapping[str, list[str]], missing: Sequence[str], groups: Mapping[str, str], *, seed: int, fraction: float
) -> tuple[Images, list[str]]:
    """Deal train's images out to train and the missing splits; also returns the classes too small for that.

    `groups` names the group of a file; a file without one is a group of one. Which images go depends on the seed, the
    class name, the sorted file names and their groups alone: not on the order on disk, nor on other classes, except
    through groups that have images in several classes.
    """
    images: Images = {split: {} for split in ("train", *missing)}
    split_of: dict[str, str] = {}  # group -> its split, once one of its images is dealt
    scarce = []
    # Classes of few groups first: later they would find their groups dealt to the splits that suited other classes.
    for name in sorted(train, key=lambda name: (len({groups.get(file, file) for file in train[name]}), name)):
        order = _shuffled(name, train[name], seed)
        share = min(max(1, int(len(order) * fraction + 0.5)), max(0, len(order) - 1) // len(missing))
        dealt = _deal(order, missing, groups, split_of, share)
        if order and not all(dealt.values()):
            scarce.append(name)
        for split, files in dealt.items():
            images[split][name] = files
            split_of.update({groups.get(file, file): split for file in files})
    return images, sorted(scarce)


def _shuffled(name: str, files: Sequence[str], seed: int) -> list[str]:
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    names = sorted(files)
    return [names[position] for position in np.random.default_rng([seed, key]).permutation(len(names))]


def _deal(
    order: Sequence[str], missing: Sequence[str], groups: Mapping[str, str], split_of: Mapping[str, str], share: int
) -> dict[str, list[str]]:
    """The files of one class by split: whole groups, as near to `share` images per missing split as they allow."""
    left: dict[str, list[str]] = {}  # group -> its files, in the order of `order`
    for file in order:
        left.setdefault(groups.get(file, file), []).append(file)
    dealt: dict[str, list[str]] = {split: [] for split in (*missing, "train")}
    for group in [group for group in left if group in split_of]:
        dealt[split_of[group]] += left.pop(group)
    for position, split in enumerate(missing):
        # Each later split that has no image yet needs one of the groups that are left.
        reserved = sum(not dealt[later] for later in (*missing[position + 1 :], "train"))
        for group in list(left):
            count = len(dealt[split])
            if count >= share or len(left) <= reserved:
                break
            if count + len(left[group]) - share < share - count:  # nearer to the share than without it
                dealt[split] += left.pop(group)
        if not dealt[split] and len(left) > reserved:
            dealt[split] += left.pop(min(left, key=lambda group: len(left[group])))
    dealt["train"] += [file for files in left.values() for file in files]
    return dealt
