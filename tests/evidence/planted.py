"""Small models whose true explanation is known: images are noise except for one patch, and training makes it count."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchvision.models import VisionTransformer

from harness.evidence.subject import Subject
from harness.model.packed_attention import pack_attention

PATCH, SIDE = 8, 4  # pixels, patches
SIZE = PATCH * SIDE
CLASSES = 3


@dataclass(frozen=True, eq=False)
class Planted:
    """A subject, and the patch (n,) that its labels follow from."""

    subject: Subject
    patch: np.ndarray


@dataclass(frozen=True, eq=False)
class Images:
    values: Tensor  # (n, 3, S, S)
    labels: Tensor  # (n,)
    patch: Tensor  # (n,)


def by_colour(count: int, seed: int) -> Images:
    """The label is the colour of one bright patch, wherever it is."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    return _painted(labels, torch.randint(SIDE**2, (count,), generator=generator), labels, generator)


def by_place(count: int, seed: int) -> Images:
    """The label is the row of one bright patch, whatever its colour; the last row is left out."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    patch = labels * SIDE + torch.randint(SIDE, (count,), generator=generator)
    return _painted(labels, patch, torch.randint(3, (count,), generator=generator), generator)


def _painted(labels: Tensor, patch: Tensor, colour: Tensor, generator: torch.Generator) -> Images:
    values = torch.randn(len(labels), 3, SIZE, SIZE, generator=generator) * 0.1
    for image, (place, channel) in enumerate(zip(patch.tolist(), colour.tolist(), strict=True)):
        top, left = place // SIDE * PATCH, place % SIDE * PATCH
        values[image, channel, top : top + PATCH, left : left + PATCH] += 2
    return Images(values, labels, patch)


def subject_of(model: VisionTransformer, images: Images, batch: int = 16) -> Subject:
    def batches() -> Iterator[Tensor]:
        yield from images.values.split(batch)

    with torch.no_grad():
        predicted = model(images.values).argmax(1)
    return Subject(model, batches, images.labels.numpy(), predicted.numpy(), CLASSES)


def new_vit(seed: int = 0) -> VisionTransformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VisionTransformer(SIZE, PATCH, 2, 2, 24, 48, num_classes=CLASSES)
        pack_attention(model)
        torch.nn.init.normal_(model.heads.head.weight, std=0.1)
    return model.eval()


@functools.cache
def colour() -> Planted:
    """A trained model whose prediction rests on one patch, and not on where it is."""
    return _trained(by_colour, steps=150, lr=2e-3)


@functools.cache
def place() -> Planted:
    """A trained model whose prediction rests on where one patch is."""
    return _trained(by_place, steps=350, lr=4e-3)


def _trained(kind: Callable[..., Images], steps: int, lr: float) -> Planted:
    """On one thread: another number, which an earlier test may have left, adds up in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = new_vit().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    for step in range(steps):
        batch = kind(32, seed=step)
        loss = cross_entropy(model(batch.values), batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.set_num_threads(threads)
    images = kind(60, seed=10_000)
    return Planted(subject_of(model.eval(), images), images.patch.numpy())


def at_patch(patch: np.ndarray) -> np.ndarray:
    """Maps (n, P) that show the patch and nothing else."""
    return np.eye(SIDE**2)[patch]
