"""Attention of many images, collected over processes: what an `Archive` holds of each, every image exactly once.

In float32, whatever the precision of the run. B images, L blocks, H heads, N tokens (T prefix tokens first), P patches.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor, nn
from tqdm import tqdm

from harness.data.eval_loader import EvalBatch, EvalBatches
from harness.errors import HarnessError
from harness.explain.attention.capture import capture_matrices, capture_rows, capture_tokens, self_test
from harness.explain.attention.head_statistics import STATISTICS, RunningMean, head_statistics, patch_distances
from harness.explain.attention.legrad import capture_legrad
from harness.explain.attention.relevance import capture_relevance, differentiable
from harness.explain.attention.rollout import Rollout, rollout, transition
from harness.explain.outliers import attention_on, outliers, patch_norms
from harness.explain.positions.content import content_length
from harness.model import adapter
from harness.training.distributed import Processes
from harness.training.signals import StopRequested, StopSignals

# Of the first batch, for the self-test: in float64 they take as long as many times their number.
TESTED = 4

TOP = 5  # classes that are named of each image

# What ranks tell each other before each batch; the largest is what all of them do.
_GOES_ON, _OUT_OF_MEMORY, _FAILED = range(3)


@dataclasses.dataclass(frozen=True)
class CollectOptions:
    """What to collect besides what is always collected."""

    head_layer: int  # 1 to L: the block whose heads are kept apart
    rollout: Rollout = dataclasses.field(default_factory=Rollout)
    projections: tuple[Tensor, ...] = ()  # weights of patch projections, to measure what images put in beside positions


@dataclasses.dataclass(frozen=True, eq=False)
class Collected:
    """Arrays of all images, in their order."""

    per_image: dict[str, np.ndarray]  # fields of `Archive` with one entry per image
    statistics: np.ndarray  # (L, H, K) float64, STATISTICS as means over images
    top_classes: np.ndarray  # (n, up to TOP) int64, the likeliest first ...
    top_probabilities: np.ndarray  # ... and how likely they are
    content_lengths: tuple[float, ...]  # root mean square, one per projection
    self_test: dict[str, Any]


@dataclasses.dataclass
class _Share:
    """Arrays of one rank's images."""

    batches: list[dict[str, np.ndarray]] = dataclasses.field(default_factory=list)
    sums: list[list[RunningMean]] = dataclasses.field(
        default_factory=list
    )  # head statistics, then squared content lengths


def collect(
    model: nn.Module,
    batches: EvalBatches,
    total: int,
    options: CollectOptions,
    processes: Processes,
    stop: StopSignals | None = None,
) -> Collected | None:
    """Capture attention of all `total` images; None on all processes but the main one.

    Every rank calls it, with a plain model in eval mode: neither compiled nor wrapped. What goes wrong on any rank is a
    HarnessError on all of them, and a failed self-test is one before the first image. Raises StopRequested on all ranks
    when one received a stop signal.
    """
    tested = processes.on_main(lambda: _tested(model, batches))
    while (share := _one_pass(model, batches, total, options, processes, stop)) is None:
        clear_device_cache(garbage_collection=True)
        if not batches.halve():
            raise HarnessError("Out of memory with attention of one image at a time: free memory on the device.")
    shares = processes.gather(share)
    if not shares:
        return None
    parts = [part for each in shares for part in each.batches]
    sums = [batch for each in shares for batch in each.sums]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(joined.pop("positions"), kind="stable")
    if len(order) != total:
        raise RuntimeError(f"{len(order)} of {total} images were processed")
    ordered = {name: values[order] for name, values in joined.items()}
    top_classes, top_probabilities = ordered.pop("top_classes"), ordered.pop("top_probabilities")
    statistics, *lengths = (reduce(add, column).mean() for column in zip(*sums, strict=True))
    return Collected(
        per_image=ordered,
        top_classes=top_classes,
        top_probabilities=top_probabilities,
        statistics=statistics.numpy(),
        content_lengths=tuple(float(length.sqrt()) for length in lengths),
        self_test=tested,
    )


