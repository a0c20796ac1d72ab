"""LeGrad: where each block's attention would have to grow for the class's score to rise.

Shapes: B images, L blocks, N tokens (T prefix tokens first), P = N - T patches, D hidden size, C classes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from harness.explain.attention.capture import capture_calls, observed
from harness.explain.attention.passes import plain_model
from harness.explain.attention.relevance import gradients_on
from harness.model import adapter


@contextlib.contextmanager
def capture_legrad(model: nn.Module) -> Iterator[Callable[[Tensor], Tensor]]:
    """Yields a function of classes (B,) that gives the map (B, P) of the latest forward pass.

    s_l is the class's logit that the final norm, the pooling and the head give to the mean over all tokens after
    block l, and ∇A_l its gradient with respect to that block's attention. The map is the mean over blocks, heads and
    queries of (∇A_l)⁺, without the prefix tokens. (Bousselham et al. 2024, arXiv 2404.03214; over all blocks, where the
    authors' program takes the last two, and not scaled to 0 to 1.) Not normalised: maps of different images differ in
    scale.

    Each s_l is differentiated through its own block only. Take this map before the relevance of the same pass, which
    frees the graph. Otherwise as `capture_relevance`.
    """
    transformer = plain_model(model)
    vit = adapter.parts(transformer)

    with (
        gradients_on(transformer),
        capture_calls(transformer, lambda _, call: call, after=True) as latest_calls,
        observed(transformer, vit.blocks, lambda _, __, output: output, after=True) as latest_left,
    ):

        def legrad_of(classes: Tensor) -> Tensor:
            chosen, total = classes.clone()[:, None], torch.zeros((), device=classes.device)
            # The call that pools, if there is one, comes after those of the blocks and has no part in it.
            for call, left in zip(latest_calls()[: len(vit.blocks)], latest_left(), strict=True):
                score = vit.logits_of_one(left.mean(1)).gather(1, chosen).sum()
                [gradient] = torch.autograd.grad(score, call.output, retain_graph=True)
                with torch.no_grad():
                    total = total + call.gradient(gradient).clamp_min_(0).mean((1, 2))
            return total[:, vit.layout.prefix :] / len(vit.blocks)

        yield legrad_of
