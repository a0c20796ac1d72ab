"""Attention rollout: how attention adds up over blocks, if each passes on half of every token unchanged.

Shapes: B images, L blocks, H heads, N tokens (T prefix tokens first), P = N - T patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.errors import ConfigError
from harness.model.adapter import TokenLayout

# One block's heads (B, H, N, N) as one matrix (B, N, N).
FUSIONS = {
    "mean": lambda attention: attention.mean(1),
    "max": lambda attention: attention.amax(1),
    "min": lambda attention: attention.amin(1),
}


@dataclass(frozen=True)
class Rollout:
    """What a rollout depends on besides the model; to be recorded with its maps, which differ a lot between choices.

    As published: the mean over heads, residual share ½, nothing discarded.
    """

    fusion: str = "mean"  # of heads: "mean", "max" or "min"
    residual: float = 0.5  # share of each token that passes a block unchanged
    discard: float = 0.0  # share of an image's patch-to-patch entries, the smallest, taken for noise and set to 0

    def __post_init__(self) -> None:
        problems = []
        if self.fusion not in FUSIONS:
            problems.append(f"Rollout cannot fuse heads by {self.fusion!r}; take one of {', '.join(FUSIONS)}.")
        for name, share in (("residual", self.residual), ("discard", self.discard)):
            if not 0 <= share < 1:
                problems.append(f"Rollout's {name} share is {share}; it must be at least 0 and below 1.")
        if problems:
            raise ConfigError(problems)


def transition(attention: Tensor, settings: Rollout, layout: TokenLayout) -> Tensor:
    """What each token after a block (rows) is made of before it (columns), (B, N, N), from attention (B, H, N, N).

    Â = (1 - r) Ã + r I with Ã the fused heads, discarded entries removed, each row divided by its sum: every row of Â
    sums to 1. (Abnar and Zuidema 2020, arXiv 2005.00928, with r = ½ and the mean over heads.)
    """
    fused = _rows_to_one(_without_smallest(FUSIONS[settings.fusion](attention), settings.discard, layout.prefix))
    unchanged = torch.eye(fused.shape[-1], device=fused.device, dtype=fused.dtype)
    # A row that lost everything to underflow keeps its token.
    return _rows_to_one(fused.mul_(1 - settings.residual).add_(settings.residual * unchanged))


def row_of_product(transitions: Sequence[Tensor], layout: TokenLayout, pooled: Tensor | None = None) -> Tensor:
    """The row (B, N) of Â_L ... Â_1 that the head reads, from Â_1 to Â_L (each (B, N, N)); it sums to 1.

    Multiplied from the last block down, a vector by a matrix at a time: O(L N²) where the whole product takes O(L N³).
    Where attention pools the tokens, its fused row `pooled` (B, N) comes before the product: no token passes it as it
    is, so it has no residual share.
    """
    row = layout.pool(transitions[-1]) if pooled is None else _rows_to_one(pooled)[:, None] @ transitions[-1]
    for matrix in reversed(transitions[:-1]):
        row = row @ matrix
    return row[:, 0]


def rollout(transitions: Sequence[Tensor], layout: TokenLayout, pooled: Tensor | None = None) -> Tensor:
    """The rollout map (B, P): the share of each patch in what the head reads. The rest comes from the prefix tokens."""
    return row_of_product(transitions, layout, pooled)[:, layout.prefix :]


def _without_smallest(fused: Tensor, share: float, prefix: int) -> Tensor:
    """Sets the smallest entries between patches to 0, per image; attention of and on prefix tokens stays.

    Entries equal to the smallest that stays do stay, so that nothing depends on how ties are broken.
    """
    if share == 0:
        return fused
    between = fused[:, prefix:, prefix:]
    entries = between.flatten(1)
    threshold = entries.sort(1).values[:, int(share * entries.shape[1])]  # sort: deterministic on every device
    kept = fused.clone()
    kept[:, prefix:, prefix:] = between.where(between >= threshold[:, None, None], 0)
    return kept


def _rows_to_one(matrix: Tensor) -> Tensor:
    return matrix / matrix.sum(-1, keepdim=True).clamp_min(torch.finfo(matrix.dtype).tiny)
