"""Predictions of a split, every image exactly once, and what they are worth."""

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

    Each rank takes its own images, none twice; what arrives is checked to be all `total` of the split. Raises
    Stopped on all ranks when one was told to stop.
    """
    while (own := _one_pass(forward, batches, num_classes, processes, stop)) is None:
        clear_device_cache(garbage_collection=True)
        if not batches.halve():
            raise InfeasibleError("Out of memory while scoring one image at a time: free memory on the device.")
    shares = processes.gather(own)
    predictions: list[Predictions] = []

    def score_whole_split() -> Scores:
        all_logits, all_labels, all_positions = (np.concatenate(parts) for parts in zip(*shares, strict=True))
        order = np.argsort(all_positions)
        if not np.array_equal(all_positions[order], np.arange(total)):
            raise RuntimeError(f"{len(all_positions)} predictions for {total} images")
        predictions.append(Predictions(all_labels[order], all_logits[order]))
        return score(all_labels[order], all_logits[order])

    scores = processes.on_main(score_whole_split)
    return (predictions[0] if predictions else None), scores


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
    # One round more than there are batches, so that ranks agree on the last one too.
    for _ in range(processes.largest(len(batches)) + 1):
        if processes.any(out_of_memory):
            return None
        if stop and processes.any(stop.requested):
            raise StopRequested(processes.largest(stop.signum or 0))
        if (batch := next(own, None)) is None:
            continue  # other ranks have an image more
        try:
            logits.append(forward(batch.images).float())
        except Exception as error:
            if not should_reduce_batch_size(error):
                raise
            out_of_memory = True
        labels.append(batch.labels)
        positions.append(batch.positions)
    # The only wait for the device is here, after the last batch.
    return tuple(torch.cat(parts).cpu().numpy() for parts in (logits, labels, positions))
