"""Predictions of a split, every image exactly once, and their scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor

from harness.data.loader import EvalBatches
from harness.errors import InfeasibleError
from harness.training.distributed import Processes
from harness.training.metrics import Predictions, Scores, score
from harness.training.signals import StopRequested, StopSignals


@torch.inference_mode()
def evaluate(
    forward: Callable[[Tensor], Tensor],
    batches: EvalBatches,
    total: int,
    num_classes: int,
    processes: Processes,
    stop: StopSignals | None = None,
) -> tuple[Predictions | None, Scores]:
    """Scores on every rank, predictions (in the order of the split) on the main process.

    Each rank predicts its own images; together they must be all `total` images of the split. Raises StopRequested on
    all ranks when one of them received a signal.
    """
    while (own := _one_pass(forward, batches, num_classes, processes, stop)) is None:
        clear_device_cache(garbage_collection=True)
        if not batches.halve():
            raise InfeasibleError("Out of memory while scoring one image at a time: free memory on the device.")
    gathered = processes.gather(own)
    predictions = _in_order_of_split(gathered, total) if gathered else None
    scores = score(predictions.labels, predictions.logits) if predictions else None
    return predictions, processes.from_main(scores)


def _in_order_of_split(gathered: list[tuple[np.ndarray, ...]], total: int) -> Predictions:
    """One Predictions from the logits, labels and positions of all ranks."""
    logits, labels, positions = (np.concatenate(parts) for parts in zip(*gathered, strict=True))
    order = np.argsort(positions)
    if not np.array_equal(positions[order], np.arange(total)):
        raise RuntimeError(f"{len(positions)} predictions for {total} images")
    return Predictions(labels[order], logits[order])


def _one_pass(
    forward: Callable[[Tensor], Tensor],
    batches: EvalBatches,
    num_classes: int,
    processes: Processes,
    stop: StopSignals | None,
) -> tuple[np.ndarray, ...] | None:
    """Logits (n, C), labels (n,) and positions (n,) of this rank's images; None on all ranks if one lacks memory."""
    logits = [torch.empty(0, num_classes, device=processes.device)]
    labels = [torch.empty(0, dtype=torch.int64, device=processes.device)]
    positions = [torch.empty(0, dtype=torch.int64, device=processes.device)]
    out_of_memory = False
    own = iter(batches)
    # One iteration more than there are batches, so that ranks also agree on the last one.
    for _ in range(processes.largest(len(batches)) + 1):
        if processes.any(out_of_memory):
            return None
        if stop and processes.any(stop.requested):
            raise StopRequested(processes.largest(stop.signum or 0))
        if (batch := next(own, None)) is None:
            continue  # other ranks have one more batch
        try:
            logits.append(forward(batch.images).float())
        except Exception as error:
            if not should_reduce_batch_size(error):
                raise
            out_of_memory = True
        labels.append(batch.labels)
        positions.append(batch.positions)
    # The only CPU-GPU sync point, after the last batch.
    return tuple(torch.cat(parts).cpu().numpy() for parts in (logits, labels, positions))
