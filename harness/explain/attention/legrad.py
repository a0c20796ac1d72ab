"""LeGrad: where each block's attention would have to grow for the class's score to rise.

Shapes: B images, L blocks, N tokens (T prefix tokens first), P = N - T patches, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.explain.attention.call import AttentionCall
from harness.model.adapter import VitParts


def legrad_of_pass(vit: VitParts, calls: Sequence[AttentionCall], left: Sequence[Tensor], classes: Tensor) -> Tensor:
    """The map (B, P) for classes (B,), from the attention and the tokens (B, N, D) that left each block in a pass.

    s_l is the class's logit that the final norm, the pooling and the head give to the mean over all tokens after
    block l, and ∇A_l its gradient with respect to that block's attention. The map is the mean over blocks, heads and
    queries of (∇A_l)⁺, without the prefix tokens. (Bousselham et al. 2024, arXiv 2404.03214; over all blocks, where the
    authors' program takes the last two, and not scaled to 0 to 1.) Not normalised: maps of different images differ in
    scale.

    Each s_l is differentiated through its own block only. Take this map before the relevance of the same pass, which
    frees the graph.
    """
    chosen, total = classes.clone()[:, None], torch.zeros((), device=classes.device)
    # The call that pools, if there is one, comes after those of the blocks and has no part in it.
    for call, tokens in zip(calls[: len(vit.blocks)], left, strict=True):
        score = vit.logits_of_one(tokens.mean(1)).gather(1, chosen).sum()
        [gradient] = torch.autograd.grad(score, call.output, retain_graph=True)
        with torch.no_grad():
            total = total + call.gradient(gradient).clamp_min_(0).mean((1, 2))
    return total[:, vit.layout.prefix :] / len(vit.blocks)
