"""Measures how fast a model trains and scores on this machine: a few steps on random pixels, in this process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np
import torch

from harness.config import RunConfig
from harness.data.loader import Batch
from harness.launch.cores import usable_cores
from harness.model.preprocessing import preprocessing_of
from harness.model.vit import build_model
from harness.sweep.plan.throughput import Throughput
from harness.training.dataloaders import CPU_SCORING_BATCH, GPU_SCORING_BATCH
from harness.training.distributed import Processes
from harness.training.state import TrainState
from harness.training.step import training_step

SECONDS = 3.0  # of timed steps
MAX_STEPS = 20
# If the first step takes longer than this many seconds, it is the only one.
SLOW_STEP = 15.0

# On a CPU the time per image hardly depends on the batch size, and a large batch would take minutes.
CPU_BATCH = 8


def measure(config: RunConfig, classes: int) -> Throughput:
    """The throughput of a config's model, with new weights. Start-up and decoding are not included."""
    load = os.getloadavg()[0]
    size = preprocessing_of(config).crop_size
    processes = Processes(config)
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
        steps, step_seconds = _timed(lambda: training_step(state, batch, 1e-6, config, processes), processes.device)
        state.model.eval()
        scoring_batch = min(CPU_SCORING_BATCH, count) if on_cpu else GPU_SCORING_BATCH
        images = torch.randn(scoring_batch, 3, size, size, device=processes.device)
        with torch.inference_mode():
            _, forward_seconds = _timed(lambda: state.forward(images), processes.device)
        checkpoint = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    finally:
        processes.close()
    speed = count / step_seconds
    source = (
        f"a benchmark: {steps} training step{'s' * (steps > 1)} of {config.model} on {count} random images of "
        f"{size} px, {speed:.3g} per second on this machine's {'CPU' if on_cpu else 'GPU'}; start-up is not included"
    )
    if on_cpu and load > usable_cores() / 2:
        source += f"; other programs used the CPU (load {load:.1f} on {usable_cores()} cores)"
    return Throughput(speed, scoring_batch / forward_seconds, 0.0, checkpoint, source)


def _random_batch(count: int, size: int, classes: int, device: torch.device) -> Batch:
    labels = torch.arange(count, device=device) % classes
    return Batch(
        images=torch.randn(count, 3, size, size, device=device),
        targets=torch.nn.functional.one_hot(labels, classes).float(),
        samples=np.arange(count),
        weight=torch.ones(count, device=device),
        total=count,
        drop_path_scale=None,
        mass=float(count),
    )


def _timed(work: Callable[[], object], device: torch.device) -> tuple[int, float]:
    """Call `work` repeatedly; returns the number of timed calls and their mean duration in seconds.

    The first call allocates memory. It counts only if it takes so long that this makes no difference.
    """
    first = _seconds(work, device)
    if first > SLOW_STEP:
        return 1, first
    times: list[float] = []
    while len(times) < MAX_STEPS and sum(times) < SECONDS:
        times.append(_seconds(work, device))
    return len(times), sum(times) / len(times)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
