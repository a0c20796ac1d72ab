from __future__ import annotations

import csv
import dataclasses
import errno
import functools
import json
import math
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from harness import train as train_module
from harness.config import RunConfig
from harness.errors import ConfigError, TrainingError
from harness.options import arguments, parse
from harness.runs.folder import RunFolder
from harness.runs.logger import RunLogger
from harness.train import Outcome, fit
from harness.training.checkpoint import load_tensors
from tests.helpers.ports import free_ports

# A child forked from here starts in milliseconds, with everything imported. Safe, for no test uses several threads.
fork = multiprocessing.get_context("fork")


def settings(data_folder: Path, runs: Path, **changes: Any) -> RunConfig:
    """The smallest real run: 21 images of 32 pixels in batches of 5, the last of one image."""
    values: dict[str, Any] = {
        "recipe": "study",
        "data": str(data_folder),
        "runs_dir": str(runs),
        "model": "vit_demo",
        "weights": "none",
        "image_size": 32,
        "crop_pct": 1.0,
        "epochs": 2,
        "batch_size": 5,
        "lr": 3e-4,
        "log_every": 1,
        "threads": 1,
        "explain": "none",
    }
    return RunConfig(**values | changes)


def rows_of(outcome: Outcome | Path) -> list[dict[str, Any]]:
    folder = outcome.folder if isinstance(outcome, Outcome) else outcome
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses_of(outcome: Outcome | Path) -> list[float]:
    return [row["train/loss"] for row in rows_of(outcome) if "train/loss" in row]


def weights_of(outcome: Outcome | Path) -> dict[str, torch.Tensor]:
    folder = outcome.folder if isinstance(outcome, Outcome) else outcome
    return load_file(folder / "checkpoints" / "best.safetensors")


def same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def kill_at_first_validation(config: RunConfig) -> None:
    """Start a run in a child that dies, as by kill -9, when its first epoch is trained."""
    kill_at_first_call(config, "evaluate")


