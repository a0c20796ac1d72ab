"""What is drawn for an image follows torchvision's distributions; the pixels follow its kernels."""

from __future__ import annotations

import collections
import functools
import math

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from harness.data import augment
from harness.data.augment import Augment, Box

DRAWS = 4000
# 1 % point of the two-sample Kolmogorov-Smirnov statistic is 1.63 * sqrt(2 / n) = 0.036 here; the seeds are fixed.
KS_BOUND = 0.04


def textured_image(seed: int, height: int, width: int) -> np.ndarray:
    """Smooth colours, hard edges and grain: uint8 (height, width, 3)."""
    random = np.random.default_rng(seed)
    image = cv2.resize(random.uniform(0, 255, (6, 8, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(6):
        centre = (int(random.integers(width)), int(random.integers(height)))
        cv2.circle(image, centre, int(random.integers(5, 60)), random.uniform(0, 255, 3).tolist(), -1, cv2.LINE_AA)
    return np.clip(image + random.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def kolmogorov_smirnov(first: list[float], second: list[float]) -> float:
    """Largest distance between two samples' cumulative distributions."""
    points = np.sort(first + second)
    below = [np.searchsorted(np.sort(values), points, side="right") / len(values) for values in (first, second)]
    return float(np.abs(below[0] - below[1]).max())


@functools.cache
def recipes(
    settings: Augment, height: int = 256, width: int = 341, epoch: int = 0, count: int = DRAWS
) -> list[augment.AugmentParams]:
    return [
        augment.draw(settings, sample=sample, epoch=epoch, height=height, width=width, size=224)
        for sample in range(count)
    ]


@pytest.mark.parametrize(("height", "width"), [(256, 341), (224, 224), (400, 240)])
def test_crops_are_distributed_as_torchvisions(height: int, width: int) -> None:
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    theirs = [transforms.RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(DRAWS)]
    ours = [tuple(recipe.box) for recipe in recipes(Augment("standard"), height, width)]
    measures = {
        "area": lambda box: box[2] * box[3],
        "log ratio": lambda box: math.log(box[3] / box[2]),
        "top": lambda box: box[0] / (height - box[2] + 1),
        "left": lambda box: box[1] / (width - box[3] + 1),
    }
    distances = {
        name: kolmogorov_smirnov([measure(box) for box in ours], [measure(box) for box in theirs])
        for name, measure in measures.items()
    }
    assert max(distances.values()) < KS_BOUND, distances
    for top, left, h, w in ours:
        assert 0 <= top <= height - h
        assert 0 <= left <= width - w
        assert h > 0
        assert w > 0


def test_the_smallest_area_of_a_crop_is_an_option() -> None:
    torch.manual_seed(0)
    theirs = [
        transforms.RandomResizedCrop.get_params(torch.empty(3, 256, 341), [0.5, 1.0], [3 / 4, 4 / 3])
        for _ in range(DRAWS)
    ]
    ours = [recipe.box for recipe in recipes(Augment("standard", crop_area=0.5))]
    areas = [[box[2] * box[3] / (256 * 341) for box in boxes] for boxes in (ours, theirs)]
    assert kolmogorov_smirnov(*areas) < KS_BOUND
    assert 0.49 < min(areas[0]) < 0.51
    assert Augment("standard", crop_area=0.08) == Augment("standard")


@pytest.mark.parametrize(("height", "width"), [(40, 1000), (1000, 40)])
def test_an_image_too_long_for_any_try_gets_torchvisions_centre_crop(height: int, width: int) -> None:
    theirs = transforms.RandomResizedCrop.get_params(torch.empty(3, height, width), [0.08, 1.0], [3 / 4, 4 / 3])
    assert {recipe.box for recipe in recipes(Augment("standard"), height, width, count=50)} == {Box(*theirs)}


def test_ten_failed_tries_on_an_allowed_ratio_keep_the_whole_image() -> None:
    # All of the area at ratio 3/4 is taller than a square image.
    assert augment.crop_box([1.0, 0.0] * 10 + [0.5, 0.5], 100, 100) == Box(0, 0, 100, 100)


def test_the_ninth_try_is_used_when_eight_fail() -> None:
    numbers = [1.0, 0.0] * 8 + [0.0, 0.5] + [1.0, 0.0] + [0.999, 0.0]
    side = round(math.sqrt(0.08 * 100 * 100))
    assert augment.crop_box(numbers, 100, 100) == Box(int(0.999 * (101 - side)), 0, side, side)


def test_flips_and_jitter_are_uniform() -> None:
    drawn = recipes(Augment("standard", color_jitter=0.4))
    flips = sum(recipe.flip for recipe in drawn)
    assert abs(flips - DRAWS / 2) < 3 * math.sqrt(DRAWS / 4)
    uniform = np.linspace(0.6, 1.4, DRAWS).tolist()
    for operation in (augment.BRIGHTNESS, augment.CONTRAST, augment.SATURATION):
        factors = [dict(recipe.jitter)[operation] for recipe in drawn]
        assert min(factors) >= 0.6
        assert max(factors) <= 1.4
        assert kolmogorov_smirnov(factors, uniform) < KS_BOUND
    orders = collections.Counter(tuple(operation for operation, _ in recipe.jitter) for recipe in drawn)
    assert len(orders) == 6
    assert all(abs(count - DRAWS / 6) < 4 * math.sqrt(DRAWS * 5 / 36) for count in orders.values())


def test_a_strong_jitter_never_turns_a_factor_negative() -> None:
    assert augment.jitter_steps([0.0, 0.0, 0.0], 0.0, 1.0) == ((0, 0.0), (1, 0.0), (2, 0.0))


def test_erased_rectangles_are_distributed_as_torchvisions() -> None:
    torch.manual_seed(0)
    image = torch.empty(3, 224, 224)
    theirs = [transforms.RandomErasing.get_params(image, (0.02, 0.33), (0.3, 3.3), [0.0])[:4] for _ in range(DRAWS)]
    ours = [recipe.erase for recipe in recipes(Augment("none", random_erasing=1.0))]
    for measure in (lambda box: box[2] * box[3], lambda box: math.log(box[3] / box[2]), lambda box: box[0]):
        assert kolmogorov_smirnov([measure(box) for box in ours], [measure(box) for box in theirs]) < KS_BOUND
    share = sum(recipe.erase is not None for recipe in recipes(Augment("none", random_erasing=0.25))) / DRAWS
    assert abs(share - 0.25) < 3 * math.sqrt(0.25 * 0.75 / DRAWS)


def test_draws_depend_on_seed_epoch_and_sample_and_on_nothing_else() -> None:
    base = recipes(Augment("standard"))
    assert recipes.__wrapped__(Augment("standard")) == base
    assert len({recipe.box for recipe in base}) > 0.95 * DRAWS
    for other in (recipes(Augment("standard", seed=1)), recipes(Augment("standard"), epoch=1)):
        assert sum(a.box == b.box for a, b in zip(base, other, strict=True)) < DRAWS / 100


def test_switching_one_augmentation_on_leaves_the_others_as_they_were() -> None:
    base = recipes(Augment("standard", color_jitter=0.0))
    everything = recipes(Augment("standard", color_jitter=0.4, random_erasing=0.5))
    policies = recipes(Augment("randaugment", random_erasing=0.5))
    for plain, full, policy in zip(base, everything, policies, strict=True):
        assert plain.box == full.box == policy.box
        assert plain.flip == full.flip == policy.flip
        assert full.erase == policy.erase


@pytest.mark.parametrize(("height", "width"), [(224, 224), (256, 341), (225, 227), (227, 225), (231, 300)])
def test_no_augmentation_is_torchvisions_centre_crop(height: int, width: int) -> None:
    image = textured_image(0, height, width)
    recipe = augment.draw(Augment("none"), sample=3, epoch=2, height=height, width=width, size=224)
    expected = np.asarray(v2.CenterCrop(224)(Image.fromarray(image)))
    assert np.array_equal(augment.apply(image, recipe, 224), expected)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "box",
    [
        Box(0, 0, 100, 100),  # grows
        Box(31, 60, 150, 190),
        Box(10, 20, 223, 224),
        Box(5, 7, 230, 240),  # shrinks
        Box(0, 0, 256, 341),
        Box(3, 11, 150, 330),  # grows one way, shrinks the other
        Box(0, 100, 256, 90),
    ],
)
def test_cut_and_resized_pixels_are_within_one_level_of_torchvisions(box: Box, seed: int) -> None:
    image = textured_image(seed, 256, 341)
    image.flags.writeable = False  # as a memory-mapped cache is
    for flip in (False, True):
        ours = augment.apply(image, augment.AugmentParams(box, flip, (), (), None, None), 224).astype(int)
        theirs = F.resized_crop(Image.fromarray(image), *box, [224, 224], antialias=True)
        theirs = np.asarray(F.horizontal_flip(theirs) if flip else theirs).astype(int)
        assert ours.shape == (224, 224, 3)
        assert np.abs(ours - theirs).max() <= 1
        assert np.abs(ours - theirs).mean() < 0.4  # OpenCV's 11-bit weights; a shift of half a pixel gives over 2


KERNELS = {
    augment.BRIGHTNESS: F.adjust_brightness,
    augment.CONTRAST: F.adjust_contrast,
    augment.SATURATION: F.adjust_saturation,
}


@pytest.mark.parametrize("operation", KERNELS)
@pytest.mark.parametrize("factor", [0.0, 0.37, 0.6, 1.0, 1.25, 1.4, 2.0])
def test_one_step_of_jitter_is_within_one_level_of_torchvisions(operation: int, factor: float) -> None:
    image = textured_image(1, 224, 224)
    ours = augment.jitter(image, [(operation, factor)])
    theirs = KERNELS[operation](F.to_image(image), factor).permute(1, 2, 0).numpy()
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


def test_jitter_in_any_order_stays_close_to_torchvisions() -> None:
    differences = []
    for seed in range(24):
        image = textured_image(seed, 224, 224)
        steps = augment.jitter_steps(np.random.default_rng(seed).random(3).tolist(), seed % 6 / 6, 0.4)
        theirs = F.to_image(image)
        for operation, factor in steps:
            theirs = KERNELS[operation](theirs, factor)
        differences.append(np.abs(augment.jitter(image, steps).astype(int) - theirs.permute(1, 2, 0).numpy()))
    assert np.max(differences) <= 4  # a level lost early grows by the factors that follow
    assert np.mean(np.array(differences) > 1) < 0.02
    assert np.mean(np.array(differences) > 2) < 0.001


def test_the_steps_of_apply_come_in_torchvisions_order() -> None:
    image = textured_image(5, 256, 256)
    recipe = augment.draw(Augment("standard"), sample=1, epoch=0, height=256, width=256, size=64)
    assert recipe.flip
    assert recipe.jitter
    plain = recipe._replace(flip=False, jitter=())
    expected = augment.jitter(augment.apply(image, plain, 64)[:, ::-1].copy(), recipe.jitter)
    assert np.array_equal(augment.apply(image, recipe, 64), expected)
