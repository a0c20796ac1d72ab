"""Cut missing splits from train: a share of each class, and no group of images in two splits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

# split -> class -> files
Images = dict[str, dict[str, list[str]]]


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
