"""Any transform of torchvision.transforms.v2 on one image, with random numbers that depend on a seed alone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from harness.data.policies import POLICIES

# What torchvision's transforms draw with. All of them take a generator.
RANDOM_FUNCTIONS = frozenset(
    (
        torch.rand,
        torch.rand_like,
        torch.randn,
        torch.randn_like,
        torch.randint,
        torch.randperm,
        torch.bernoulli,
        torch.multinomial,
        torch.normal,
        torch._sample_dirichlet,
        torch.Tensor.normal_,
        torch.Tensor.uniform_,
    )
)


class SeededTransform(NamedTuple):
    """The transform of a policy, and the seed of its random numbers for one image in one epoch."""

    policy: str
    seed: int


class DrawFrom(TorchFunctionMode):
    """Within it, torch's random functions draw from one generator instead of the global one.

    A mode belongs to the thread that enters it. Several threads can therefore transform images at the same time, and
    neither disturb each other nor the random numbers of the model.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self._generator = generator

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        arguments = dict(kwargs or {})
        if func in RANDOM_FUNCTIONS:
            arguments["generator"] = self._generator
        return func(*args, **arguments)


def apply(image: np.ndarray, transform: SeededTransform) -> np.ndarray:
    """The transform of uint8 (S, S, 3), of the same type and shape."""
    from PIL import Image

    # torch's random functions give the same numbers from this generator as from the global one with this seed.
    with DrawFrom(torch.Generator().manual_seed(transform.seed)):
        result = np.asarray(_built(transform.policy)(Image.fromarray(image)))
    assert (result.shape, result.dtype) == (image.shape, image.dtype), (
        f"--augment {transform.policy} made {result.dtype} {result.shape} of {image.dtype} {image.shape}; a policy's "
        "transform must return an RGB image of the same size."
    )
    return result


@functools.cache
def _built(policy: str) -> Callable[[Any], Any]:
    build = POLICIES[policy].transform
    assert build is not None
    return build()
