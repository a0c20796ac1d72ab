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
from harness.training.static_step import CaptureFailure, StaticStep

logger = logging.getLogger(__name__)

# Memory in use stops growing once the optimiser has allocated its moments: after the second step.
STEPS_UNTIL_MEMORY_IS_KNOWN = 2


def training_step(state: TrainState, batch: Batch, lr: float, config: RunConfig, processes: Processes) -> Tensor:
    """Take one optimiser step; returns this rank's part of the global batch's mean loss, on the device.

    Out of memory frees a captured step or the images that stay on the device, or else halves the micro-batch, on all
    ranks, and repeats the step; the global batch stays.
    """
    set_learning_rate(state.optimizer, lr)
    if state.average:
        state.average.set_step(state.progress.step + 1)
    static = state.static_step
    if static and static.load(batch, state.progress.micro_batch):
        loss = _static_step(static, state, config, processes)
    else:
        loss = _eager_step(state, batch, config, processes)
    state.progress.step += 1
    state.progress.steps_since_topology_change += 1
    return loss


def _eager_step(state: TrainState, batch: Batch, config: RunConfig, processes: Processes) -> Tensor:
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
    _update(state, config, processes)
    return loss


def _static_step(static: StaticStep, state: TrainState, config: RunConfig, processes: Processes) -> Tensor:
    """A step on the tensors of `static`: eager until they are warm, then captured once and replayed."""
    batch = static.batch
    if not static.is_warm:
        return static.warm_up(lambda: _eager_step(state, batch, config, processes))

    def whole_step() -> Tensor:
        loss = _backward(state, batch, processes, exchange=False)
        _update(state, config, processes)
        return loss

    if not static.is_captured and (failure := static.capture(whole_step)):
        _recover_from(failure, static, state, config, processes)
        return _eager_step(state, batch, config, processes)
    return static.replay()


def _recover_from(
    failure: CaptureFailure, static: StaticStep, state: TrainState, config: RunConfig, processes: Processes
) -> None:
    """After a failed capture: less memory, with which a later step is captured, or no capture at all."""
    if failure.out_of_memory:
        with contextlib.suppress(NotEnoughMemoryError):
            _use_less_memory(state, static.batch, config, processes)
            return
    state.static_step = None
    state.optimizer.zero_grad(set_to_none=True)
    clear_device_cache(garbage_collection=True)
    logger.info("The step cannot be captured as a CUDA graph (%s). Training continues without it.", failure.reason)


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


def _update(state: TrainState, config: RunConfig, processes: Processes) -> None:
    """Clip the gradients, update the weights and their average, and discard the gradients."""
    if config.clip_grad:
        processes.accelerator.clip_grad_norm_(state.model.parameters(), config.clip_grad)
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    if state.average:
        state.average.update(state.model)


def _use_less_memory(state: TrainState, batch: Batch, config: RunConfig, processes: Processes) -> None:
    state.optimizer.zero_grad(set_to_none=True)
    # In this order: the memory of a graph is that of a whole step, a later step is captured again, and images that have
    # left the device do not return.
    freed = state.static_step is not None and state.static_step.is_captured
    if state.static_step:
        state.static_step.forget()
    if not freed and batch.on_device is not None:
        freed = batch.on_device.drop()
    clear_device_cache(garbage_collection=True)
    if freed:
        return
    size = min(state.progress.micro_batch, math.ceil(batch.total / processes.world))
    if size == 1:
        raise NotEnoughMemoryError(
            f"Out of memory with a single image per forward pass ({config.model}, {processes.device}). Use "
            "--grad-checkpointing true, a smaller --model or --image-size, or free memory on the device."
        )
    state.progress.micro_batch = state.progress.micro_batch_limit = smaller = (size + 1) // 2
    logger.info("Out of memory: micro-batch %d -> %d; the global batch stays %d.", size, smaller, config.batch_size)


def _average_gradients(state: TrainState, processes: Processes) -> None:
    # Divided before they are summed, as DistributedDataParallel does.
    for parameter in state.model.parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad.div_(processes.world))
