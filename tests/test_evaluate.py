"""Scoring on two processes: what they exchange, and what an exchange that is read late must not change."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from harness.config import RunConfig
from harness.data import gpu_augment
from harness.data.eval_loader import EvalBatches
from harness.data.gpu_augment import ImagesOnDevice
from harness.data.prefetch import CPU, LoaderProcess
from harness.evaluate import outputs_of
from harness.training.distributed import Processes
from harness.training.signals import StopRequested, StopSignals
from tests.data.test_eval_loader import SPLIT
from tests.data.test_loader import CACHE, LABELS, PICTURES, SIZE
from tests.helpers.pixel_caches import cropped
from tests.test_train import on_ranks

LATE = pytest.mark.parametrize("late", [False, True], ids=["as on CPUs", "as on GPUs"])


def scored(
    late: bool, forward: Callable[[Tensor], Tensor], stop: StopSignals | None = None, before: int = 0
) -> tuple[Any, Processes]:
    """Outputs of 17 images in batches of 2, on this rank of two: 5 batches and 4."""
    processes = Processes(RunConfig(data="images", weights="none", threads=1))
    processes.decides_late = late
    # The last training step asked as well, and its answer has not been read.
    processes.largest_of_last_call(before)
    batches = EvalBatches(SPLIT, cropped(SIZE), LoaderProcess(rank=processes.rank, world=2), batch_size=2)
    return outputs_of(forward, batches, PICTURES, 1, processes, stop), processes


def mean(images: Tensor) -> Tensor:
    return images.mean((1, 2, 3))[:, None]


@LATE
def test_two_processes_exchange_once_in_a_batch_and_gpus_do_not_wait(late: bool) -> None:
    def work() -> None:
        all_reduce, calls, by_batch = dist.all_reduce, list[bool](), list[list[bool]]()

        def counted(*arguments: Any, async_op: bool = False, **options: Any) -> Any:
            calls.append(async_op)
            return all_reduce(*arguments, async_op=async_op, **options)

        def forward(images: Tensor) -> Tensor:
            by_batch.append(list(calls))
            calls.clear()
            return mean(images)

        dist.all_reduce = counted
        (values, labels), processes = scored(late, forward, before=2)
        assert by_batch[1:] == [[late]] * (4 if processes.rank == 0 else 3)
        assert processes.largest_of_last_call(0) == 0
        if processes.is_main:
            assert labels.tolist() == LABELS.tolist()
            assert len(set(values[:, 0].tolist())) == PICTURES

    on_ranks(2, work)


@LATE
@pytest.mark.parametrize("batch", [0, 3])
def test_too_little_memory_on_one_rank_halves_the_batches_of_both(late: bool, batch: int) -> None:
    def work() -> None:
        sizes: list[int] = []

        def forward(images: Tensor) -> Tensor:
            sizes.append(len(images))
            if os.environ["RANK"] == "1" and len(sizes) == batch + 1:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more than there is.")
            return mean(images)

        (_, labels), processes = scored(late, forward)
        assert sizes[-8:] == [1] * 8
        assert len(sizes) <= 9 + 5  # one pass whole, and what was scored before the other rank heard of it
        assert processes.largest_of_last_call(0) == 0
        if processes.is_main:
            assert labels.tolist() == LABELS.tolist()

    on_ranks(2, work)


@LATE
def test_a_signal_to_one_rank_stops_both_within_a_batch_or_two(late: bool) -> None:
    def work() -> None:
        with StopSignals() as stop, stop.deferred():
            scored_batches: list[float] = []

            def forward(images: Tensor) -> Tensor:
                scored_batches.append(time.monotonic())
                if os.environ["RANK"] == "1" and len(scored_batches) == 1:
                    os.kill(os.getpid(), signal.SIGTERM)
                return mean(images)

            with pytest.raises(StopRequested) as raised:
                scored(late, forward, stop)
            assert raised.value.signum == signal.SIGTERM
            assert len(scored_batches) == 1 + late

    on_ranks(2, work)


def test_too_little_memory_for_a_batch_itself_takes_the_images_from_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = Processes(RunConfig(data="images", weights="none", threads=1))
    images = dataclasses.replace(SPLIT, on_device=ImagesOnDevice(CACHE, CPU))

    def hungry(*_: Any) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more than there is.")

    monkeypatch.setattr(gpu_augment, "batch", hungry)
    batches = EvalBatches(images, cropped(SIZE), LoaderProcess(), batch_size=4)
    values, labels = outputs_of(mean, batches, PICTURES, 1, processes)
    expected, _ = outputs_of(
        mean, EvalBatches(SPLIT, cropped(SIZE), LoaderProcess(), batch_size=4), PICTURES, 1, processes
    )
    processes.close()
    assert len(batches) == 5  # not halved
    assert labels.tolist() == LABELS.tolist()
    assert values.tolist() == expected.tolist()
