"""Gradient-weighted attention: which patches the attention that a class depends on leads to.

Shapes: B images, L blocks, H heads, N tokens (T prefix tokens first), P = N - T patches, D hidden size, d = D / H.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from harness.explain.attention.capture import attention_matrix, attentions, observed, plain_model
from harness.model import adapter


def relevance(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Relevance (B, P) of each patch for the logit of `classes` (B,): see `capture_relevance`."""
    with capture_relevance(model) as relevance_of:
        return relevance_of(model(differentiable(images)), classes)


def differentiable(images: Tensor) -> Tensor:
    """Images that make a graph even where all weights are frozen, or where they were made in inference mode."""
    return images.clone().requires_grad_()


@contextlib.contextmanager
def capture_relevance(model: nn.Module) -> Iterator[Callable[[Tensor, Tensor], Tensor]]:
    """Yields a function of the latest forward pass's logits (B, C) and classes (B,): the relevance (B, P) of patches.

    By generic attention explanation ("GAE"): Ā_l = mean over heads of (∇A_l ⊙ A_l)⁺, with ∇A_l the gradient of the
    class's logit with respect to block l's attention; R_0 = I, R_l = R_{l-1} + Ā_l R_{l-1}; the map is the row of R_L
    that the head reads, without the prefix tokens. (Chefer, Gur and Wolf 2021, arXiv 2103.15679, for self-attention.)
    Not normalised: maps of different images differ in scale.

    Only that row is computed, from the last block down: O(L N²). Give the model in eval mode, and `differentiable`
    images; gradients are on inside, whatever they were before. The model runs as it always does, and no block keeps
    its (B, H, N, N). Weights may be frozen: no gradient of theirs is computed, nor any before the first attention.
    """
    transformer = plain_model(model)  # not DistributedDataParallel, which would wait for a backward pass
    modules, layout = attentions(transformer), adapter.parts(transformer).layout

    def observe(_: Any, tokens: Tensor, output: tuple[Tensor, None]) -> tuple[Tensor, Tensor]:
        return tokens.detach(), output[0]

    with gradients_on(transformer), observed(transformer, modules, observe, after=True) as latest:

        def relevance_of(logits: Tensor, classes: Tensor) -> Tensor:
            captured = latest()
            # Images do not mix, so the gradient of the sum is that of each one's own logit. Gradients come in the
            # order of the outputs that are asked for, whatever order the backward pass takes.
            chosen = logits.gather(1, classes.clone()[:, None]).sum()
            gradients = torch.autograd.grad(chosen, [output for _, output in captured])
            with torch.no_grad():
                batch, count, _ = captured[0][0].shape
                row = layout.pool(torch.eye(count, device=logits.device)).expand(batch, 1, count)
                for module, (tokens, _), gradient in reversed(list(zip(modules, captured, gradients, strict=True))):
                    weighted = attention_gradient(module, tokens, gradient).mul_(attention_matrix(module, tokens))
                    row = row + row @ weighted.clamp_min_(0).mean(1)
            return row[:, 0, layout.prefix :]

        yield relevance_of


@contextlib.contextmanager
def gradients_on(model: nn.Module) -> Iterator[None]:
    """Gradients in full precision, whatever was on before."""
    device = next(model.parameters()).device.type
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device, enabled=False):
        yield


def attention_gradient(attention: nn.MultiheadAttention, tokens: Tensor, gradient: Tensor) -> Tensor:
    """Gradient with respect to the attention (B, H, N, N), from the one with respect to the output (B, N, D).

    Head h gives A_h V_h to the columns W_h of the output projection, so ∇A_h = (∇out W_h) V_hᵀ; in float32.
    """
    size, heads = attention.embed_dim, attention.num_heads
    bias = attention.in_proj_bias
    weight = attention.in_proj_weight[2 * size :].float()
    values = linear(tokens.float(), weight, None if bias is None else bias[2 * size :].float())
    per_head = gradient.float() @ attention.out_proj.weight.float()
    values, per_head = (each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in (values, per_head))  # (B, H, N, d)
    return per_head @ values.transpose(2, 3)
