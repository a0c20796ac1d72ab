"""How fast a model trains and scores on this machine: a few steps on random pixels, in this process."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import torch

from harness.batches import CPU_SCORING_BATCH, GPU_SCORING_BATCH
from harness.config import RunConfig
from harness.data.loader import Batch
from harness.model import build_model, preprocessing_for
from harness.processes import Processes
from harness.state import TrainState
from harness.step import optimise
from harness.sweep.estimate import Pace

# Longer than it takes for clocks and caches to settle, shorter than anybody's patience.
SECONDS = 3.0
MOST_STEPS = 20

# On a CPU the time for a picture hardly depends on how many there are, and a large batch would take minutes.
CPU_BATCH = 16


def measure(config: RunConfig, classes: int) -> Pace:
    """The pace of this config's model, with new weights; start-up and decoding are not part of it."""
    size = preprocessing_for(config.model, config.weights, config.image_size, config.crop_pct).crop_size
    processes = Processes(dataclasses.replace(config, threads=None))
    try:
        on_cpu = processes.device.type == "cpu"
        model = build_model(
            config.model,
            num_classes=classes,
            weights="none",
            image_size=size,
            drop_path=config.drop_path,
            freeze=config.freeze,
            grad_checkpointing=config.grad_checkpointing,
        ).model
        state = TrainState(model, config, processes.accelerator)
        count = min(config.batch_size, CPU_BATCH) if on_cpu else config.batch_size
        state.progress.micro_batch = min(config.micro_batch or count, count)
        batch = _random_batch(count, size, classes, processes.device)
        state.model.train()
        steps, step = _timed(lambda: optimise(state, batch, 1e-6, config, processes, _silent), processes.device)
        state.model.eval()
        scored = min(CPU_SCORING_BATCH, count) if on_cpu else GPU_SCORING_BATCH
        images = torch.randn(scored, 3, size, size, device=processes.device)
        with torch.inference_mode():
            _, pass_ = _timed(lambda: state.forward(images), processes.device)
        checkpoint = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    finally:
        processes.close()
    speed = count / step
    source = (
        f"a probe of {steps} training steps of {config.model}, {count} random pictures of {size} px each "
        f"({speed:.3g} pictures per second on this machine's {'CPU' if on_cpu else 'GPU'}); starting is not counted"
    )
    return Pace(speed, scored / pass_, 0.0, checkpoint, source)


def _random_batch(count: int, size: int, classes: int, device: torch.device) -> Batch:
    labels = torch.arange(count, device=device) % classes
    return Batch(
        images=torch.randn(count, 3, size, size, device=device),
        targets=torch.nn.functional.one_hot(labels, classes).float(),
        samples=np.arange(count),
        weight=torch.ones(count, device=device),
        total=count,
        keep=None,
    )


def _timed(work: Callable[[], object], device: torch.device) -> tuple[int, float]:
    """How often `work` was done in a few seconds, and the seconds it took each time; the first time does not count."""
    work()
    _wait_for(device)
    began, times = time.perf_counter(), 0
    while times == 0 or (times < MOST_STEPS and time.perf_counter() - began < SECONDS):
        work()
        _wait_for(device)
        times += 1
    return times, (time.perf_counter() - began) / times


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _silent(text: str) -> None:
    """A smaller micro-batch is a matter of the probe alone."""
