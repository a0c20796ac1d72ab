"""Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019) of neighbours in a batch, and the soft targets they need."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from harness.data import rng
from harness.data.augment import Augment, Box


@dataclass(frozen=True)
class Mix:
    """How a global batch is mixed: the share an image keeps, and for CutMix the rectangle it gives away."""

    lam: float
    box: Box | None


def draw(augment: Augment, *, epoch: int, step: int, size: int) -> Mix | None:
    """Draw for one global batch; with both alphas given, either of the two is as likely."""
    if augment.mixup == 0 and augment.cutmix == 0:
        return None
    random = rng.generator(augment.seed, rng.MIX, epoch=epoch, index=step)
    cut = augment.mixup == 0 or (augment.cutmix > 0 and random.random() < 0.5)
    alpha = augment.cutmix if cut else augment.mixup
    share = float(random.beta(alpha, alpha))
    if not cut:
        return Mix(share, None)
    box = cut_box(share, int(random.integers(size)), int(random.integers(size)), size)
    return Mix(1 - box.height * box.width / size**2, box)


def cut_box(share: float, row: int, column: int, size: int) -> Box:
    """A square of (1 - share) of the image's area around (row, column), as far as it lies inside."""
    side = int(size * math.sqrt(1 - share))
    top, bottom = max(row - side // 2, 0), min(row + side // 2, size)
    left, right = max(column - side // 2, 0), min(column + side // 2, size)
    return Box(top, left, bottom - top, right - left)


def soft_targets(labels: torch.Tensor, num_classes: int, smoothing: float) -> torch.Tensor:
    """int64 (b,) -> float32 (b, C): `smoothing` of the mass spread over all classes (Szegedy et al. 2016)."""
    targets = torch.full((len(labels), num_classes), smoothing / num_classes, device=labels.device)
    return targets.scatter_(1, labels[:, None], 1 - smoothing + smoothing / num_classes)


def mix_pairs(images: torch.Tensor, targets: torch.Tensor, mix: Mix) -> None:
    """Mix images (b, 3, S, S) and targets (b, C) 2k and 2k + 1 with each other, in place; an odd last one stays."""
    if mix.box is None:
        _blend_pairs(images, mix.lam)
    else:
        top, left, height, width = mix.box
        # A share of 0 trades the patch between the two.
        _blend_pairs(images[:, :, top : top + height, left : left + width], 0.0)
    _blend_pairs(targets, mix.lam)


def _blend_pairs(values: torch.Tensor, share: float) -> None:
    """Replace rows a = 2k and b = 2k + 1 by share * a + (1 - share) * b and the reverse."""
    even = len(values) // 2 * 2
    first, second = values[0:even:2], values[1:even:2]
    # Two products and a sum, not lerp: a fused multiply-add rounds otherwise, depending on where a row lies in memory.
    mixed = first * share + second * (1 - share)
    second.copy_(second * share + first * (1 - share))
    first.copy_(mixed)
