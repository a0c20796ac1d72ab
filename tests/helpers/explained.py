"""Archives of attention and of position embeddings with made-up contents, for tests that draw them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.explain.attention.head_statistics import STATISTICS
from harness.explain.positions.change import RULE
from harness.explain.positions.measures import Measured, Numbers, Positions, measure, measure_change
from harness.explain.positions.verdict import verdict
from harness.runs.attention_files import Archive, PositionArchive


def made_up_archive(
    *,
    n: int = 6,
    layers: int = 3,
    heads: int = 2,
    grid: int = 7,
    classes: Sequence[str] = ("ant", "bee", "cat"),
    patch_size: int = 4,
    **changed: Any,
) -> Archive:
    """Every second prediction is right; image 0 is the least sure one, and the last one the surest."""
    random = np.random.default_rng(0)

    def maps(*shape: int) -> np.ndarray:
        values = random.random((*shape, grid**2))
        return values / values.sum(-1, keepdims=True)

    labels = np.arange(n, dtype=np.int32) % len(classes)
    predicted = np.where(np.arange(n) % 2 == 0, labels, (labels + 1) % len(classes)).astype(np.int32)
    probability = np.linspace(0.5, 0.95, n).astype(np.float32)
    archive = Archive(
        files=np.array([f"{classes[label]}/{index}.png" for index, label in enumerate(labels)]),
        labels=labels,
        predicted=predicted,
        probability=probability,
        label_probability=np.where(labels == predicted, probability, (1 - probability) / 2).astype(np.float32),
        classes=np.array(classes),
        layers=maps(n, layers).astype(np.float16),
        heads=maps(n, heads).astype(np.float16),
        class_share=random.random((n, layers)).astype(np.float32),
        rollout=maps(n).astype(np.float16),
        relevance=maps(n).astype(np.float32),
        legrad=(2 * maps(n)).astype(np.float32),
        entropy=random.random((n, layers)).astype(np.float32),
        distance=random.random((n, layers)).astype(np.float32),
        statistics=random.random((layers, heads, len(STATISTICS))),
        statistic_names=np.array(STATISTICS),
        outlier_share=np.zeros(n, np.float32),
        outlier_attention=np.zeros(n, np.float32),
        settings={
            "head_layer": layers,
            "patch_size": patch_size,
            "image_size": grid * patch_size,
            "grid": [grid, grid],
        },
    )
    return dataclasses.replace(archive, **changed)


def plain_images(archive: Archive, side: int = 28) -> np.ndarray:
    """(n, side, side, 3) uint8, each of one grey."""
    greys = np.linspace(20, 220, len(archive)).astype(np.uint8)
    return np.broadcast_to(greys[:, None, None, None], (len(archive), side, side, 3)).copy()


def place_embedding(grid: int = 7, size: int = 32) -> np.ndarray:
    """Sine and cosine of row and column at several wavelengths (P, D)."""
    frequencies = 100.0 ** -np.linspace(0, 1, size // 4)
    angles = [place[:, None] * frequencies for place in np.divmod(np.arange(grid * grid), grid)]
    return np.concatenate([function(angle) for angle in angles for function in (np.sin, np.cos)], axis=1)


def made_up_positions(after: np.ndarray | None = None, *, grid: int = 7, size: int = 32) -> PositionArchive:
    """An embedding that knows its place, before; and what became of it (P, D), the same if not given."""
    before = place_embedding(grid, size)
    after = before if after is None else after
    tokens = np.random.default_rng(1).normal(size=(3, size))
    change = measure_change(before, after)
    found = [measure(Positions(patches, tokens[0], tokens[1])) for patches in (before, after)]

    def plain(value: Numbers | Measured) -> dict[str, Any]:
        return dataclasses.asdict(value)

    return PositionArchive(
        before=np.concatenate([tokens[:1], before]).astype(np.float32),
        after=np.concatenate([tokens[:1], after]).astype(np.float32),
        class_token_before=tokens[1].astype(np.float32),
        class_token_after=tokens[2].astype(np.float32),
        numbers={
            "before": plain(found[0]),
            "after": plain(found[1]),
            "change": plain(change),
            "strength": 0.9,
            "verdict": verdict(found[0], found[1], change, 0.9).word,
            "rule": RULE,
        },
    )
