from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from harness.data import duplicates
from harness.data.duplicates import COPY, alike, grid_of, looks_of
from tests.data.test_check import smooth_image


def likeness(first: Image.Image, second: Image.Image) -> float:
    first_look, second_look = looks_of(np.stack([grid_of(first), grid_of(second)])).astype(np.float32)
    return float(first_look @ second_look)


def test_a_resized_compressed_or_edited_copy_is_recognised() -> None:
    for seed in range(10):
        original = smooth_image(seed, side=224)
        stored = io.BytesIO()
        original.save(stored, "JPEG", quality=30)
        changed = {
            "compressed": Image.open(stored),
            "halved": original.resize((112, 112)),
            "stretched": original.resize((300, 200)),
            "brighter": ImageEnhance.Brightness(original).enhance(1.2),
            "cropped": original.crop((4, 4, 220, 220)),
            "grey": original.convert("L"),
        }
        for change, image in changed.items():
            assert likeness(original, image) >= COPY, change
        assert likeness(original, smooth_image(seed + 100, side=224)) < COPY


def test_images_of_one_tone_count_as_no_copies() -> None:
    flat = Image.new("RGB", (50, 50), "white")
    assert likeness(flat, flat) == 0


def test_pairs_are_found_across_blocks_and_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "BLOCK", 3)
    looks = looks_of(np.stack([grid_of(smooth_image(seed)) for seed in (0, 1, 2, 3, 4, 5, 6, 1, 0, 6)]))
    assert alike(looks, 3) == [(0, 8, 1.0), (1, 7, 1.0), (6, 9, 1.0)]
    assert alike(looks, 2) is None
    assert alike(looks[:0], 1) == []


@pytest.mark.parametrize("noise", [20, 35, 38])
def test_the_pairs_are_those_of_comparing_every_image_with_every_other(
    noise: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Likenesses lie on both sides of the limit."""
    monkeypatch.setattr(duplicates, "BLOCK", 64)
    generator = np.random.default_rng(noise)
    grids = generator.integers(0, 256, (40, 256)).repeat(8, axis=0) + generator.normal(0, noise, (320, 256))
    looks = looks_of(np.clip(grids, 0, 255).astype(np.uint8))
    all_likenesses = looks.astype(np.float32) @ looks.astype(np.float32).T
    expected = [(i, j) for i, j in np.argwhere(all_likenesses >= COPY).tolist() if i < j]
    assert 0 < len(expected) <= 40 * 28
    assert [pair[:2] for pair in alike(looks, 10_000) or []] == expected
