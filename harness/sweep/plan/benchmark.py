"""Measures how fast a model trains and scores on this machine: a few steps on random pixels, in this process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from harness.config import RunConfig
from harness.data.loader import Batch
from harness.launch.cores import usable_cores
from harness.model.preprocessing import preprocessing_of
from harness.model.vit import build_model
from harness.sweep.plan.throughput import SCORING_TO_TRAINING, Throughput
from harness.training.dataloaders import GPU_SCORING_BATCH
from harness.training.distributed import Processes
from harness.training.state import TrainState, largest_micro_batch
from harness.training.step import training_step
from harness.training.threads import limit_threads

# Seconds of timed training steps, and of timed forward passes. With those before them, about 1 s for a small model.
SECONDS, SCORING_SECONDS = 0.6, 0.2
MAX_STEPS = 20
# If the first step takes longer than this many seconds, it is the only one, and scoring is not measured. On a GPU the
# first step also loads kernels, and with --compile it compiles them: its time says little about the next one.
SLOW_STEP, SLOW_FIRST_STEP = 0.6, 15.0

# On a CPU the time per image hardly depends on the batch size, and a large batch would take minutes. The first step has
# the small batch; if it takes less than QUICK_STEP seconds, the others have the larger one. For the same reason,
# scoring is measured on GPUs only, where it has a larger batch than training. The number of threads is that of the
# config's own batch size.
CPU_BATCH, FIRST_CPU_BATCH = 8, 2
QUICK_STEP = 0.1

# Seconds of a trial for its start and its figures, as `python -m tests.bench sweep` measures them.
START_AND_FIGURES = 1.0

# If the average step takes so many times as long as the fastest one, something else uses the processor.
UNEVEN = 1.5


@dataclass(frozen=True)
class Timing:
    """Seconds of repeated calls. The fastest one counts: other programs only add time."""

    calls: int
    fastest: float
    mean: float


def measure(config: RunConfig, classes: int) -> Throughput:
    """The throughput of a config's model, with new weights. Start-up and decoding are not included."""
    load = os.getloadavg()[0]
    size = preprocessing_of(config).crop_size
    processes = Processes(config)
    try:
        on_cpu = processes.device.type == "cpu"
        model = build_model(replace(config, weights="none", image_size=size), classes).model
        limit_threads(model, largest_micro_batch(config, 1), config, processes)
        state = TrainState(model, config, processes.accelerator)
        count = FIRST_CPU_BATCH if on_cpu else config.batch_size
        state.progress.micro_batch = config.micro_batch or max(CPU_BATCH, config.batch_size)

        def train(count: int) -> Callable[[], object]:
            batch = _random_batch(count, size, classes, processes.device)
            return lambda: training_step(state, batch, 1e-6, config, processes)

        state.train()
        first = _seconds(train(count), processes.device)  # it also allocates memory
        if on_cpu and first < QUICK_STEP:
            count = CPU_BATCH
        slow = SLOW_STEP if on_cpu and config.compile is not True else SLOW_FIRST_STEP
        only_step = first > slow
        training = Timing(1, first, first) if only_step else _timed(train(count), processes.device, SECONDS)
        speed = count / training.fastest
        scoring_speed = speed * SCORING_TO_TRAINING
        if not on_cpu and not only_step:
            state.train(False)
            images = torch.randn(GPU_SCORING_BATCH, 3, size, size, device=processes.device)
            with torch.inference_mode():
                _seconds(lambda: state.forward(images), processes.device)  # it also allocates memory
                scoring = _timed(lambda: state.forward(images), processes.device, SCORING_SECONDS)
            scoring_speed = GPU_SCORING_BATCH / scoring.fastest
        checkpoint = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    finally:
        processes.close()
    source = (
        f"a benchmark: {training.calls} training step{'s' * (training.calls > 1)} of {config.model} on {count} random "
        f"images of {size} px, {speed:.3g} per second on this machine's {'CPU' if on_cpu else 'GPU'}; "
        f"assumed: {START_AND_FIGURES:g} s for the start and the figures of a trial, without attention maps"
    )
    causes = []
    if on_cpu and load > usable_cores() / 2:
        causes.append(f"other programs used the CPU (load {load:.1f} on {usable_cores()} cores)")
    if only_step and (not on_cpu or config.compile is True):
        causes.append("the only step also loaded kernels or compiled them")
    if training.mean > UNEVEN * training.fastest:
        causes.append("the steps took unequal times")
    if causes:
        source += f"; {' and '.join(causes)}, so that the time may be wrong by more than a factor of 2"
    threads = torch.get_num_threads()
    return Throughput(
        speed, scoring_speed, START_AND_FIGURES, checkpoint, source, threads=threads, disturbed=bool(causes)
    )


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


def _timed(work: Callable[[], object], device: torch.device, seconds: float) -> Timing:
    """Call `work` for about so many seconds."""
    times: list[float] = []
    while len(times) < MAX_STEPS and sum(times) < seconds:
        times.append(_seconds(work, device))
    return Timing(len(times), min(times), sum(times) / len(times))


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
