"""Predictions of a split, every picture exactly once, and what they are worth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from harness.data.loader import EvalBatches
from harness.metrics import Predictions, Scores, score
from harness.processes import Processes
from harness.stop import Stopped, StopSignals


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

    Each rank takes its own pictures, none twice; what arrives is checked to be all `total` of the split. Raises
    Stopped on all ranks when one was told to stop.
    """
    logits = [torch.empty(0, num_classes, device=processes.device)]
    labels = [torch.empty(0, dtype=torch.int64, device=processes.device)]
    positions = [torch.empty(0, dtype=torch.int64, device=processes.device)]
    own = iter(batches)
    for _ in range(processes.largest(len(batches))):
        if stop and processes.any(stop.told):
            raise Stopped(processes.largest(stop.signum or 0))
        if (batch := next(own, None)) is None:
            continue  # other ranks have a picture more
        logits.append(forward(batch.images).float())
        labels.append(batch.labels)
        positions.append(batch.positions)
    # The only wait for the device is here, after the last batch.
    shares = processes.gather(tuple(torch.cat(parts).cpu().numpy() for parts in (logits, labels, positions)))
    predictions: list[Predictions] = []

    def score_whole_split() -> Scores:
        all_logits, all_labels, all_positions = (np.concatenate(parts) for parts in zip(*shares, strict=True))
        order = np.argsort(all_positions)
        if not np.array_equal(all_positions[order], np.arange(total)):
            raise RuntimeError(f"{len(all_positions)} predictions for {total} pictures")
        predictions.append(Predictions(all_labels[order], all_logits[order]))
        return score(all_labels[order], all_logits[order])

    scores = processes.on_main(score_whole_split)
    return (predictions[0] if predictions else None), scores
