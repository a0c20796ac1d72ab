"""Finds outlier patches: patches whose features are far larger than the rest.

Darcet et al. 2024 (arXiv 2309.16588): they draw attention, but no longer describe their place in the image.
Shapes: B images, L blocks, H heads, N tokens (T prefix tokens first), P = N - T patches.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.model.adapter import TokenLayout

DEVIATIONS = 7.0  # median absolute deviations: among normally distributed norms, one in 850,000 is larger
LARGER = 1.5  # times the median: if all norms are nearly equal, the deviation alone would mark any patch


def patch_norms(tokens: Tensor, layout: TokenLayout) -> Tensor:
    """Norms (B, P) of the patches' features (B, N, D), in float32."""
    return tokens[:, layout.prefix :].float().norm(dim=-1)


def outliers(norms: Tensor) -> Tensor:
    """Which patches are outliers, same shape: norm > median + 7 MAD and > 1.5 median, over the last axis (P).

    Relative to the patches of the same image in the same layer, because no fixed norm suits all models.
    """
    median = _median(norms)
    deviation = _median((norms - median).abs())
    return (norms > median + DEVIATIONS * deviation) & (norms > LARGER * median)


def _median(values: Tensor) -> Tensor:
    """Median over the last axis, which is kept with length 1. Tensor.quantile would synchronise with the device."""
    count, ordered = values.shape[-1], values.sort(dim=-1).values
    return (ordered[..., (count - 1) // 2, None] + ordered[..., count // 2, None]) / 2


def attention_on(patches: Tensor, rows: Tensor, layout: TokenLayout) -> Tensor:
    """Share (B, L) of the attention on patches, mean over heads, that falls on the marked patches.

    `patches` (B, L, P) marks inputs of each block; `rows` (B, L, H, N) is what `capture_rows` gives.
    """
    attention = rows[..., layout.prefix :].mean(2)
    marked = (attention * patches).sum(-1)
    return marked / attention.sum(-1).clamp_min(torch.finfo(attention.dtype).tiny)
