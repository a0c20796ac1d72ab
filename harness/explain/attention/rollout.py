"""Attention rollout: how attention adds up over blocks, if each passes on half of every token unchanged.

Shapes: B images, L blocks, H heads, N tokens (T prefix tokens first), P = N - T patches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.model.adapter import TokenLayout

RESIDUAL = 0.5  # share of each token that passes a block unchanged
# As published, and recorded with the maps, which differ a lot between choices. No small entries are discarded.
SETTINGS = {"fusion": "mean", "residual": RESIDUAL, "discard": 0.0}


def transition(attention: Tensor) -> Tensor:
    """What each token after a block (rows) is made of before it (columns), (B, N, N), from attention (B, H, N, N).

    Â = ½ Ã + ½ I with Ã the mean over heads: every row of Â sums to 1. (Abnar and Zuidema 2020, arXiv 2005.00928.)
    """
    mean = _rows_to_one(attention.mean(1))
    unchanged = torch.eye(mean.shape[-1], device=mean.device, dtype=mean.dtype)
    # A row that lost everything to underflow keeps its token.
    return _rows_to_one(mean.mul_(1 - RESIDUAL).add_(RESIDUAL * unchanged))


def row_of_product(transitions: Sequence[Tensor], layout: TokenLayout, pooled: Tensor | None = None) -> Tensor:
    """The row (B, N) of Â_L ... Â_1 that the head reads, from Â_1 to Â_L (each (B, N, N)); it sums to 1.

    Multiplied from the last block down, a vector by a matrix at a time: O(L N²) where the whole product takes O(L N³).
    Where attention pools the tokens, the mean of its heads `pooled` (B, N) comes before the product: no token passes it
    as it is, so it has no residual share.
    """
    row = layout.pool(transitions[-1]) if pooled is None else _rows_to_one(pooled)[:, None] @ transitions[-1]
    for matrix in reversed(transitions[:-1]):
        row = row @ matrix
    return row[:, 0]


def rollout(transitions: Sequence[Tensor], layout: TokenLayout, pooled: Tensor | None = None) -> Tensor:
    """The rollout map (B, P): the share of each patch in what the head reads. The rest comes from the prefix tokens."""
    return row_of_product(transitions, layout, pooled)[:, layout.prefix :]


def _rows_to_one(matrix: Tensor) -> Tensor:
    return matrix / matrix.sum(-1, keepdim=True).clamp_min(torch.finfo(matrix.dtype).tiny)
