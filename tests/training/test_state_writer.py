"""Saves in a thread: what is written, when a run waits for it, and what a kill or a full disk leaves."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from harness import train as train_module
from harness.config import RunConfig
from harness.errors import SurroundingsError, TrainingError
from harness.train import fit
from harness.training import checkpoint, state_writer
from harness.training.checkpoint import load_tensors, save_tensors
from harness.training.state import TrainState
from harness.training.state_writer import StateWriter
from tests.helpers.built_models import loaded_model
from tests.test_train import in_child, on_ranks, rows_of, same_bits, settings, weights_of

CONFIG = RunConfig(data="images", weights="none", model="vit_demo", epochs=2, optimizer="sgd", checkpoint_minutes=10)


@pytest.fixture
def state() -> TrainState:
    model = loaded_model("vit_demo", num_classes=3, weights="none", image_size=32).model
    return TrainState(model, CONFIG, Accelerator(cpu=True))


def test_training_continues_while_the_state_of_the_moment_is_written(
    state: TrainState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_write = threading.Event()

    def slow(*arguments: Any) -> None:
        assert may_write.wait(10)
        save_tensors(*arguments)

    monkeypatch.setattr(state_writer, "save_tensors", slow)
    best: list[torch.Tensor] = []
    head = state.model.heads.head.bias
    with StateWriter(state, tmp_path / "state", {}, CONFIG, is_main=True) as writer:
        for number in (1, 2):
            torch.nn.init.constant_(head, number)
            state.progress.step = number
            writer.save(lambda weights: best.append(weights["heads.head.bias"].clone()))
            torch.nn.init.constant_(head, -1)
            state.progress.step = -1
            may_write.set()
            writer.wait()
            tensors, metadata = load_tensors(tmp_path / "state")
            assert tensors["model.heads.head.bias"].tolist() == best[-1].tolist() == [number] * 3
            assert metadata["progress"]["step"] == number
            assert tensors.keys() == state.tensors().keys()


def test_a_failed_write_ends_the_run_at_the_next_step_and_leaves_the_earlier_state(
    state: TrainState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with StateWriter(state, tmp_path / "state", {}, CONFIG, is_main=True) as writer:
        writer.save()
        writer.wait()
        monkeypatch.setattr(checkpoint, "save_file", full)
        state.progress.step = 1
        writer.save()
        with pytest.raises(SurroundingsError, match=r"No space left to save .*state"):
            while not writer.is_due():
                time.sleep(0.01)
    assert load_tensors(tmp_path / "state")[1]["progress"]["step"] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_the_last_write_of_a_run_that_ends_is_waited_for_and_must_not_fail(
    state: TrainState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        time.sleep(0.1)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    for stopped in (None, train_module.StopRequested(signal.SIGTERM)):
        with (
            pytest.raises(SurroundingsError, match="No space left"),
            StateWriter(state, tmp_path / "state", {}, CONFIG, is_main=True) as writer,
        ):
            writer.save()
            if stopped:
                raise stopped
    with (
        pytest.raises(ValueError, match="the cause"),
        StateWriter(state, tmp_path / "state", {}, CONFIG, is_main=True) as writer,
    ):
        writer.save()
        raise ValueError("the cause")


def test_other_ranks_write_nothing(state: TrainState, tmp_path: Path) -> None:
    with StateWriter(state, tmp_path / "state", {}, CONFIG, is_main=False) as writer:
        writer.save()
        assert not writer.is_due()
    assert not list(tmp_path.iterdir())


def test_a_state_of_a_version_that_ignored_the_norms_of_its_weights_cannot_be_resumed(
    state: TrainState, tmp_path: Path
) -> None:
    save_tensors(tmp_path / "state", state.tensors(), state.metadata({"data": "d", "weights": "w"}))
    state.restore(tmp_path / "state", {"data": "d", "weights": "w"})
    with pytest.raises(TrainingError, match="did not read layer_norm_eps") as error:
        state.restore(tmp_path / "state", {"data": "d", "weights": "w eps 1e-12"})
    assert not isinstance(error.value, SurroundingsError)  # repeating the command does not help
    with pytest.raises(SurroundingsError, match="The weights changed"):
        state.restore(tmp_path / "state", {"data": "d", "weights": "other eps 1e-12"})


def test_a_save_by_time_is_asked_for_once(state: TrainState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(state_writer.time, "monotonic", lambda: now)
    with StateWriter(state, tmp_path / "state", {}, CONFIG, is_main=True) as writer:
        now = 599.0
        assert not writer.is_due()
        now = 600.0
        assert [writer.is_due() for _ in range(3)] == [True, False, False]
        now = 1200.0
        assert writer.is_due()


def test_killed_while_it_writes_a_run_resumes_from_the_earlier_state(data_folder: Path, tmp_path: Path) -> None:
    config = settings(data_folder, tmp_path / "killed", checkpoint_every=2)

    def killed() -> None:
        save_file, writes = checkpoint.save_file, []

        def die_in_the_second(tensors: Any, path: Path, texts: Any) -> None:
            writes.append(path)
            if len(writes) == 2:
                path.write_bytes(b"half")
                os.kill(os.getpid(), signal.SIGKILL)
            save_file(tensors, path, texts)

        checkpoint.save_file = die_in_the_second
        fit(config)

    in_child(killed, -signal.SIGKILL)
    [folder] = (tmp_path / "killed").iterdir()
    assert load_tensors(folder / "checkpoints" / "state.safetensors")[1]["progress"]["step"] == 2
    resumed, whole = fit(config), fit(settings(data_folder, tmp_path / "whole", checkpoint_every=2))
    assert same_bits(weights_of(resumed), weights_of(whole))
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["best.safetensors"]


@pytest.mark.parametrize("name", ["training_step", "evaluate"])
def test_a_stopped_run_ends_on_all_ranks_after_its_state_is_written(
    data_folder: Path, tmp_path: Path, name: str
) -> None:
    """The last rank gets a signal in its fifth step or in the validation after it."""

    def stopped() -> None:
        def slow(*arguments: Any) -> None:
            time.sleep(0.5)
            save_tensors(*arguments)

        original, calls = getattr(train_module, name), list[int]()

        def signalled(*arguments: Any) -> Any:
            calls.append(1)
            if len(calls) == (5 if name == "training_step" else 1) and os.environ["RANK"] == "1":
                os.kill(os.getpid(), signal.SIGTERM)
            return original(*arguments)

        state_writer.save_tensors = slow
        setattr(train_module, name, signalled)
        assert fit(settings(data_folder, tmp_path)).state == "preempted"
        [file] = tmp_path.glob("*/checkpoints/state.safetensors")
        assert load_tensors(file)[1]["progress"]["step"] == 5

    on_ranks(2, stopped)


def test_after_the_last_epoch_the_state_holds_progress_alone(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(data_folder, tmp_path, lora_rank=2, ema=True)

    def killed() -> None:
        train_module.TrainState.use = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        fit(config)

    in_child(killed, -signal.SIGKILL)
    [folder] = tmp_path.iterdir()
    tensors, metadata = load_tensors(folder / "checkpoints" / "state.safetensors")
    assert (tensors, metadata["progress"]["epochs"]) == ({}, 2)
    monkeypatch.setattr(train_module, "training_step", None)  # no step is repeated
    outcome = fit(config)
    assert (outcome.state, outcome.summary["test/n"]) == ("finished", 9)
    assert [row["epoch"] for row in rows_of(outcome) if "val/f1" in row] == [1, 2]
