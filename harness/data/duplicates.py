"""Duplicate images: byte-identical or visually alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from PIL import Image

from harness.data.cache_build import digest_of

# One image of one split: (split, path relative to the root).
Entry = tuple[str, str]

EMPTY = digest_of(b"")
GRID = 16  # cells along each side that an image is reduced to before it is compared
BLOCK = 2048  # images compared with all others at once

# Likeness from which two images are called copies. Measured on 2,600 images: no two different ones come
# above 0.77 (those two share black borders), while every image stays above 0.8 when it is halved, saved as JPEG
# of quality 30, made 30 % brighter or cropped by 2 % on each side, and 83 % do when cropped by 4 %.
COPY = 0.8


def exact(entries: Iterable[Entry], digests: Mapping[str, str], within: Sequence[str] = ()) -> list[list[Entry]]:
    """Groups of byte-identical images that are in two splits, or in one of the splits `within`.

    `digests` by path, "" where it is unknown.
    """
    groups: dict[str, list[Entry]] = {}
    for split, file in entries:
        if digests[file] not in ("", EMPTY):  # decoding reports unreadable and empty files
            groups.setdefault(digests[file], []).append((split, file))
    return [group for group in groups.values() if _matters([split for split, _ in group], within)]


def _matters(splits: list[str], within: Sequence[str]) -> bool:
    return len(set(splits)) > 1 or (len(splits) > 1 and splits[0] in within)


def look(image: Image.Image) -> np.ndarray:
    """Descriptor for visual similarity: float16 (480,) of length 1; zeros for an image of one tone.

    The brightness steps between neighbouring cells of a 16x16 grid, as in a difference hash, but kept as numbers:
    a hash of signs weighs a faint step in the sky like the edge of the subject.
    """
    cells = np.asarray(image.convert("L").resize((GRID, GRID), Image.Resampling.BILINEAR), np.float32)
    steps = np.concatenate([np.diff(cells, axis=0).ravel(), np.diff(cells, axis=1).ravel()])
    return (steps / max(float(np.linalg.norm(steps)), 1e-6)).astype(np.float16)


def alike(looks: np.ndarray, first: int) -> list[tuple[int, int, float]]:
    """Pairs (i, j, likeness) of copies with i < j, among `looks` (N, 480), where i is one of the first `first`."""
    pairs = []
    for start in range(0, first, BLOCK):
        rows = looks[start : min(start + BLOCK, first)].astype(np.float32)
        for other in range(start, len(looks), BLOCK):
            likeness = rows @ looks[other : other + BLOCK].astype(np.float32).T
            for i, j in np.argwhere(likeness >= COPY):
                if start + i < other + j:
                    pairs.append((start + int(i), other + int(j), round(float(likeness[i, j]), 3)))
    return sorted(pairs)