def collect_batch(
    model: nn.Module, images: Tensor, labels: Tensor, options: CollectOptions
) -> tuple[dict[str, Tensor], RunningMean]:
    """Fields of `Archive` and the likeliest classes of the images of one batch; and sums of STATISTICS (L, H, K).

    Images (B, 3, S, S), normalised; labels (B,), -1 where they are not known.
    """
    parts = adapter.parts(model)
    layout, first = parts.layout, parts.layout.prefix
    distances = patch_distances((parts.grid, parts.grid), parts.patch_size, images.device)
    with (
        capture_relevance(model) as relevance_of,
        capture_legrad(model) as legrad_of,
        capture_rows(model) as latest_rows,
        capture_tokens(model, lambda tokens: patch_norms(tokens, layout)) as latest_norms,
        capture_matrices(
            model,
            lambda matrix: (transition(matrix, options.rollout, layout), head_statistics(matrix, distances, layout)),
        ) as latest_matrices,
    ):
        logits = model(differentiable(images))
        with torch.no_grad():
            probabilities = logits.double().softmax(1)
            rows = latest_rows()  # (B, L, H, N)
            transitions, statistics = zip(*latest_matrices(), strict=True)
            by_head = torch.stack(statistics, dim=1)  # (B, L, H, K)
            by_layer = dict(zip(STATISTICS, by_head.mean(2).unbind(-1), strict=True))
            marked = outliers(torch.stack(latest_norms()[:-1], dim=1))  # (B, L, P), as they enter each block
            taken, layer = attention_on(marked, rows, layout).max(1)
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
                "layers": rows[..., first:].mean(2).half(),
                "heads": rows[:, options.head_layer - 1, :, first:].half(),
                "class_share": rows[..., :first].sum(-1).mean(2),  # what is not on patches
                "rollout": rollout(transitions, layout).half(),
                "entropy": by_layer["class_entropy"],
                "distance": by_layer["distance"],
                "outlier_share": marked.float().mean(-1).gather(1, layer[:, None])[:, 0],
                "outlier_attention": taken,
            }
            sums = RunningMean.of(by_head)
        legrad = legrad_of(predicted)  # first: relevance frees the graph
        return fields | {"legrad": legrad, "relevance": relevance_of(logits, predicted)}, sums


def _tested(model: nn.Module, batches: EvalBatches) -> dict[str, Any]:
    """The self-test on some images of the first batch; HarnessError unless it passes."""
    try:
        report = self_test(model, next(iter(batches)).images[:TESTED].clone())
    except Exception as error:  # the other ranks wait for the outcome, whatever it is
        raise HarnessError(f"The self-test of attention capture failed: {_in_words(error)}") from error
    if not report["passed"]:
        raise HarnessError(
            "Attention capture is not exact: in the self-test, captured attention differs from the model's by "
            f"{max(report['row_error'], report['matrix_error']):.2g} ({report['tolerance']:.0e} is allowed), "
            "and outputs "
            f"{'are the same' if report['logits_equal'] else 'changed'} while it was captured."
        )
    return report


def _one_pass(
    model: nn.Module,
    batches: EvalBatches,
    total: int,
    options: CollectOptions,
    processes: Processes,
    stop: StopSignals | None,
) -> _Share | None:
    """Arrays of this rank's images; None on all ranks if one lacks memory."""
    share, state, problem = _Share(), _GOES_ON, ""
    own = iter(batches)
    with tqdm(total=total, desc="attention", unit="image", disable=not _watched(processes), leave=False) as bar:
        # One round more than there are batches, so that ranks agree on the last one too.
        for _ in range(processes.largest(len(batches)) + 1):
            if (agreed := processes.largest(state)) == _OUT_OF_MEMORY:
                return None
            if agreed == _FAILED:
                _give_up(processes.gather(problem), processes)
            if stop and processes.any(stop.requested):
                raise StopRequested(processes.largest(stop.signum or 0))
            if (batch := next(own, None)) is None:
                continue  # other ranks have an image more
            try:
                _add(share, model, batch, options)
            except Exception as error:  # every rank must come to the next agreement
                state = _OUT_OF_MEMORY if should_reduce_batch_size(error) else _FAILED
                problem = _in_words(error)
            bar.update(min(len(batch.images) * processes.world, total - bar.n))
    return share


def _add(share: _Share, model: nn.Module, batch: EvalBatch, options: CollectOptions) -> None:
    fields, statistics = collect_batch(model, batch.images, batch.labels, options)
    share.batches.append(
        {name: value.cpu().numpy() for name, value in (fields | {"positions": batch.positions}).items()}
    )
    lengths = (content_length(batch.images, weight.to(batch.images.device)) for weight in options.projections)
    count = len(batch.images)
    squares = (RunningMean(count, count * length.double().square()) for length in lengths)
    share.sums.append([each.to("cpu") for each in (statistics, *squares)])


def _give_up(problems: Sequence[str], processes: Processes) -> None:
    """The same error on all ranks: the first of the `problems` that the main process gathered."""

    def refuse() -> None:
        raise HarnessError(f"Attention could not be captured: {next(filter(None, problems))}")

    processes.on_main(refuse)


def _in_words(error: Exception) -> str:
    return str(error) if isinstance(error, HarnessError) else f"{type(error).__name__}: {error}."


def _watched(processes: Processes) -> bool:
    return processes.is_main and sys.stderr.isatty()
