"""One optimiser step: micro-batches that add up to the global batch, on every number of processes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import torch
import torch.distributed as dist
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor
from torch.nn.functional import cross_entropy

from harness.config import RunConfig
from harness.data.loader import Batch
from harness.errors import InfeasibleError, TrainingError
from harness.model.vit import set_drop_path
from harness.training.distributed import Processes
from harness.training.optim import set_learning_rate
from harness.training.state import TrainState

# Memory in use stops growing once the optimiser has its moments: after the second step.
STEPS_UNTIL_MEMORY_IS_KNOWN = 2


def training_step(
    state: TrainState, batch: Batch, lr: float, config: RunConfig, processes: Processes, say: Callable[[str], None]
) -> Tensor:
    """Take one optimiser step; returns this rank's part of the global batch's mean loss, on the device.

    Out of memory halves the micro-batch on all ranks and does the step again; the global batch stays.
    """
    # Gradients of one process need no exchange, so it can always try again. Several must agree before they exchange,
    # which costs overlap; they do so only while memory use is still unknown.
    careful = processes.world == 1 or state.progress.steady_steps < STEPS_UNTIL_MEMORY_IS_KNOWN
    while True:
        try:
            loss = _backward(state, batch, processes, exchange=not careful)
            out_of_memory = False
        except Exception as error:
            if not should_reduce_batch_size(error):
                raise
            if not careful:
                smaller = (state.progress.micro_batch + 1) // 2
                raise TrainingError(
                    f"Out of memory at step {state.progress.step + 1}, in the middle of an exchange between processes. "
                    f"Give the same command with --micro-batch {smaller}: it goes on from the last save."
                ) from error
            out_of_memory = True
        if not careful or not processes.any(out_of_memory):
            break
        _halve_micro_batch(state, batch, config, processes, say)
    if careful and processes.world > 1:
        _average_gradients(state, processes)
    set_learning_rate(state.optimizer, lr)
    if config.clip_grad:
        processes.accelerator.clip_grad_norm_(state.model.parameters(), config.clip_grad)
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    state.progress.step += 1
    state.progress.steady_steps += 1
    if state.average:
        state.average.update(state.model, state.progress.step)
    return loss


def _backward(state: TrainState, batch: Batch, processes: Processes, *, exchange: bool) -> Tensor:
    """Gradients of the global batch's mean loss; with `exchange`, averaged over ranks as the last ones appear."""
    total = torch.zeros((), device=processes.device)
    size, count = state.progress.micro_batch, len(batch.images)
    for start in range(0, count, size):
        part = slice(start, start + size)
        synchronise = exchange and start + size >= count
        with contextlib.nullcontext() if synchronise else processes.accelerator.no_sync(state.wrapped):
            if batch.keep is not None:
                set_drop_path(state.model, batch.keep[part])
            logits = state.wrapped(batch.images[part])
            losses = cross_entropy(logits.float(), batch.targets[part], reduction="none") * batch.weight[part]
            loss = losses.sum() / batch.total
            # Ranks average their gradients; the mean is over images, whichever rank holds them.
            processes.accelerator.backward(loss * processes.world)
        total += loss.detach()
    if batch.keep is not None:
        set_drop_path(state.model, None)
    return total


def _halve_micro_batch(
    state: TrainState, batch: Batch, config: RunConfig, processes: Processes, say: Callable[[str], None]
) -> None:
    state.optimizer.zero_grad(set_to_none=True)
    clear_device_cache(garbage_collection=True)
    size = min(state.progress.micro_batch, math.ceil(batch.total / processes.world))
    if size == 1:
        raise InfeasibleError(
            f"Out of memory with a single image per forward pass ({config.model}, {processes.device}). Use "
            "--grad-checkpointing true, a smaller --model or --image-size, or free memory on the device."
        )
    state.progress.micro_batch = smaller = (size + 1) // 2
    say(f"Out of memory: micro-batch {size} -> {smaller}; the global batch stays {config.batch_size}.")


def _average_gradients(state: TrainState, processes: Processes) -> None:
    # Divided before they are summed, as DistributedDataParallel does.
    for parameter in state.model.parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad.div_(processes.world))
