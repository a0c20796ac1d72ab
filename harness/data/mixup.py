"""Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019) of neighbours in a batch, and their soft targets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from harness.data import rng
from harness.data.augment import Augment, Box


@dataclass(frozen=True)
class Mix:
    """How one global batch is mixed."""

    lam: float  # weight of an image's own pixels and target; its partner has 1 - lam
    box: Box | None  # CutMix: the rectangle that is the partner's; None: mixup


def draw(augment: Augment, *, epoch: int, step: int, size: int) -> Mix | None:
    """Draw how one global batch is mixed. If both alphas are above 0, mixup and CutMix are equally likely."""
    if augment.mixup == 0 and augment.cutmix == 0:
        return None
    random = rng.generator(augment.seed, rng.MIX, epoch=epoch, index=step)
    cut = augment.mixup == 0 or (augment.cutmix > 0 and random.random() < 0.5)
    alpha = augment.cutmix if cut else augment.mixup
    lam = float(random.beta(alpha, alpha))
    if not cut:
        return Mix(lam, None)
    box = cut_box(lam, int(random.integers(size)), int(random.integers(size)), size)
    return Mix(1 - box.height * box.width / size**2, box)


def cut_box(lam: float, row: int, column: int, size: int) -> Box:
    """The square of (1 - lam) of the image's area around (row, column), cut off at the image's edges."""
    side = int(size * math.sqrt(1 - lam))
    top, bottom = max(row - side // 2, 0), min(row + side // 2, size)
    left, right = max(column - side // 2, 0), min(column + side // 2, size)
    return Box(top, left, bottom - top, right - left)


def soft_targets(labels: torch.Tensor, num_classes: int, smoothing: float) -> torch.Tensor:
    """Targets float32 (b, C) from labels int64 (b,); `smoothing` is spread over all classes (Szegedy et al. 2016)."""
    targets = torch.full((len(labels), num_classes), smoothing / num_classes, device=labels.device)
    return targets.scatter_(1, labels[:, None], 1 - smoothing + smoothing / num_classes)


def mix_pairs(images: torch.Tensor, targets: torch.Tensor, mix: Mix) -> None:
    """Mix rows 2k and 2k + 1 of images (b, 3, S, S) and targets (b, C) in place; an odd last row is not mixed."""
    if mix.box is None:
        _blend_pairs(images, mix.lam)
    else:
        top, left, height, width = mix.box
        # A weight of 0 swaps the rectangle between the two images.
        _blend_pairs(images[:, :, top : top + height, left : left + width], 0.0)
    _blend_pairs(targets, mix.lam)


def _blend_pairs(values: torch.Tensor, lam: float) -> None:
    """Replace rows a = 2k and b = 2k + 1 by lam * a + (1 - lam) * b and lam * b + (1 - lam) * a."""
    even = len(values) // 2 * 2
    first, second = values[0:even:2], values[1:even:2]
    # Not lerp: its fused multiply-add rounds differently, depending on where a row lies in memory.
    mixed = first * lam + second * (1 - lam)
    second.copy_(second * lam + first * (1 - lam))
    first.copy_(mixed)
