"""The row of metrics.jsonl for the steps since the last one, and the end of a run whose loss is not finite."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness.errors import InfeasibleError
from harness.runs.console import Stopwatch
from harness.training.distributed import Processes
from harness.training.state import Progress


def training_row(
    losses: list[Tensor],
    watch: Stopwatch,
    lr: float,
    progress: Progress,
    steps_per_epoch: int,
    processes: Processes,
) -> dict[str, float]:
    """A row with the mean loss since the last one; all ranks raise InfeasibleError if a loss is not finite."""
    # The only CPU-GPU sync point of a training step: until here, losses stayed on the device.
    values = processes.sum_on_device(torch.stack(losses)).tolist()
    seconds, images = watch.lap()
    progress.seconds += seconds
    first_broken = next((index for index, value in enumerate(values) if not math.isfinite(value)), None)
    if first_broken is not None:
        step = progress.step - len(values) + first_broken + 1
        epoch = (step - 1) // steps_per_epoch + 1
        finite = ", ".join(f"{value:.4g}" for value in [*progress.last_losses, *values[:first_broken]][-5:])
        raise InfeasibleError(
            f"The training loss became {values[first_broken]} at step {step} (epoch {epoch}), at "
            f"learning rate {lr:g}. The last finite losses were {finite or 'none'}. "
            "Use a smaller --lr, --warmup-epochs, --clip-grad 1, or --precision fp32."
        )
    progress.last_losses = values[-5:]
    return {
        "step": progress.step,
        "epoch": progress.step / steps_per_epoch,
        "train/loss": sum(values) / len(values),
        "train/lr": lr,
        "train/images_per_second": images / seconds,
    }
