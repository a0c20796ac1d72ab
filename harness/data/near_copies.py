"""Images that look nearly the same, whatever their names: searched once in a set of images, remembered in the cache."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from harness.data.cache import cache_directory
from harness.data.digests import KnownFile
from harness.data.duplicates import COPY, EMPTY, Pair, alike, looks_of
from harness.data.store import mark_used
from harness.errors import HarnessError, summarise
from harness.files import not_a_file, replacing
from harness.runs.reading import DAMAGE

FOLDER = "near-copies"  # in the cache directory: one file per set of images
# Comparing each image with each takes time with the square of their number. Above this many, images are compared
# within their class, and within a larger class in runs of this many, in the order of their names.
ALL_PAIRS = 50_000
# With more pairs per image than this, likeness shows what the images of a data set have in common (chest X-rays,
# digits), and not which of them are copies.
PAIRS_PER_IMAGE = 50
# With more pairs than images, different images of the set are alike, and only pairs of this likeness count. Measured on
# 940 chest X-rays of as many patients: 12,359 pairs from 0.8 on, 193 from 0.9, 4 from 0.94, none from 0.95; of 9 pairs
# of copies in sets whose images are not alike, 6 are above 0.95.
COPY_AMONG_ALIKE = 0.95


class NearCopy(NamedTuple):
    """Two files whose images look nearly the same; likeness as in duplicates.COPY."""

    first: str
    second: str
    likeness: float

    def text(self) -> str:
        return f"{self.first} ~ {self.second} ({self.likeness})"


def near_copies(
    class_of: Mapping[str, str], known: Mapping[str, KnownFile], cache_dir: str | os.PathLike[str] | None = None
) -> tuple[list[NearCopy], list[str]]:
    """Near-copies among the files of `class_of`, in its order, and notes on what was not compared.

    Of byte-identical files only the first counts. Up to ALL_PAIRS images, the pairs depend on their content alone.
    """
    first_file: dict[str, str] = {}  # digest -> the first file with it
    for file in class_of:
        first_file.setdefault(known[file].digest, file)
    files = [file for digest, file in first_file.items() if digest not in ("", EMPTY)]
    parts = _parts(files, class_of, known)
    pairs = _pairs(parts, known, cache_dir)
    if pairs is None:
        return [], [
            f"images look so much alike (more than {PAIRS_PER_IMAGE} pairs per image) that near-copies cannot be told "
            "from other images"
        ]
    notes = []
    if len(pairs) > len(files):
        strict = [pair for pair in pairs if pair[2] >= COPY_AMONG_ALIKE]
        notes.append(
            f"images look so much alike ({len(pairs):,} pairs with a likeness of {COPY} or more) that only pairs with "
            f"{COPY_AMONG_ALIKE} or more count as near-copies: {len(strict):,}"
        )
        pairs = strict
    place = {file: number for number, file in enumerate(files)}
    listed = [file for part in parts for file in part]
    copies = []
    for i, j, likeness in pairs:
        first, second = sorted((listed[i], listed[j]), key=place.__getitem__)
        copies.append(NearCopy(first, second, likeness))
    copies.sort(key=lambda copy: (place[copy.first], place[copy.second]))
    if len(files) > ALL_PAIRS:
        notes.append(f"near-copies were searched within each class only, as there are more than {ALL_PAIRS:,} images")
    return copies, notes


def _parts(files: Sequence[str], class_of: Mapping[str, str], known: Mapping[str, KnownFile]) -> list[list[str]]:
    """The files that are compared with each other, each part in the order of digests."""
    classes: dict[str, list[str]] = {}
    for file in files:
        classes.setdefault(class_of[file] if len(files) > ALL_PAIRS else "", []).append(file)
    ordered = [sorted(classes[name]) for name in sorted(classes)]
    parts = [same[start : start + ALL_PAIRS] for same in ordered for start in range(0, len(same), ALL_PAIRS)]
    return [sorted(part, key=lambda file: known[file].digest) for part in parts]


def _pairs(
    parts: Sequence[Sequence[str]], known: Mapping[str, KnownFile], cache_dir: str | os.PathLike[str] | None
) -> list[Pair] | None:
    """Pairs of positions in the concatenated parts; None if there are too many. From the cache, if it has them."""
    key = "\n".join(",".join(known[file].digest for file in part) for part in parts)
    path = cache_directory(cache_dir) / FOLDER / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
    with contextlib.suppress(*DAMAGE):
        return _load(path)
    pairs = _compare(parts, known)
    # Pairs that cannot be kept are searched again by the next run, nothing else.
    with contextlib.suppress(OSError, HarnessError), replacing(path) as beside, beside.open("wb") as file:
        np.savez(
            file,
            too_many=np.array(pairs is None),
            pairs=np.array([pair[:2] for pair in pairs or []], np.int64).reshape(-1, 2),
            likeness=np.array([pair[2] for pair in pairs or []]),
        )
    return pairs


def _load(path: Path) -> list[Pair] | None:
    """What was kept of a search. Raises what opening raises if it is missing or damaged."""
    if reason := not_a_file(path):
        raise ValueError(reason)
    with np.load(path, allow_pickle=False) as stored:
        too_many, positions, likeness = bool(stored["too_many"]), stored["pairs"].tolist(), stored["likeness"].tolist()
    mark_used(path)
    return None if too_many else [(i, j, value) for (i, j), value in zip(positions, likeness, strict=True)]


def _compare(parts: Sequence[Sequence[str]], known: Mapping[str, KnownFile]) -> list[Pair] | None:
    pairs: list[Pair] = []
    most, start = PAIRS_PER_IMAGE * sum(map(len, parts)), 0
    for part in parts:
        grids = np.frombuffer(b"".join(known[file].grid for file in part), np.uint8)
        alike_here = alike(looks_of(grids), most - len(pairs))
        if alike_here is None:
            return None
        pairs += [(start + i, start + j, likeness) for i, j, likeness in alike_here]
        start += len(part)
    return pairs


def crossing_notes(near: Iterable[NearCopy], split_of: Mapping[str, str]) -> list[str]:
    """A note if near-copies are in two splits. It stops no run: only a person can see whether they are copies."""
    across = [copy.text() for copy in near if split_of[copy.first] != split_of[copy.second]]
    if not across:
        return []
    return [
        f"near-copies (images that look nearly the same) are in two splits ({len(across)} pairs), and scores count "
        f"them as unseen. Compare them and keep one of each:\n  {summarise(across, separator=chr(10) + '  ')}"
    ]
