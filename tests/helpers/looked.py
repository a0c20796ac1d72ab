"""Run folders that have looked at their test images, without a model: for tests of what is reported of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from harness.explain import archive
from harness.explain.archive import Archive
from harness.explain.drawing import sprites
from tests.helpers.explained import made_up_archive, made_up_positions
from tests.reports.test_runs import write_run


def look(
    folder: Path,
    seen: Archive | None = None,
    *,
    pictures: np.ndarray | None = None,
    positions: np.ndarray | None = None,
    **run: Any,
) -> Path:
    """A finished run with predictions, attention, sprites and position embeddings that go together.

    `images` (n, S, S, 3) uint8, each of another colour if not given; `positions` (P, D) after training.
    """
    seen = seen if seen is not None else made_up_archive()
    files = [str(file) for file in seen.files]
    write_run(folder, seen.labels, seen.predicted, classes=tuple(map(str, seen.classes)), files=files, **run)
    attention = folder / "attention"
    archive.write(attention / "attention.npz", seen)
    archive.write(attention / "positions.npz", made_up_positions(positions))
    shown = colours(len(seen)) if pictures is None else pictures
    sprites.draw_sprites(seen, lambda index: shown[index], attention / "sprites")
    return folder


def colours(count: int, side: int = 16, seed: int = 3) -> np.ndarray:
    """(count, side, side, 3) uint8, each of one colour, neighbours very different ones."""
    some = np.random.default_rng(seed).integers(0, 256, (count, 3), np.uint8)
    return np.broadcast_to(some[:, None, None], (count, side, side, 3)).copy()


def damaged(content: bytes, seed: int) -> bytes:
    """Bytes somewhere in the middle are others."""
    random = np.random.default_rng(seed)
    start = int(random.integers(max(1, len(content) - 40)))
    return content[:start] + random.bytes(40) + content[start + 40 :]