def kill_at_first_call(config: RunConfig, name: str) -> None:
    """Start a run in a child that dies, as by kill -9, when it first calls this name in harness.train."""

    def killed() -> None:
        setattr(train_module, name, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        fit(config)

    in_child(killed, -signal.SIGKILL)


def in_child(work: Callable[[], Any], exit_code: int = 0) -> None:
    """Do this work in a forked child, which has to end with this code."""
    assert exit_codes(1, work) == [exit_code]


def on_ranks(world: int, work: Callable[[], Any]) -> None:
    """Do this work as each rank of a process group, in forked children, which have to end well."""
    assert exit_codes(world, work) == [0] * world


def exit_codes(world: int, work: Callable[[], Any]) -> list[int | None]:
    """How forked children end that do this work; several of them are the ranks of a process group."""
    [port] = free_ports(1)

    def child(rank: int) -> None:
        if world > 1:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
            os.environ |= {"LOCAL_WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            os.environ["ACCELERATE_USE_CPU"] = "true"
        work()

    children = [fork.Process(target=child, args=(rank,)) for rank in range(world)]
    for process in children:
        process.start()
    codes = []
    for process in children:
        process.join(120)
        codes.append(process.exitcode)  # None of one that hangs
        process.kill()
    return codes


def signal_after_step(step: int, signum: int) -> None:
    """Have this process, a child, send itself a signal right after an optimiser step."""
    take_step = train_module.training_step

    def step_and_signal(state: Any, *rest: Any) -> torch.Tensor:
        loss = take_step(state, *rest)
        if state.progress.step == step:
            os.kill(os.getpid(), signum)
        return loss

    train_module.training_step = step_and_signal


def kill_after_step(config: RunConfig, step: int, world: int) -> None:
    """Start a run of `world` processes whose main one dies, as by kill -9, right after an optimiser step.

    The others lose it in their next exchange. Were they to die first, the main one could end with an error instead.
    """

    def killed() -> None:
        if os.environ.get("RANK", "0") == "0":
            signal_after_step(step, signal.SIGKILL)
        fit(config)

    main, *others = exit_codes(world, killed)
    assert main == -signal.SIGKILL and 0 not in others


RANDOM = {"augment": "standard", "mixup": 0.4, "drop_path": 0.2, "ema": True, "schedule": "cosine"}


def start(config: RunConfig, world: int) -> Path:
    """Start or resume a run of so many processes; its folder."""
    if world == 1:
        fit(config)
    else:
        on_ranks(world, lambda: fit(config))
    [folder] = Path(config.runs_dir).iterdir()
    return folder


@pytest.fixture(scope="module")
def whole(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The folder of an uninterrupted run of so many processes with the settings RANDOM."""
    return functools.cache(
        lambda world: start(settings(data_folder, tmp_path_factory.mktemp("whole"), **RANDOM), world)
    )


@pytest.mark.figures
def test_a_run_leaves_everything_in_its_folder(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # W&B is disabled: importing it fails
    config = settings(data_folder, tmp_path, epochs=4, lr=1e-3)
    outcome = fit(config)

    assert outcome.state == "finished"
    assert outcome.folder == tmp_path / f"lr0.001_bs5_none_s0-{config.resolved().identity}"
    assert json.loads((outcome.folder / "config.json").read_text()) == config.resolved().to_dict()
    rows = rows_of(outcome)
    steps = [row for row in rows if "train/loss" in row]
    epochs = [row for row in rows if "val/loss" in row]
    assert [row["step"] for row in steps] == list(range(1, 21))
    assert [row["epoch"] for row in epochs] == [1, 2, 3, 4]
    assert steps[0]["train/loss"] == pytest.approx(math.log(3), abs=1e-6)  # a head of zeros knows nothing yet
    assert steps[-1]["train/loss"] < 0.5 * steps[0]["train/loss"]

    summary = outcome.summary
    best = max(epochs, key=lambda row: (row["val/f1"], -row["val/loss"]))
    assert summary["best/epoch"] == best["epoch"]
    assert summary["best/val_f1"] == best["val/f1"]
    assert summary["best/val_loss"] == best["val/loss"]
    assert summary["state"] == "finished"
    assert summary["test/n"] == 9
    assert summary["test/f1_low"] <= summary["test/f1"] <= summary["test/f1_high"]

    with (outcome.folder / "predictions.csv").open() as file:
        predictions = list(csv.DictReader(file))
    assert len({row["file"] for row in predictions}) == 9
    hits = sum(row["label"] == row["prediction"] for row in predictions)
    assert hits / 9 == pytest.approx(summary["test/accuracy"])
    manifest = json.loads((outcome.folder / "manifest.json").read_text())
    assert manifest["data"]["images"] == {"train": 21, "val": 9, "test": 9}
    assert parse(manifest["arguments"]) == config.resolved()
    assert manifest["versions"]["torch"] == torch.__version__.split("+")[0]
    for name in ("loss_curve", "confusion_matrix", "reliability"):
        assert (outcome.folder / "figures" / f"{name}.png").stat().st_size > 10_000  # bytes; a blank one has fewer
    assert (outcome.folder / "per_class.csv").stat().st_size > 0
    # What only an unfinished run needs is gone.
    assert [path.name for path in (outcome.folder / "checkpoints").iterdir()] == ["best.safetensors"]


@pytest.mark.parametrize(("least_work", "expected"), [(1, 2), (150_000_000, 1)])
def test_a_run_computes_with_as_many_threads_as_its_model_keeps_busy(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, least_work: int, expected: int
) -> None:
    monkeypatch.setattr("harness.training.distributed.default_threads", lambda processes: 2)
    monkeypatch.setattr("harness.training.threads.LEAST_WORK", least_work)
    before = torch.get_num_threads()
    try:
        outcome = fit(settings(data_folder, tmp_path, epochs=1, threads=None))
        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)
    assert json.loads((outcome.folder / "manifest.json").read_text())["threads"] == expected


def test_a_finished_run_is_left_alone_and_fresh_starts_over(
    data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(data_folder, tmp_path, epochs=1)
    first = fit(config)
    written = (first.folder / "summary.json").stat().st_mtime_ns
    again = fit(config)
    assert "has finished before" in capsys.readouterr().out
    assert again.summary == first.summary
    assert (first.folder / "summary.json").stat().st_mtime_ns == written

    fresh = fit(dataclasses.replace(config, fresh=True))
    assert fresh.folder == first.folder
    assert (fresh.folder / "summary.json").stat().st_mtime_ns > written
    [aside] = (tmp_path / ".replaced").iterdir()
    assert json.loads((aside / "summary.json").read_text()) == first.summary
    assert same_bits(weights_of(fresh), weights_of(aside))


def test_a_finished_run_names_what_changed_in_its_data(
    data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(shutil.copytree(data_folder, tmp_path / "data"))
    config = settings(data, tmp_path / "runs", epochs=1)
    summary = fit(config).summary
    capsys.readouterr()
    fit(config)
    assert "changed since" not in capsys.readouterr().out

    first, second = sorted(path for path in (data / "train").iterdir())[:2]
    image, other = sorted(first.iterdir())[0], sorted(second.iterdir())[0]
    content = image.read_bytes()
    image.write_bytes(other.read_bytes())
    other.write_bytes(content)
    assert fit(config).summary == summary
    swapped = (
        f"Images or labels in {data} have changed since the run: its scores and its model are of the earlier data."
    )
    assert swapped in " ".join(capsys.readouterr().out.split())

    other.unlink()
    fit(config)
    assert "The numbers of images (now {'train': " in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("changes", "worlds"),
    [
        ({}, (2, 3)),
        (RANDOM | {"random_erasing": 0.5, "clip_grad": 1.0}, (2, 3)),
        ({"freeze": "backbone", "optimizer": "sgd", "lr": 0.1, "label_smoothing": 0.1}, (3,)),
        ({"grad_checkpointing": True, "layer_decay": 0.7, "deterministic": True, "augment": "trivialaugment"}, (2,)),
    ],
    ids=["plain", "everything random", "frozen", "recomputed"],
)
def test_the_number_of_processes_does_not_change_the_run(
    data_folder: Path, tmp_path: Path, changes: dict[str, Any], worlds: tuple[int, ...]
) -> None:
    """Two steps whose memory use is unknown and three that exchange gradients in the backward pass."""
    one = fit(settings(data_folder, tmp_path / "1", epochs=1, **changes))
    for world in worlds:
        folder = start(settings(data_folder, tmp_path / str(world), epochs=1, **changes), world)
        assert losses_of(folder) == pytest.approx(losses_of(one), rel=1e-4, abs=1e-5)
        summary = json.loads((folder / "summary.json").read_text())
        assert summary["test/n"] == one.summary["test/n"] == 9
        assert summary["test/loss"] == pytest.approx(one.summary["test/loss"], rel=1e-3)
        with (folder / "predictions.csv").open() as file:
            assert len({row["file"] for row in csv.DictReader(file)}) == 9


def test_bf16_computes_close_to_fp32(data_folder: Path, tmp_path: Path) -> None:
    exact = fit(settings(data_folder, tmp_path / "fp32", precision="fp32"))
    rounded = fit(settings(data_folder, tmp_path / "bf16", precision="bf16"))
    assert losses_of(rounded) == pytest.approx(losses_of(exact), abs=0.03)
    assert losses_of(rounded) != losses_of(exact)


def test_the_micro_batch_does_not_change_the_run(data_folder: Path, tmp_path: Path) -> None:
    whole = fit(settings(data_folder, tmp_path / "whole", augment="standard", cutmix=1.0))
    parts = fit(settings(data_folder, tmp_path / "parts", augment="standard", cutmix=1.0, micro_batch=2))
    assert losses_of(parts) == pytest.approx(losses_of(whole), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(("step", "world"), [(1, 1), (4, 1), (5, 1), (8, 1), (8, 2)])
def test_killed_at_a_step_the_same_command_ends_with_the_same_bits(
    data_folder: Path, tmp_path: Path, step: int, world: int, whole: Callable[[int], Path]
) -> None:
    config = settings(data_folder, tmp_path, checkpoint_every=3, **RANDOM)
    kill_after_step(config, step, world)
    [folder] = tmp_path.iterdir()
    assert json.loads((folder / "summary.json").read_text())["state"] == "running"

    start(config, world)
    assert same_bits(weights_of(folder), weights_of(whole(world)))
    assert [row["step"] for row in rows_of(folder)] == [row["step"] for row in rows_of(whole(world))]
    assert losses_of(folder) == losses_of(whole(world))


@pytest.mark.parametrize("world", [1, 2])
def test_saves_by_time_resume_with_the_same_bits(
    data_folder: Path, tmp_path: Path, world: int, whole: Callable[[int], Path]
) -> None:
    # Each step is due: the clock of the main process is faster than any step. The last rank's clock must not matter.
    config = settings(data_folder, tmp_path, checkpoint_minutes=1e-9, **RANDOM)
    kill_after_step(config, 4, world)
    [folder] = tmp_path.iterdir()
    _, metadata = load_tensors(folder / "checkpoints" / "state.safetensors")
    assert metadata["progress"]["step"] in (2, 3)  # the state of step 3 may not be written yet

    start(config, world)
    assert same_bits(weights_of(folder), weights_of(whole(world)))
    assert losses_of(folder) == losses_of(whole(world))


def test_a_disk_full_while_testing_is_a_failed_run_that_resumes(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(data_folder, tmp_path, epochs=1)

    def full(*_: Any, **__: Any) -> None:
        # From here on, nothing new can be written.
        patch.setattr("harness.files._flush_to_disk", lambda path: full())
        raise OSError(errno.ENOSPC, "No space left on device", "predictions.csv")

    with monkeypatch.context() as patch:
        patch.setattr("harness.finish.write_predictions", full)
        with pytest.raises(TrainingError, match=r"No space left to save predictions\.csv"):
            fit(config)
    [folder] = tmp_path.iterdir()
    assert json.loads((folder / "summary.json").read_text())["state"] == "failed"
    (folder / "figures").mkdir(exist_ok=True)
    (folder / "figures" / ".loss_curve.png.99").write_bytes(b"half")
    assert fit(config).state == "finished"
    assert not (folder / "figures" / ".loss_curve.png.99").exists()


def stop_after(config: RunConfig, step: int) -> None:
    """Run in a child that receives SIGTERM after this optimiser step."""

    def stopped() -> None:
        signal_after_step(step, signal.SIGTERM)
        assert fit(config).state == "preempted"

    in_child(stopped)


def test_without_its_best_checkpoint_a_run_resumes_and_chooses_another(
    data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(data_folder, tmp_path, epochs=3)
    stop_after(config, 7)
    [folder] = tmp_path.iterdir()
    (folder / "checkpoints" / "best.safetensors").unlink()
    outcome = fit(config)
    assert "the best checkpoint (epoch 1), is missing. The remaining epochs choose a new one" in capsys.readouterr().out
    assert outcome.state == "finished"
    assert outcome.summary["best/epoch"] in (2, 3)
    rows = [row for row in rows_of(outcome) if "val/f1" in row and row["epoch"] == outcome.summary["best/epoch"]]
    assert outcome.summary["best/val_f1"] == rows[0]["val/f1"]


def test_without_its_best_checkpoint_and_without_epochs_left_a_run_ends_with_one_sentence(
    data_folder: Path, tmp_path: Path
) -> None:
    config = settings(data_folder, tmp_path, epochs=1)

    def killed() -> None:
        train_module.TrainState.use = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        fit(config)

    in_child(killed, -signal.SIGKILL)
    [folder] = tmp_path.iterdir()
    (folder / "checkpoints" / "best.safetensors").unlink()
    with pytest.raises(TrainingError, match=r"best\.safetensors, the best checkpoint \(epoch 1\), is missing.*--fresh"):
        fit(config)


@pytest.mark.parametrize(("signum", "world"), [(signal.SIGTERM, 1), (signal.SIGINT, 1), (signal.SIGINT, 2)])
def test_asked_to_stop_it_saves_and_resumes_later(
    data_folder: Path, tmp_path: Path, signum: int, world: int, whole: Callable[[int], Path]
) -> None:
    config = settings(data_folder, tmp_path, **RANDOM)

    def stopped() -> None:
        optimise = train_module.training_step

        def optimise_and_tell(state: Any, *rest: Any) -> torch.Tensor:
            # One rank alone hears it: all must stop at the same step.
            if state.progress.step == 6 and os.environ.get("RANK", "0") == str(world - 1):
                os.kill(os.getpid(), signum)
            return optimise(state, *rest)

        train_module.training_step = optimise_and_tell
        outcome = fit(config)
        assert outcome.state == "preempted"
        assert outcome.exit_code == 128 + signum

    on_ranks(world, stopped)
    [folder] = tmp_path.iterdir()
    assert json.loads((folder / "summary.json").read_text())["state"] == "preempted"
    assert rows_of(folder)[-1]["step"] == 7

    start(config, world)
    assert same_bits(weights_of(folder), weights_of(whole(world)))
    assert losses_of(folder) == losses_of(whole(world))


def test_a_stop_at_the_end_of_an_epoch_does_not_lose_its_validation(data_folder: Path, tmp_path: Path) -> None:
    config = settings(data_folder, tmp_path)

    def stopped() -> None:
        optimise = train_module.training_step

        def optimise_and_tell(state: Any, *rest: Any) -> torch.Tensor:
            loss = optimise(state, *rest)
            if state.progress.step == 5:
                os.kill(os.getpid(), signal.SIGTERM)
            return loss

        train_module.training_step = optimise_and_tell
        assert fit(config).state == "preempted"

    in_child(stopped)
    assert [row["epoch"] for row in rows_of(fit(config)) if "val/f1" in row] == [1, 2]


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_around_the_row_of_an_epoch_it_is_there_once(data_folder: Path, tmp_path: Path, when: str) -> None:
    config = settings(data_folder, tmp_path, checkpoint_every=5)

    def killed() -> None:
        validation = RunLogger.validation

        def validate_and_die(self: RunLogger, *arguments: Any, **keywords: Any) -> None:
            if when == "after":
                validation(self, *arguments, **keywords)
            os.kill(os.getpid(), signal.SIGKILL)

        RunLogger.validation = validate_and_die
        fit(config)

    in_child(killed, -signal.SIGKILL)
    assert [row["epoch"] for row in rows_of(fit(config)) if "val/f1" in row] == [1, 2]


def test_a_loss_that_is_not_finite_ends_the_run_with_its_step(data_folder: Path, tmp_path: Path) -> None:
    config = settings(data_folder, tmp_path, lr=1e6, optimizer="sgd", epochs=5, log_every=4)
    with pytest.raises(
        TrainingError, match=r"training loss became (nan|inf) at step \d+ .*learning rate 1e\+06"
    ) as error:
        fit(config)
    assert "The last finite losses were 1.09" in str(error.value)
    [folder] = tmp_path.iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["state"] == "infeasible"
    assert summary["reason"] == str(error.value)


def forever_out_of_memory() -> None:
    """Give this process a model that has memory for no image at all while it is trained."""
    from torchvision.models import VisionTransformer

    def hungry(self: VisionTransformer, images: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more than there is.")

    VisionTransformer.forward = hungry


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("of_a_sweep", [False, True])
def test_settings_that_cannot_be_trained_are_no_failure_of_a_sweep(
    data_folder: Path, tmp_path: Path, world: int, of_a_sweep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.cli import main

    if of_a_sweep:
        monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
        monkeypatch.setenv("WANDB_RUN_ID", "abc-1")
    config = settings(data_folder, tmp_path)

    def command() -> None:
        monkeypatch.setattr("harness.errors.time.sleep", lambda _: None)  # other ranks would wait to be ended
        forever_out_of_memory()
        with pytest.raises(SystemExit) as ended:
            main.run(arguments(config))
        assert ended.value.code == (0 if of_a_sweep else 1)

    on_ranks(world, command)
    [folder] = tmp_path.iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["state"] == "infeasible"
    assert summary["reason"].startswith("Out of memory with a single image per forward pass")
    # On a device with more memory, a sweep tries it again.
    assert summary["error"] == "NotEnoughMemoryError"
    assert summary["memory/total_bytes"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("world", [1, 2])
def test_a_file_in_its_folder_stops_a_run(
    data_folder: Path, tmp_path: Path, world: int, capfd: pytest.CaptureFixture[str]
) -> None:
    config = settings(data_folder, tmp_path)

    def stopped() -> None:
        optimise = train_module.training_step

        def optimise_and_ask(state: Any, *rest: Any) -> torch.Tensor:
            if state.progress.step == 6:
                [folder] = tmp_path.iterdir()
                RunFolder(folder).ask_to_stop("Others were better after epoch 1.")
            return optimise(state, *rest)

        train_module.training_step = optimise_and_ask
        outcome = fit(config)
        assert (outcome.state, outcome.exit_code) == ("stopped", 0)

    on_ranks(world, stopped)
    [folder] = tmp_path.iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["state"], summary["reason"]) == ("stopped", "Others were better after epoch 1")
    assert "Stopped: Others were better after epoch 1. The same command resumes it" in capfd.readouterr().out
    assert rows_of(folder)[-1]["step"] == 7
    assert not (folder / "stop").exists()


def test_word_to_stop_is_for_the_start_it_was_left_to(data_folder: Path, tmp_path: Path) -> None:
    config = settings(data_folder, tmp_path, epochs=1)
    folder = RunFolder.of(config.resolved())
    folder.ask_to_stop("too late")
    assert fit(config).state == "finished"
    assert not (folder.path / "stop").exists()


def test_out_of_memory_halves_the_micro_batch_and_keeps_the_global_batch(
    data_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    expected = fit(settings(data_folder, tmp_path / "enough", epochs=1))

    def fit_with_little_memory(runs: Path) -> None:
        from torchvision.models import VisionTransformer

        forward = VisionTransformer.forward

        def hungry(self: VisionTransformer, images: torch.Tensor) -> torch.Tensor:
            if len(images) > (1 if self.training else 2):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more than there is.")
            return forward(self, images)

        VisionTransformer.forward = hungry  # in this forked process only
        fit(settings(data_folder, runs, epochs=1))

    in_child(lambda: fit_with_little_memory(tmp_path / "1"))
    on_ranks(2, lambda: fit_with_little_memory(tmp_path / "2"))
    for world in ("1", "2"):
        [folder] = (tmp_path / world).iterdir()
        assert losses_of(folder) == pytest.approx(losses_of(expected), rel=1e-4, abs=1e-5)
        assert json.loads((folder / "summary.json").read_text())["micro_batch"] == 1
    said = capfd.readouterr().out
    assert said.count("Out of memory: micro-batch 5 -> 3; the global batch stays 5.") == 1
    assert said.count("Out of memory: micro-batch 3 -> 2; the global batch stays 5.") == 2  # 5 images on 2 processes


def test_an_interrupted_run_can_resume_with_a_smaller_micro_batch(data_folder: Path, tmp_path: Path) -> None:
    config = settings(data_folder, tmp_path, checkpoint_every=2)

    kill_at_first_validation(config)
    outcome = fit(dataclasses.replace(config, micro_batch=2))
    assert outcome.summary["micro_batch"] == 2
    assert [row["step"] for row in rows_of(outcome) if "train/loss" in row] == list(range(1, 11))


def test_a_folder_with_the_state_of_other_settings_is_refused(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "trial-1")  # the runs of a sweep find their folders by this
    config = settings(data_folder, tmp_path, name="trial", checkpoint_every=1)
    kill_at_first_validation(config)
    [folder] = tmp_path.iterdir()
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    before = [path.read_bytes() for path in files]
    with pytest.raises(
        ConfigError, match=r"was begun with --lr=0\.0003 --ema=False, not with --lr=0\.001 --ema=True\."
    ):
        fit(dataclasses.replace(config, lr=1e-3, ema=True, log_every=2))
    assert [path.read_bytes() for path in files] == before
    assert fit(dataclasses.replace(config, log_every=2)).state == "finished"


def test_another_data_set_under_an_interrupted_run_is_refused(tmp_path: Path) -> None:
    from tests.conftest import write_folder

    data_folder = write_folder(tmp_path / "images")
    config = settings(data_folder, tmp_path / "runs", checkpoint_every=1)

    kill_at_first_validation(config)
    picture = data_folder / "train" / "class 0" / "000.png"
    picture.write_bytes((data_folder / "train" / "class 1" / "000.png").read_bytes())
    with pytest.raises(TrainingError, match="The data changed since this run was interrupted"):
        fit(config)


def test_two_copies_of_one_run_do_not_write_over_each_other(data_folder: Path, tmp_path: Path) -> None:
    from harness.errors import HarnessError

    config = settings(data_folder, tmp_path)
    with RunFolder.of(config.resolved()).locked(), pytest.raises(HarnessError, match="is running this run"):
        fit(config)
