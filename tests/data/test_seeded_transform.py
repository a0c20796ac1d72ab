"""Transforms of torchvision.transforms.v2 draw the numbers of a seed, in their own thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from harness.data import policies, seeded_transform
from harness.data.policies import POLICIES, Policy
from harness.data.seeded_transform import DrawFrom, SeededTransform, apply

SLOW = [name for name, policy in POLICIES.items() if policy.transform]

# One for each way in which torchvision draws random numbers.
TRANSFORMS = {
    "rand, randint": v2.RandAugment(),
    "_sample_dirichlet": v2.AugMix(),
    "uniform_, randperm": v2.ColorJitter(0.4, 0.4, 0.4, 0.1),
    "multinomial": v2.RandomChoice([v2.RandomInvert(1.0), v2.RandomSolarize(99, 1.0), v2.RandomPosterize(2, 1.0)]),
    "rand of an image": v2.ElasticTransform(),
    "randn_like": v2.Compose([v2.PILToTensor(), v2.GaussianNoise(), v2.ToPILImage()]),
}


def image(side: int = 48) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (side // 8, side // 8, 3)).astype(np.uint8)
    return pixels.repeat(8, 0).repeat(8, 1)


def by_the_global_generator(transform: Callable[[Any], Any], seed: int) -> np.ndarray:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return np.asarray(transform(Image.fromarray(image())))


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_every_random_number_comes_from_the_generator(kind: str) -> None:
    transform, results = TRANSFORMS[kind], []
    before = torch.get_rng_state()
    for seed in range(8):
        with DrawFrom(torch.Generator().manual_seed(seed)):
            result = np.asarray(transform(Image.fromarray(image())))
        assert torch.equal(torch.get_rng_state(), before)
        assert np.array_equal(result, by_the_global_generator(transform, seed))
        results.append(result.tobytes())
    assert len(set(results)) > 2


@pytest.mark.parametrize("name", SLOW)
def test_a_policy_has_torchvisions_pixels(name: str) -> None:
    build = POLICIES[name].transform
    assert build is not None
    before = torch.get_rng_state()
    results = [apply(image(), SeededTransform(name, seed)) for seed in range(12)]
    assert torch.equal(torch.get_rng_state(), before)
    for seed, result in enumerate(results):
        assert np.array_equal(result, by_the_global_generator(build(), seed))
    assert len({result.tobytes() for result in results}) > 6


@pytest.mark.parametrize("name", SLOW)
def test_threads_and_the_models_own_draws_do_not_disturb_each_other(name: str) -> None:
    seeds = list(range(24))
    expected = [apply(image(), SeededTransform(name, seed)) for seed in seeds]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn_alone = [float(torch.rand(())) for _ in range(2000)]
        torch.manual_seed(0)
        start = threading.Barrier(4)
        with ThreadPoolExecutor(3, initializer=start.wait) as pool:
            results = [pool.submit(apply, image(), SeededTransform(name, seed)) for seed in seeds]
            start.wait()
            drawn_beside = [float(torch.rand(())) for _ in range(2000)]
            pixels = [result.result() for result in results]
    assert drawn_beside == drawn_alone
    assert all(np.array_equal(one, other) for one, other in zip(pixels, expected, strict=True))


@pytest.mark.parametrize(
    "transform", [v2.Resize(20), v2.Grayscale(), v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32)])]
)
def test_a_transform_that_returns_another_kind_of_image_is_named(
    monkeypatch: pytest.MonkeyPatch, transform: Callable[[Any], Any]
) -> None:
    monkeypatch.setitem(policies.POLICIES, "mine", Policy("a mistake", transform=lambda: transform))
    seeded_transform._built.cache_clear()
    with pytest.raises(AssertionError, match=r"--augment mine made .* must return an RGB image of the same size"):
        apply(image(), SeededTransform("mine", 0))
    seeded_transform._built.cache_clear()
