"""What an `Archive` holds of the images of one batch.

In float32, whatever the precision of the run. B images, L layers (the blocks, then the attention that pools, if there
is one), H heads, N tokens (T prefix tokens first), P patches, K statistics.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from harness.explain.attention.call import AttentionCall
from harness.explain.attention.capture import capture_calls, capture_tokens
from harness.explain.attention.head_statistics import (
    STATISTICS,
    RunningMean,
    head_statistics,
    patch_distances,
    pool_statistics,
)
from harness.explain.attention.legrad import legrad_of_pass
from harness.explain.attention.relevance import differentiable, gradients_on, relevance_of_pass
from harness.explain.attention.rollout import rollout, transition
from harness.explain.outliers import attention_on, outliers, patch_norms
from harness.model import adapter
from harness.model.adapter import VitParts

TOP = 5  # classes that are named of each image


def collect_batch(
    model: nn.Module, images: Tensor, labels: Tensor, head_layer: int
) -> tuple[dict[str, Tensor], RunningMean]:
    """Fields of `Archive` and the likeliest classes of the images of one batch; and sums of STATISTICS (L, H, K).

    Images (B, 3, S, S), normalised; labels (B,), -1 where they are not known. The heads of layer `head_layer` (1 to L)
    are kept apart.
    """
    vit = adapter.parts(model)
    with gradients_on(model):
        # Only the pass is watched: what is computed below would be shown to both, call by call.
        with capture_calls(model, lambda call: call) as latest_calls, capture_tokens(model) as latest_tokens:
            logits = model(differentiable(images))
        calls, tokens = latest_calls(), latest_tokens()
        with torch.no_grad():
            predictions = _predictions(logits, labels)
            attention, sums = _attention(vit, calls, tokens, head_layer)
        predicted = predictions["top_classes"][:, 0]
        maps = {
            "legrad": legrad_of_pass(vit, calls, tokens[1:], predicted),  # first: relevance frees the graph
            "relevance": relevance_of_pass(calls, logits, predicted, vit.layout),
        }
    return predictions | attention | maps, sums


def _predictions(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    probabilities = logits.double().softmax(1)
    top_probabilities, top_classes = probabilities.topk(min(TOP, probabilities.shape[1]))
    of_label = probabilities.gather(1, labels.clamp_min(0)[:, None])[:, 0]
    return {
        "labels": labels.int(),
        "predicted": top_classes[:, 0].int(),
        "probability": top_probabilities[:, 0].float(),
        "label_probability": of_label.where(labels >= 0, torch.nan).float(),
        "top_classes": top_classes,
        "top_probabilities": top_probabilities,
    }


def _attention(
    vit: VitParts, calls: Sequence[AttentionCall], tokens: Sequence[Tensor], head_layer: int
) -> tuple[dict[str, Tensor], RunningMean]:
    """Fields that need no gradients, and sums of STATISTICS."""
    layout, first, blocks = vit.layout, vit.layout.prefix, len(vit.blocks)
    distances = patch_distances((vit.grid, vit.grid), vit.patch_size, tokens[0].device)
    transitions, statistics, rows = [], [], []  # rows of each layer (B, H, N)
    for call in calls[:blocks]:
        matrix = call.matrix()
        transitions.append(transition(matrix))
        statistics.append(head_statistics(matrix, distances, layout))
        rows.append(layout.pool(matrix)[..., 0, :].clone())  # a view would keep the matrix
    pooled, entering = None, tokens[:blocks]
    if layout.pools_by_attention:  # the layer after the last block
        row = calls[-1].row(layout)
        rows.append(pad(row, (rows[0].shape[-1] - row.shape[-1], 0)))  # it may not read all prefix tokens
        pooled, entering = rows[-1].mean(1), tokens
        statistics.append(pool_statistics(rows[-1]))
    by_layer_rows = torch.stack([each.mean(1) for each in rows], dim=1)  # (B, L, N)
    means = torch.stack([each.mean(1) for each in statistics], dim=1)  # (B, L, K)
    by_layer = dict(zip(STATISTICS, means.unbind(-1), strict=True))
    marked = outliers(torch.stack([patch_norms(each, layout) for each in entering], dim=1))  # (B, L, P)
    on_outliers, layer = attention_on(marked, by_layer_rows[:, :, None], layout).max(1)
    fields = {
        "layers": by_layer_rows[..., first:].half(),
        "heads": rows[head_layer - 1][..., first:].half(),
        "class_share": torch.stack([each[..., :first].sum(-1).mean(1) for each in rows], 1),  # not on patches
        "rollout": rollout(transitions, layout, pooled).half(),
        "entropy": by_layer["class_entropy"],
        "distance": by_layer["distance"],
        "outlier_share": marked.float().mean(-1).gather(1, layer[:, None])[:, 0],
        "outlier_attention": on_outliers,
    }
    return fields, RunningMean.of(_same_heads(statistics))


def _same_heads(statistics: Sequence[Tensor]) -> Tensor:
    """Statistics of layers (B, H, K) as (B, L, H, K); NaN for heads that a layer does not have."""
    most = max(each.shape[1] for each in statistics)
    return torch.stack([pad(each, (0, 0, 0, most - each.shape[1]), value=torch.nan) for each in statistics], dim=1)
