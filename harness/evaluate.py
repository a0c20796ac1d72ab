"""Predictions of a split, every image exactly once, and their scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor

from harness.data.eval_loader import EvalBatches
from harness.errors import NotEnoughMemoryError
from harness.training.distributed import Processes
from harness.training.metrics import Predictions, Scores, score
from harness.training.signals import StopRequested, StopSignals

# What ranks agree on before each batch; the largest wins.
_STOP, _RETRY = 1, 2


def evaluate(
    forward: Callable[[Tensor], Tensor],
    batches: EvalBatches,
    total: int,
    num_classes: int,
    processes: Processes,
    stop: StopSignals | None = None,
) -> tuple[Predictions | None, Scores]:
    """Scores on every rank, predictions (in the order of the split) on the main process.

    `forward` maps images (B, 3, S, S) to logits (B, C). Raises StopRequested on all ranks when one received a signal,
    and InfeasibleError on all ranks when a logit is not finite.
    """
    logits, labels = outputs_of(forward, batches, total, num_classes, processes, stop)
    scores = processes.on_main(lambda: score(labels, logits))
    return (Predictions(labels, logits) if processes.is_main else None), scores


@torch.inference_mode()
def outputs_of(
    forward: Callable[[Tensor], Tensor],
    batches: EvalBatches,
    total: int,
    width: int,
    processes: Processes,
    stop: StopSignals | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Logits or features (total, width) float32 and labels (total,) int64, in the order of the split.

    Each rank computes its own images, and together they must be all; both are empty on all ranks but the main one.
    """
    while (own := _one_pass(forward, batches, width, processes, stop)) is None:
        if not batches.use_less_memory():
            raise NotEnoughMemoryError("Out of memory while scoring one image at a time: free memory on the device.")
        clear_device_cache(garbage_collection=True)
    gathered = processes.gather(own)
    if not processes.is_main:
        return np.empty((0, width), np.float32), np.empty(0, np.int64)
    values, labels, positions = (np.concatenate(parts) for parts in zip(*gathered, strict=True))
    order = np.argsort(positions)
    if not np.array_equal(positions[order], np.arange(total)):
        raise RuntimeError(f"{len(positions)} outputs for {total} images")
    return values[order], labels[order]


def _one_pass(
    forward: Callable[[Tensor], Tensor],
    batches: EvalBatches,
    width: int,
    processes: Processes,
    stop: StopSignals | None,
) -> tuple[np.ndarray, ...] | None:
    """Outputs (n, width), labels and positions (n,) of this rank's images; None on all ranks if one lacks memory."""
    outputs = [torch.empty(0, width, device=processes.device)]
    labels = [torch.empty(0, dtype=torch.int64, device=processes.device)]
    positions = [torch.empty(0, dtype=torch.int64, device=processes.device)]
    out_of_memory = False
    own = iter(batches)
    processes.forget_last_call()
    # One iteration more than there are batches, so that ranks also agree on the last one; two where they agree late.
    for _ in range(processes.largest(len(batches)) + 1 + processes.decides_late):
        agreed = processes.largest_of_last_call(_RETRY if out_of_memory else _STOP if stop and stop.requested else 0)
        if agreed == _RETRY:
            return None
        if stop and agreed == _STOP:
            raise StopRequested(processes.largest(stop.signum or 0))
        try:
            if (batch := next(own, None)) is None:
                continue  # other ranks have one more batch
            outputs.append(forward(batch.images).float())
            labels.append(batch.labels)
            positions.append(batch.positions)
        except Exception as error:
            if not should_reduce_batch_size(error):
                raise
            out_of_memory = True
    processes.forget_last_call()
    # The only CPU-GPU sync point, after the last batch.
    # Joined on the host: features of many images and a second copy of them may not fit on the device.
    return tuple(torch.cat([part.cpu() for part in parts]).numpy() for parts in (outputs, labels, positions))
