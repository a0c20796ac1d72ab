"""Gradient-weighted attention: the patches that attention reaches, weighted by its gradient for a class.

Shapes: B images, L blocks, H heads, N tokens (T prefix tokens first), P = N - T patches, C classes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from harness.explain.attention.call import AttentionCall, require_exact
from harness.explain.attention.capture import capture_calls
from harness.explain.attention.passes import plain_model
from harness.model import adapter
from harness.model.adapter import TokenLayout
from harness.model.grad_checkpointing import without_grad_checkpointing


def relevance(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Relevance (B, P) of each patch for the logit of `classes` (B,): see `relevance_of_pass`."""
    with gradients_on(model), capture_calls(model, lambda call: call) as latest:
        logits = model(differentiable(images))
        return relevance_of_pass(latest(), logits, classes, adapter.parts(plain_model(model)).layout)


def relevance_of_pass(calls: Sequence[AttentionCall], logits: Tensor, classes: Tensor, layout: TokenLayout) -> Tensor:
    """Relevance (B, P) of patches for classes (B,), from the attention and the logits (B, C) of a pass with gradients.

    By generic attention explanation ("GAE"): Ā_l = mean over heads of (∇A_l ⊙ A_l)⁺, with ∇A_l the gradient of the
    class's logit with respect to block l's attention; R_0 = I, R_l = R_{l-1} + Ā_l R_{l-1}; the map is the row of R_L
    that the head reads, without the prefix tokens. (Chefer, Gur and Wolf 2021, arXiv 2103.15679, for self-attention.)
    Where attention pools the tokens, the row is Ā_pool R_L, their rule for attention on other tokens.
    Not normalised: maps of different images differ in scale.

    Only that row is computed, from the last block down: O(L N²), and no block keeps its (B, H, N, N). The pass frees
    its graph. Weights may be frozen: no gradient of theirs is computed, nor any before the first attention.
    """
    # Images do not mix, so the gradient of the sum is that of each one's own logit. Gradients come in the
    # order of the outputs that are asked for, whatever order the backward pass takes.
    chosen = logits.gather(1, classes.clone()[:, None]).sum()
    gradients = torch.autograd.grad(chosen, [call.output for call in calls])
    with torch.no_grad():
        pairs = zip(reversed(calls), reversed(gradients), strict=True)
        batch, _, count, _ = calls[0].key.shape
        if layout.pools_by_attention:  # it starts where the pool attends
            weighted = _weighted(*next(pairs))
            row = pad(weighted, (count - weighted.shape[-1], 0))
        else:
            row = layout.pool(torch.eye(count, device=logits.device)).expand(batch, 1, count)
        for call, gradient in pairs:
            row = row + row @ _weighted(call, gradient)
        require_exact(calls[0].checks)
    return row[:, 0, layout.prefix :]


def differentiable(images: Tensor) -> Tensor:
    """Images that make a graph even where all weights are frozen, or where they were made in inference mode."""
    return images.clone().requires_grad_()


@contextlib.contextmanager
def gradients_on(model: nn.Module) -> Iterator[None]:
    """Gradients in full precision, and activations computed once, whatever was on before."""
    transformer = plain_model(model)
    device = next(transformer.parameters()).device.type
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device, enabled=False),
        without_grad_checkpointing(transformer),
    ):
        yield


def _weighted(call: AttentionCall, gradient: Tensor) -> Tensor:
    """Mean over heads of (∇A ⊙ A)⁺, (B, N, N), or (B, 1, N) of attention that pools."""
    return call.gradient(gradient).mul_(call.matrix()).clamp_min_(0).mean(1)
