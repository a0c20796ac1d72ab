"""LeGrad: where each block's attention would have to grow for the class's score to rise.

Shapes: B images, L blocks, N tokens (T prefix tokens first), P = N - T patches, D hidden size, C classes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from harness.explain.attention.capture import attentions, observed, plain_model
from harness.explain.attention.relevance import attention_gradient, differentiable, gradients_on
from harness.model import adapter


def legrad(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """The map (B, P) for `classes` (B,): see `capture_legrad`."""
    with capture_legrad(model) as legrad_of:
        model(differentiable(images))
        return legrad_of(classes)


@contextlib.contextmanager
def capture_legrad(model: nn.Module) -> Iterator[Callable[[Tensor], Tensor]]:
    """Yields a function of classes (B,) that gives the map (B, P) of the latest forward pass.

    s_l is the class's logit that the final norm and the head give to the mean over all tokens after block l, and
    ∇A_l its gradient with respect to that block's attention. The map is the mean over blocks, heads and queries of
    (∇A_l)⁺, without the prefix tokens. (Bousselham et al. 2024, arXiv 2404.03214; over all blocks, where the authors'
    program takes the last two, and not scaled to 0 to 1.) Not normalised: maps of different images differ in scale.

    Each s_l is differentiated through its own block only. Take this map before the relevance of the same pass, which
    frees the graph. Otherwise as `capture_relevance`.
    """
    transformer = plain_model(model)
    modules, vit = attentions(transformer), adapter.parts(transformer)

    def attended(_: Any, tokens: Tensor, output: tuple[Tensor, None]) -> tuple[Tensor, Tensor]:
        return tokens.detach(), output[0]

    with (
        gradients_on(transformer),
        observed(transformer, modules, attended, after=True) as latest_attended,
        observed(transformer, vit.blocks, lambda _, __, output: output, after=True) as latest_left,
    ):

        def legrad_of(classes: Tensor) -> Tensor:
            chosen, total = classes.clone()[:, None], torch.zeros((), device=classes.device)
            for module, (tokens, output), left in zip(modules, latest_attended(), latest_left(), strict=True):
                score = vit.head(vit.final_norm(left.mean(1))).gather(1, chosen).sum()
                [gradient] = torch.autograd.grad(score, output, retain_graph=True)
                with torch.no_grad():
                    total = total + attention_gradient(module, tokens, gradient).clamp_min_(0).mean((1, 2))
            return total[:, vit.layout.prefix :] / len(modules)

        yield legrad_of
