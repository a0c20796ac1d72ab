"""One optimiser step: micro-batches that add up to the global batch, on every number of processes."""

from __future__ import annotations

import contextlib
import logging
import math

import torch
import torch.distributed as dist
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor

from harness.config import RunConfig
from harness.data.loader import Batch
from harness.errors import NotEnoughMemoryError, TrainingError
from harness.model.drop_path import set_drop_path
from harness.training.distributed import Processes
from harness.training.optim import set_learning_rate
from harness.training.state import TrainState

logger = logging.getLogger(__name__)

# Memory in use stops growing once the optimiser has allocated its moments: after the second step.
STEPS_UNTIL_MEMORY_IS_KNOWN = 2


def training_step(state: TrainState, batch: Batch, lr: float, config: RunConfig, processes: Processes) -> Tensor:
    """Take one optimiser step; returns this rank's part of the global batch's mean loss, on the device.

    Out of memory drops the images that stay on the device, or else halves the micro-batch, on all ranks, and repeats
    the step; the global batch stays.
    """
    # One process exchanges no gradients, so it can always repeat a step. Several processes have to agree before they
    # exchange gradients, and cannot overlap that with the backward pass. They do so while memory use is unknown.
    repeatable = processes.world == 1 or state.progress.steps_since_topology_change < STEPS_UNTIL_MEMORY_IS_KNOWN
    while True:
        try:
            loss = _backward(state, batch, processes, exchange=not repeatable)
            out_of_memory = False
        except Exception as error:
            if not should_reduce_batch_size(error):
                raise
            if not repeatable:
                smaller = (state.progress.micro_batch + 1) // 2
                raise TrainingError(
                    f"Out of memory at step {state.progress.step + 1}, while processes exchanged gradients. "
                    f"Repeat the command with --micro-batch {smaller}: it resumes from the last save."
                ) from error
            out_of_memory = True
        if not repeatable or not processes.any(out_of_memory):
            break
        _use_less_memory(state, batch, config, processes)
    if repeatable and processes.world > 1:
        _average_gradients(state, processes)
    set_learning_rate(state.optimizer, lr)
    if config.clip_grad:
        processes.accelerator.clip_grad_norm_(state.model.parameters(), config.clip_grad)
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    state.progress.step += 1
    state.progress.steps_since_topology_change += 1
    if state.average:
        state.average.update(state.model, state.progress.step)
    return loss


def _backward(state: TrainState, batch: Batch, processes: Processes, *, exchange: bool) -> Tensor:
    """Gradients of the global batch's mean loss; `exchange` averages them over ranks during the last backward pass."""
    total = torch.zeros((), device=processes.device)
    size, count = state.progress.micro_batch, len(batch.images)
    for start in range(0, count, size):
        part = slice(start, start + size)
        synchronise = exchange and start + size >= count
        with contextlib.nullcontext() if synchronise else processes.accelerator.no_sync(state.wrapped):
            if batch.drop_path_scale is not None:
                set_drop_path(state.model, batch.drop_path_scale[part])
            logits = state.wrapped(batch.images[part])
            losses = state.loss.per_image(logits, batch.targets[part]) * batch.weight[part]
            loss = losses.sum() / batch.mass
            # Averaging over ranks divides by their number, but the loss is already a mean over the global batch.
            processes.accelerator.backward(loss * processes.world)
        total += loss.detach()
    if batch.drop_path_scale is not None:
        set_drop_path(state.model, None)
    return total


def _use_less_memory(state: TrainState, batch: Batch, config: RunConfig, processes: Processes) -> None:
    state.optimizer.zero_grad(set_to_none=True)
    dropped = batch.on_device is not None and batch.on_device.drop()
    clear_device_cache(garbage_collection=True)
    if dropped:
        return
    size = min(state.progress.micro_batch, math.ceil(batch.total / processes.world))
    if size == 1:
        raise NotEnoughMemoryError(
            f"Out of memory with a single image per forward pass ({config.model}, {processes.device}). Use "
            "--grad-checkpointing true, a smaller --model or --image-size, or free memory on the device."
        )
    state.progress.micro_batch = smaller = (size + 1) // 2
    logger.info("Out of memory: micro-batch %d -> %d; the global batch stays %d.", size, smaller, config.batch_size)


def _average_gradients(state: TrainState, processes: Processes) -> None:
    # Divided before they are summed, as DistributedDataParallel does.
    for parameter in state.model.parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad.div_(processes.world))
