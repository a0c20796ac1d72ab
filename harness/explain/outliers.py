"""Patches whose features grow far larger than the rest: a ViT's scratch paper, which attention maps show as objects.

Darcet et al. 2024 (arXiv 2309.16588): such patches hold no more of their place in the image, and draw attention.
Shapes: B images, L blocks, H heads, N tokens (class token first), P = N - 1 patches.
"""

from __future__ import annotations

import torch
from torch import Tensor

DEVIATIONS = 7.0  # median absolute deviations: among normally distributed norms, one in 850,000 is larger
LARGER = 1.5  # times the median: where all norms are nearly equal, the deviation alone would call any an outlier
TAKEN = 0.5  # of the attention on patches: a map that outliers hold most of is not to be trusted ...
EXCESS = 2.0  # ... if it is also so many times what as many other patches would get


def patch_norms(tokens: Tensor) -> Tensor:
    """Lengths (B, P) of the patches' features (B, N, D); a reduction for `capture_tokens`."""
    return tokens[:, 1:].norm(dim=-1)


def outliers(norms: Tensor) -> Tensor:
    """Which patches are outliers, same shape: norm > median + 7 MAD and > 1.5 median, over the last axis (P).

    Relative to the image's own patches in the same place of the network: no fixed norm suits all models.
    """
    median = _median(norms)
    deviation = _median((norms - median).abs())
    return (norms > median + DEVIATIONS * deviation) & (norms > LARGER * median)


def _median(values: Tensor) -> Tensor:
    """Over the last axis, which stays with length 1; Tensor.quantile may wait for the device (torch 2.11 does)."""
    count, ordered = values.shape[-1], values.sort(dim=-1).values
    return (ordered[..., (count - 1) // 2, None] + ordered[..., count // 2, None]) / 2


def attention_on(patches: Tensor, rows: Tensor) -> Tensor:
    """Share (B, L) of the class token's attention to patches, mean over heads, that goes to the marked ones.

    Marks (B, L, P) are of what enters each block; rows (B, L, H, N) are each block's.
    """
    attention = rows[..., 1:].mean(2)
    marked = (attention * patches).sum(-1)
    return marked / attention.sum(-1).clamp_min(torch.finfo(attention.dtype).tiny)


def misleading(share: Tensor, attention: Tensor) -> Tensor:
    """Whether maps are not to be trusted: outliers, `share` of the patches, draw `attention` far above their share."""
    return (attention >= TAKEN) & (attention >= EXCESS * share)
