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
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor, nn
from tqdm import tqdm

from harness.data.eval_loader import EvalBatch, EvalBatches
from harness.errors import HarnessError
from harness.explain.attention.batch import collect_batch
from harness.explain.attention.head_statistics import RunningMean
from harness.explain.attention.self_test import self_test
from harness.explain.positions.change import content_length
from harness.training.distributed import Processes
from harness.training.signals import StopRequested, StopSignals

# Of the first batch, for the self-test: in float64 they take as long as many times their number.
TESTED = 4

# What ranks tell each other before each batch; the largest is what all of them do.
_GOES_ON, _OUT_OF_MEMORY, _FAILED = range(3)


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
    head_layer: int,
    projections: Sequence[Tensor],
    processes: Processes,
    stop: StopSignals | None = None,
) -> Collected | None:
    """Capture attention of all `total` images; None on all processes but the main one.

    `projections` are weights of patch projections, to measure what images put in beside positions.
    Every rank calls it, with a plain model in eval mode: neither compiled nor wrapped. An error on any rank is
    raised as HarnessError on all of them; that of a failed self-test, before the first image. Raises StopRequested on
    all ranks when one received a stop signal.
    """
    tested = processes.on_main(lambda: _tested(model, batches))
    while (share := _one_pass(model, batches, total, head_layer, projections, processes, stop)) is None:
        if not batches.use_less_memory():
            raise HarnessError("Out of memory with attention of one image at a time: free memory on the device.")
        clear_device_cache(garbage_collection=True)
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
    head_layer: int,
    projections: Sequence[Tensor],
    processes: Processes,
    stop: StopSignals | None,
) -> _Share | None:
    """Arrays of this rank's images; None on all ranks if one lacks memory."""
    share, state, problem = _Share(), _GOES_ON, ""
    own, watched = iter(batches), processes.is_main and sys.stderr.isatty()
    with tqdm(total=total, desc="attention", unit="image", disable=not watched, leave=False) as bar:
        # One round more than there are batches, so that ranks agree on the last one too.
        for _ in range(processes.largest(len(batches)) + 1):
            if (agreed := processes.largest(state)) == _OUT_OF_MEMORY:
                return None
            if agreed == _FAILED:
                _give_up(processes.gather(problem), processes)
            if stop and processes.any(stop.requested):
                raise StopRequested(processes.largest(stop.signum or 0))
            try:
                if (batch := next(own, None)) is None:
                    continue  # other ranks have an image more
                _add(share, model, batch, head_layer, projections)
                bar.update(min(len(batch.images) * processes.world, total - bar.n))
            except Exception as error:  # every rank must come to the next agreement
                state = _OUT_OF_MEMORY if should_reduce_batch_size(error) else _FAILED
                problem = _in_words(error)
    return share


def _add(share: _Share, model: nn.Module, batch: EvalBatch, head_layer: int, projections: Sequence[Tensor]) -> None:
    fields, statistics = collect_batch(model, batch.images, batch.labels, head_layer)
    share.batches.append(
        {name: value.cpu().numpy() for name, value in (fields | {"positions": batch.positions}).items()}
    )
    lengths = (content_length(batch.images, weight.to(batch.images.device)) for weight in projections)
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
