from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import platform
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from harness import train as train_module
from harness.config import RunConfig
from harness.data.decode import read_below
from harness.data.loader import Batch
from harness.errors import ConfigError, DataError, SurroundingsError
from harness.train import fit
from harness.training import distributed
from harness.training.distributed import Processes, choose_precision
from harness.training.state import TrainState
from harness.training.step import training_step
from tests.helpers.tiny_vits import random_images, tiny_vit
from tests.test_train import on_ranks, settings


def test_on_a_cpu_it_is_fp32_unless_the_run_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_precision("auto", on_cpu=True) == ("fp32", "")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    precision, note = choose_precision("auto", on_cpu=True)
    assert precision == "fp32"
    assert "not in Accelerate's bf16" in note and "--precision bf16" in note
    assert choose_precision("fp32", on_cpu=True) == ("fp32", "")
    assert choose_precision("bf16", on_cpu=True) == ("bf16", "")


def test_on_a_gpu_accelerates_choice_counts_and_else_the_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    assert choose_precision("auto", on_cpu=False) == ("fp16", "")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    for supported, expected in ((True, "bf16"), (False, "fp16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, yes=supported: yes)
        assert choose_precision("auto", on_cpu=False) == (expected, "")


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(ConfigError, match="--precision fp16 needs a GPU"):
        choose_precision("fp16", on_cpu=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without GPUs")
def test_processes_meant_for_gpus_that_are_not_there_end_but_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(SystemExit) as ending:
        distributed.leave_spare_cpu_processes([])
    assert not ending.value.code
    monkeypatch.setenv("RANK", "0")
    notes: list[str] = []
    distributed.leave_spare_cpu_processes(notes)
    assert notes == ["No GPU: running as one CPU process. (Set ACCELERATE_USE_CPU=true for several.)"]
    assert "WORLD_SIZE" not in os.environ


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_process_keeps_to_its_share_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_GPU_SHARE", "0.25")
    own = Processes(RunConfig(data="images", weights="none"))
    try:
        total = torch.cuda.get_device_properties(own.device).total_memory
        assert torch.cuda.get_per_process_memory_fraction(own.device) == pytest.approx(0.25)
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(int(0.3 * total), dtype=torch.uint8, device=own.device)
    finally:
        own.close()
        torch.cuda.set_per_process_memory_fraction(1.0, own.device)


def test_ranks_come_to_one_decision(tmp_path: Path) -> None:
    def work() -> None:
        own = Processes(RunConfig(data="images", weights="none", threads=1))
        try:
            rank = own.rank
            assert own.world == 3
            assert own.any(rank == 2) is True
            assert own.any(False) is False
            assert own.largest(rank + 5) == 7
            seen = tmp_path / "seen"
            assert own.main_first(lambda: (seen.exists(), seen.touch(), rank)) == (rank > 0, None, rank)
            assert own.gather(rank * 10) == ([0, 10, 20] if rank == 0 else [])
            assert own.on_main(lambda: f"from {rank}") == "from 0"
            with pytest.raises(DataError, match="from the main process"):
                own.on_main(lambda: (_ for _ in ()).throw(DataError("from the main process")))
            assert own.sum_on_device(torch.tensor([float(rank), 1.0])).tolist() == [3.0, 3.0]
            model = torch.nn.Linear(1, 1)
            torch.nn.init.constant_(model.weight, rank + 1)
            own.broadcast(model)
            assert model.weight.item() == 1.0
            own.leave()
            assert own.any(rank == 2) is (rank == 2)  # alone now
        finally:
            own.close()

    on_ranks(3, work)


def test_the_first_rank_of_each_node_starts_at_once_and_the_others_wait(tmp_path: Path) -> None:
    """Ranks 0 and 1 on one node, 2 and 3 on another: the first two of each node can only end together."""

    def work() -> None:
        rank = int(os.environ["RANK"])
        os.environ["LOCAL_RANK"] = str(rank % 2)
        own = Processes(RunConfig(data="images", weights="none", threads=1))

        def meet() -> bool:
            main_has_ended = (tmp_path / "0 ended").exists()
            (tmp_path / f"{rank} began").touch()
            deadline = time.monotonic() + 30
            while not all((tmp_path / f"{first} began").exists() for first in (0, 2)):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            (tmp_path / f"{rank} ended").touch()
            return main_has_ended

        def refuse() -> None:
            if rank == 0:
                raise DataError("from the main process")

        try:
            assert own.main_first(meet, each_node=True) == (rank % 2 == 1)
            with pytest.raises(DataError, match="from the main process"):
                own.main_first(refuse, each_node=True)
        finally:
            own.close()

    on_ranks(4, work)


@pytest.mark.parametrize("failing", [2, 3])  # the first rank of the other node, and one that waits for it
def test_an_error_on_another_node_is_raised_on_all_ranks(failing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        rank = int(os.environ["RANK"])
        os.environ["LOCAL_RANK"] = str(rank % 2)
        monkeypatch.setattr(platform, "node", lambda: f"node{rank // 2}")
        own = Processes(RunConfig(data="images", weights="none", threads=1))

        def refuse() -> None:
            if rank == failing:
                raise DataError(["a.png is missing", "b.png is missing"])

        try:
            with pytest.raises(DataError) as refused:
                own.main_first(refuse, each_node=True)
            assert refused.value.problems == ("On node1: a.png is missing", "On node1: b.png is missing")
        finally:
            own.close()

    on_ranks(4, work)


def test_a_node_whose_folder_holds_another_image_ends_the_run(data_folder: Path, tmp_path: Path) -> None:
    """In its copy one image is another, and its own cache: the other node's images are not read there."""
    copy = tmp_path / "copy"
    shutil.copytree(data_folder, copy)
    first, second, *_ = sorted(copy.glob("train/class 1/*.png"))
    first.write_bytes(second.read_bytes())

    def work() -> None:
        if os.environ["RANK"] == "1":
            os.environ["HARNESS_CACHE_DIR"] = str(tmp_path / "cache of the other node")
            opened, read = train_module.open_dataset, functools.partial(read_below, copy)
            train_module.open_dataset = lambda folder, *rest: opened(dataclasses.replace(folder, read=read), *rest)
        with pytest.raises(SurroundingsError, match="does not hold the same readable images on every node"):
            fit(settings(data_folder, tmp_path / "runs"))

    on_ranks(2, work)


@pytest.mark.parametrize(("as_on", "exchange"), [("CPUs", "waited for"), ("GPUs", "not waited for")])
def test_the_ranks_exchange_once_in_a_step_and_gpus_do_not_wait(
    data_folder: Path, tmp_path: Path, as_on: str, exchange: str
) -> None:
    """Collectives between the second and the last step of an epoch, beside the gradients that DDP exchanges itself.

    Memory use is unknown during the first two steps, so that ranks agree on repeating them.
    """

    def work() -> None:
        open_processes = Processes.__init__

        def opened(self: Processes, config: RunConfig) -> None:
            open_processes(self, config)
            self.decides_late = as_on == "GPUs"

        Processes.__init__ = opened  # type: ignore[method-assign]
        names = [name for name in vars(dist) if name.startswith(("all_", "broadcast", "gather", "barrier", "reduce"))]
        calls: list[str] = []

        def counted(name: str) -> Callable[..., Any]:
            original = getattr(dist, name)

            def call(*arguments: Any, **options: Any) -> Any:
                calls.append(f"{name}, {'not ' * bool(options.get('async_op'))}waited for")
                return original(*arguments, **options)

            return call

        for name in names:
            if inspect.isfunction(getattr(dist, name)):
                setattr(dist, name, counted(name))
        take_step, by_step = train_module.training_step, []

        def step(*arguments: Any) -> torch.Tensor:
            by_step.append(list(calls))
            calls.clear()
            return take_step(*arguments)

        train_module.training_step = step
        fit(settings(data_folder, tmp_path, epochs=1, log_every=100, checkpoint_minutes=1.0))
        assert len(by_step) == 5
        assert by_step[3:] == [[f"all_reduce, {exchange}"]] * 2

    on_ranks(2, work)


@pytest.mark.parametrize("frozen", [False, True], ids=["all weights", "a block is frozen"])
def test_gradients_lie_in_the_buckets_that_ranks_exchange_and_the_bits_stay(frozen: bool) -> None:
    """Four steps of two micro-batches with clipping and EMA, the last two of them exchanged by DDP."""

    def trained(views: bool, processes: Processes) -> tuple[dict[str, torch.Tensor], int, int]:
        """The weights, and the bytes of gradients and of buckets that are no gradients."""
        original = DistributedDataParallel.__init__

        def opened(self: Any, *arguments: Any, gradient_as_bucket_view: bool = False, **options: Any) -> None:
            original(self, *arguments, gradient_as_bucket_view=gradient_as_bucket_view and views, **options)

        DistributedDataParallel.__init__ = opened  # type: ignore[method-assign]
        model, config = tiny_vit(), RunConfig(data="images", weights="none", clip_grad=0.1, ema=True)
        if frozen:
            model.encoder.layers[0].requires_grad_(False)
        state = TrainState(model, config, processes.accelerator)
        DistributedDataParallel.__init__ = original  # type: ignore[method-assign]
        storages: list[dict[int, int]] = []

        def measure(*_: Any) -> None:
            grads = [parameter.grad.untyped_storage() for parameter in model.parameters() if parameter.grad is not None]
            storages.append({storage.data_ptr(): storage.nbytes() for storage in grads})

        state.optimizer.optimizer.register_step_pre_hook(measure)
        state.train()
        state.progress.micro_batch = 2
        images = random_images(8)[4 * processes.rank :][:4]
        batch = Batch(images, torch.eye(5)[torch.arange(4)], np.arange(4), torch.ones(4), 8, None, 8.0)
        for _ in range(4):
            training_step(state, batch, 1e-3, config, processes)
        wrapped: Any = state.wrapped
        facts = wrapped._get_ddp_logging_data()
        buckets = sum(map(int, facts["rebuilt_bucket_sizes"].split(", ")))
        assert facts["gradient_as_bucket_view"] == views
        assert state.average
        weights = model.state_dict() | {f"average {name}": value for name, value in state.average.weights.items()}
        return weights, sum(storages[-1].values()), 0 if views else buckets

    def work() -> None:
        processes = Processes(RunConfig(data="images", weights="none", threads=1))
        weights, gradients, beside = trained(True, processes)
        expected, separate, buckets = trained(False, processes)
        assert weights.keys() == expected.keys()
        assert all(torch.equal(weights[name], expected[name]) for name in weights)
        assert (gradients, beside) == (separate, 0)
        assert separate == buckets > 100_000  # bytes that DDP held once more

    on_ranks(2, work)
