"""The real training path under a stopwatch: `fit` itself, no imitation of it."""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch

from harness.config import RunConfig
from harness.data.loader import Batch, TrainBatches
from harness.train import fit

Epoch = Callable[[], Iterator[Batch]]


@dataclass(frozen=True)
class Lap:
    wall: float  # seconds
    cpu: float  # seconds of all threads of this process


def lap(work: Callable[[], object]) -> Lap:
    """How long `work` takes, what it left to the GPU included."""
    synchronise()
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    synchronise()
    return Lap(time.perf_counter() - wall, time.process_time() - cpu)


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed_epochs(config: RunConfig, before: Callable[[Epoch], object]) -> list[Lap]:
    """Run `fit` and time each epoch's training, from asking for the first batch until after the last row is logged.

    Validation and saving are outside. `before` takes its turn ahead of every epoch, outside the stopwatch too; it is
    given the epoch's batches to draw for itself. Epoch 0 is in the list: whoever asks drops it as the warm-up.
    """
    laps: list[Lap] = []
    original = TrainBatches.epoch

    def epoch(self: TrainBatches, number: int, start_step: int = 0) -> Iterator[Batch]:
        before(lambda: original(self, number, start_step))
        # The loop's body runs while this generator waits, so that its end is the end of the last step.
        iterator = original(self, number, start_step)
        synchronise()
        wall, cpu = time.perf_counter(), time.process_time()
        yield from iterator
        synchronise()
        laps.append(Lap(time.perf_counter() - wall, time.process_time() - cpu))

    # W&B as in a run without an account: rows go through its client to a file.
    environment = {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    with (
        mock.patch.object(TrainBatches, "epoch", epoch),
        mock.patch.dict(os.environ, environment),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        fit(config)
    return laps


def settings(scratch: Path, data: Path, **values: object) -> RunConfig:
    """A run that starts from new weights and leaves nothing outside `scratch`."""
    folders = {"data": str(data), "cache_dir": str(scratch / "cache"), "runs_dir": str(scratch / "runs")}
    return RunConfig.from_dict({"weights": "none", "fresh": True, **folders, **values})
