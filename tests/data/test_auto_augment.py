"""RandAugment and TrivialAugment: torchvision's tables, magnitudes and pixels, drawn by us."""

from __future__ import annotations

import collections

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from harness.data import augment, auto_augment
from harness.data.augment import Augment
from harness.data.policies import POLICIES

REFERENCES = {"randaugment": v2.RandAugment(), "trivialaugment": v2.TrivialAugmentWide()}


def is_wide(name: str) -> bool:
    settings = POLICIES[name].operations
    assert settings is not None
    return settings.wide


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("size", [32, 224, 384])
def test_operations_and_magnitudes_are_torchvisions(name: str, size: int) -> None:
    space = REFERENCES[name]._AUGMENTATION_SPACE
    assert tuple(space) == auto_augment.OPERATIONS
    for operation, (magnitudes, signed) in space.items():
        table = magnitudes(31, size, size)
        for bin in range(31):
            expected = 0.0 if table is None else float(table[bin])
            assert auto_augment.magnitude(operation, bin, size, wide=is_wide(name), negative=False) == expected
            opposite = -expected if signed else expected
            assert auto_augment.magnitude(operation, bin, size, wide=is_wide(name), negative=True) == opposite


@pytest.mark.parametrize("operation", auto_augment.OPERATIONS)
@pytest.mark.parametrize("name", REFERENCES)
def test_pixels_of_every_operation_are_torchvisions(name: str, operation: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
    image[:, 10:30] //= 2
    changed = False
    for bin in (0, 9, 17, 30):
        for negative in (False, True):
            magnitude = auto_augment.magnitude(operation, bin, 64, wide=is_wide(name), negative=negative)
            ours = auto_augment.apply(image, [(operation, magnitude)])
            theirs = REFERENCES[name]._apply_image_or_video_transform(
                Image.fromarray(image), operation, magnitude, interpolation=InterpolationMode.NEAREST, fill={}
            )
            assert np.array_equal(ours, np.asarray(theirs))
            changed |= not np.array_equal(ours, image)
    assert changed or operation in ("Identity", "AutoContrast")


def test_two_operations_are_applied_one_after_the_other() -> None:
    image = np.random.default_rng(1).integers(0, 200, (32, 32, 3)).astype(np.uint8)
    first, second = ("Solarize", 0.5), ("TranslateX", 5.0)
    assert np.array_equal(
        auto_augment.apply(image, [first, second]), auto_augment.apply(auto_augment.apply(image, [first]), [second])
    )


def test_randaugment_draws_two_operations_of_magnitude_nine_and_either_sign() -> None:
    counts: collections.Counter[str] = collections.Counter()
    rotations = []
    for sample in range(2800):
        recipe = augment.draw(Augment("randaugment"), sample=sample, epoch=0, height=64, width=64, size=32)
        assert len(recipe.operations) == 2
        assert recipe.jitter == ()
        counts.update(operation for operation, _ in recipe.operations)
        rotations += [magnitude for operation, magnitude in recipe.operations if operation == "Rotate"]
    # 400 of each are expected, give or take 19.
    assert set(counts) == set(auto_augment.OPERATIONS)
    assert all(320 < count < 480 for count in counts.values())
    assert {round(magnitude, 4) for magnitude in rotations} == {-9.0, 9.0}
    assert 0.4 < np.mean(np.array(rotations) < 0) < 0.6


def test_trivialaugment_draws_one_operation_of_any_magnitude() -> None:
    counts: collections.Counter[str] = collections.Counter()
    rotations = set()
    for sample in range(4200):
        recipe = augment.draw(Augment("trivialaugment"), sample=sample, epoch=0, height=64, width=64, size=32)
        ((operation, magnitude),) = recipe.operations
        counts[operation] += 1
        if operation == "Rotate":
            rotations.add(round(magnitude, 4))
    assert set(counts) == set(auto_augment.OPERATIONS)
    assert all(220 < count < 380 for count in counts.values())
    assert rotations <= {round(sign * 4.5 * bin, 4) for bin in range(31) for sign in (-1, 1)}
    assert len(rotations) > 50


def test_a_policy_follows_crop_and_flip() -> None:
    image = np.random.default_rng(2).integers(0, 256, (80, 70, 3)).astype(np.uint8)
    recipe = augment.draw(Augment("randaugment"), sample=4, epoch=1, height=80, width=70, size=32)
    before = augment.apply(image, recipe._replace(operations=()), 32)
    assert np.array_equal(augment.apply(image, recipe, 32), auto_augment.apply(before, recipe.operations))
