"""What an `Archive` holds of the images of one batch.

In float32, whatever the precision of the run. B images, L layers (the blocks, then the attention that pools, if there
is one), H heads, N tokens (T prefix tokens first), P patches, K statistics.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from harness.explain.attention.capture import capture_layer_rows, capture_matrices, capture_tokens
from harness.explain.attention.head_statistics import (
    STATISTICS,
    RunningMean,
    head_statistics,
    patch_distances,
    pool_statistics,
)
from harness.explain.attention.legrad import capture_legrad
from harness.explain.attention.relevance import capture_relevance, differentiable
from harness.explain.attention.rollout import rollout, transition
from harness.explain.outliers import attention_on, outliers, patch_norms
from harness.model import adapter

TOP = 5  # classes that are named of each image


def collect_batch(
    model: nn.Module, images: Tensor, labels: Tensor, head_layer: int
) -> tuple[dict[str, Tensor], RunningMean]:
    """Fields of `Archive` and the likeliest classes of the images of one batch; and sums of STATISTICS (L, H, K).

    Images (B, 3, S, S), normalised; labels (B,), -1 where they are not known. The heads of layer `head_layer` (1 to L)
    are kept apart.
    """
    parts = adapter.parts(model)
    layout, first = parts.layout, parts.layout.prefix
    distances = patch_distances((parts.grid, parts.grid), parts.patch_size, images.device)
    with (
        capture_relevance(model) as relevance_of,
        capture_legrad(model) as legrad_of,
        capture_layer_rows(model) as latest_rows,
        capture_tokens(model, lambda tokens: patch_norms(tokens, layout)) as latest_norms,
        capture_matrices(
            model, lambda matrix: (transition(matrix), head_statistics(matrix, distances, layout))
        ) as latest_matrices,
    ):
        logits = model(differentiable(images))
        with torch.no_grad():
            probabilities = logits.double().softmax(1)
            rows = latest_rows()  # of each layer (B, H, N)
            by_layer_rows = torch.stack([each.mean(1) for each in rows], dim=1)  # (B, L, N)
            transitions, statistics = map(list, zip(*latest_matrices(), strict=True))
            norms = latest_norms()[:-1]  # as patches enter each block
            pooled = None
            if layout.pools_by_attention:  # the layer after the last block
                pooled = rows[-1].mean(1)
                statistics.append(pool_statistics(rows[-1]))
                norms = latest_norms()
            means = torch.stack([each.mean(1) for each in statistics], dim=1)  # (B, L, K)
            by_layer = dict(zip(STATISTICS, means.unbind(-1), strict=True))
            marked = outliers(torch.stack(norms, dim=1))  # (B, L, P)
            taken, layer = attention_on(marked, by_layer_rows[:, :, None], layout).max(1)
            top_probabilities, top_classes = probabilities.topk(min(TOP, probabilities.shape[1]))
            probability, predicted = top_probabilities[:, 0], top_classes[:, 0]
            known = probabilities.gather(1, labels.clamp_min(0)[:, None])[:, 0]
            fields = {
                "labels": labels.int(),
                "predicted": predicted.int(),
                "probability": probability.float(),
                "label_probability": known.where(labels >= 0, torch.nan).float(),
                "top_classes": top_classes,
                "top_probabilities": top_probabilities,
                "layers": by_layer_rows[..., first:].half(),
                "heads": rows[head_layer - 1][..., first:].half(),
                "class_share": torch.stack([each[..., :first].sum(-1).mean(1) for each in rows], 1),  # not on patches
                "rollout": rollout(transitions, layout, pooled).half(),
                "entropy": by_layer["class_entropy"],
                "distance": by_layer["distance"],
                "outlier_share": marked.float().mean(-1).gather(1, layer[:, None])[:, 0],
                "outlier_attention": taken,
            }
            sums = RunningMean.of(_same_heads(statistics))
        legrad = legrad_of(predicted)  # first: relevance frees the graph
        return fields | {"legrad": legrad, "relevance": relevance_of(logits, predicted)}, sums


def _same_heads(statistics: Sequence[Tensor]) -> Tensor:
    """Statistics of layers (B, H, K) as (B, L, H, K); NaN for heads that a layer does not have."""
    most = max(each.shape[1] for each in statistics)
    return torch.stack([pad(each, (0, 0, 0, most - each.shape[1]), value=torch.nan) for each in statistics], dim=1)
