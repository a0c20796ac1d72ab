"""Sweeps run here: every trial exactly once, whatever is killed, and nothing left behind."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import train as train_module
from harness.errors import ConfigError, HarnessError
from harness.launch.proc import is_running
from harness.runs.folder import RunFolder
from harness.runs.logger import RunLogger
from harness.sweep.execution import runner as runner_module
from harness.sweep.execution.runner import Runner, RunnerOptions
from harness.sweep.search.settings import Search
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.spec.sweep_file import read_sweep
from tests.helpers.sweeping import (
    descendants,
    entries,
    kill_tree,
    start_sweep,
    sweep_here,
    trial_queue,
    write_sweep,
)
from tests.helpers.waiting import wait_for
from tests.test_train import same_bits, weights_of

ENDLESS = ("--epochs=100000", "--log-every=1")


def summaries(runs: Path) -> dict[str, dict[str, Any]]:
    """By the run's name: its summary."""
    return {path.parent.name: json.loads(path.read_text()) for path in runs.glob("*/*/summary.json")}


def run_folder(runs: Path, number: int) -> Path:
    [folder] = runs.glob(f"*/*-{number}")
    return folder


@pytest.fixture
def started() -> Iterator[Callable[..., Any]]:
    """Starts sweeps; whatever they leave behind is killed."""
    children = []

    def start(*arguments: Any, **options: Any) -> Any:
        children.append(start_sweep(*arguments, **options))
        return children[-1]

    yield start
    for child in children:
        if child.is_alive():
            kill_tree(child.pid)


def test_every_point_of_a_grid_is_done_in_order(
    photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = write_sweep(tmp_path / "tiny.yaml", photos, "--epochs=1")
    assert sweep_here(file, tmp_path / "runs") == 0

    done = entries(file, tmp_path / "runs")
    order = [("none", 1e-3), ("none", 1e-2), ("standard", 1e-3), ("standard", 1e-2)]
    assert [(entry.settings["augment"], entry.settings["lr"]) for entry in done] == order
    assert [entry.state for entry in done] == ["finished"] * 4
    for entry in done:
        folder = run_folder(tmp_path / "runs", entry.number)
        assert folder.name.endswith(entry.run_id)
        summary = json.loads((folder / "summary.json").read_text())
        assert entry.value == summary["best/val_f1"]
        config = json.loads((folder / "config.json").read_text())
        assert (config["augment"], config["lr"]) == (entry.settings["augment"], entry.settings["lr"])
    assert (tmp_path / "runs" / "tiny" / "sweep.yaml").read_text() == file.read_text()

    # Again: nothing is left to do, and the leaderboard is shown.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("summary.json")}
    capfd.readouterr()
    assert sweep_here(file, tmp_path / "runs") == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("summary.json")} == before
    printed = capfd.readouterr().out
    assert "started" not in printed
    assert "lr0.001_bs5_none" in printed or "0.001" in printed


def test_workers_share_a_sweep(photos: Path, tmp_path: Path) -> None:
    file = write_sweep(tmp_path / "tiny.yaml", photos, "--epochs=1")
    assert sweep_here(file, tmp_path / "one") == 0
    assert sweep_here(file, tmp_path / "two", workers=2) == 0
    values = [[entry.value for entry in entries(file, tmp_path / runs)] for runs in ("one", "two")]
    assert values[0] == values[1]
    assert None not in values[0]


def test_what_became_of_a_trial_that_another_machine_has_is_not_noted(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = read_sweep(write_sweep(tmp_path / "tiny.yaml", photos))
    book = TrialQueue.open(sweep, Search(), tmp_path, None)
    task = book.claim()
    assert task is not None
    monkeypatch.setattr(book, "owns", lambda _: False)
    trial: Any = SimpleNamespace(
        task=task, folder=RunFolder(tmp_path / "run"), process=SimpleNamespace(exitcode=1), log=tmp_path, hung=False
    )
    runner = Runner(sweep, book, tmp_path, [], RunnerOptions(start_method="fork"))
    runner._settle(trial)
    assert "another machine took over this trial" in capsys.readouterr().out
    assert (book.entries()[0].state, book.entries()[0].attempts) == ("running", 0) and not runner._to_retry


def test_two_processes_do_the_same_trials_as_one(photos: Path, tmp_path: Path) -> None:
    file = write_sweep(tmp_path / "tiny.yaml", photos, "--epochs=1", parameters={"lr": {"values": [1e-3, 1e-4]}})
    assert sweep_here(file, tmp_path / "one") == 0
    assert sweep_here(file, tmp_path / "two", processes=2) == 0
    # By trial number, with which folders end. Adam's first steps make much of the last bits of a gradient.
    one, two = (
        [summary["best/val_loss"] for _, summary in sorted(summaries(tmp_path / runs).items(), key=lambda s: s[0][-1])]
        for runs in ("one", "two")
    )
    assert one[0] != pytest.approx(one[1], rel=0.1)
    assert two == pytest.approx(one, rel=1e-3)
    [manifest] = {json.loads(path.read_text())["processes"] for path in (tmp_path / "two").rglob("manifest.json")}
    assert manifest == 2


@pytest.mark.slow
def test_killed_at_random_moments_every_configuration_is_done_once(
    photos: Path, tmp_path: Path, started: Callable[..., Any]
) -> None:
    """kill -9 of runner and trials, 20 times: no trial lost, none done twice, the very bits of an undisturbed sweep."""
    file = write_sweep(tmp_path / "tiny.yaml", photos, "--epochs=6", "--checkpoint-every=2", "--log-every=1")
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    assert sweep_here(file, undisturbed) == 0

    chance = random.Random(0)
    kills = 0
    while kills < 20:
        child = started(file, disturbed, workers=chance.choice([1, 2]))
        child.join(chance.uniform(0.05, 1.2))
        if child.is_alive():
            kill_tree(child.pid)
            kills += 1
        else:
            # Done early: the sweep must then be whole. Kill a new one from its beginning.
            assert child.exitcode == 0
            assert {entry.state for entry in entries(file, disturbed)} == {"finished"}
            disturbed = tmp_path / f"disturbed {kills}"
        child.join(10)
    child = started(file, disturbed)
    child.join(120)
    assert child.exitcode == 0

    done = entries(file, disturbed)
    assert [entry.state for entry in done] == ["finished"] * 4
    assert [entry.attempts for entry in done] == [0] * 4  # being killed along is no failure of theirs
    assert [entry.value for entry in done] == [entry.value for entry in entries(file, undisturbed)]
    study = trial_queue(file, disturbed)._study
    complete = [trial.user_attrs["point"] for trial in study.trials if trial.state.name == "COMPLETE"]
    assert sorted(complete) == [0, 1, 2, 3]
    assert len(list(disturbed.glob("tiny/*/config.json"))) == 4
    for number in range(4):
        assert same_bits(weights_of(run_folder(undisturbed, number)), weights_of(run_folder(disturbed, number)))


def tell(file: Path, runs: Path, child: Any, how: str) -> None:
    if how == "harness sweep stop":
        trial_queue(file, runs).ask_to_stop()
    else:
        os.kill(child.pid, getattr(signal, how))


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(
    ("how", "code"), [("harness sweep stop", 0), ("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129), ("SIGKILL", -9)]
)
def test_a_sweep_that_is_stopped_leaves_states_and_no_trainers(
    how: str, code: int, processes: int, photos: Path, tmp_path: Path, started: Callable[..., Any]
) -> None:
    file = write_sweep(tmp_path / "tiny.yaml", photos, *ENDLESS)
    runs = tmp_path / "runs"
    child = started(file, runs, processes=processes)
    assert wait_for(lambda: any(path.stat().st_size > 500 for path in runs.rglob("metrics.jsonl")), 60)
    family = descendants(child.pid)
    assert len(family) >= 1 + processes

    tell(file, runs, child, how)
    child.join(10)
    assert child.exitcode == code
    assert wait_for(lambda: not any(is_running(pid) for pid in family), 10), [pid for pid in family if is_running(pid)]

    [folder] = runs.glob("tiny/*-0")
    assert json.loads((folder / "summary.json").read_text())["state"] == "preempted"
    assert (folder / "checkpoints" / "state.safetensors").exists()
    assert [entry.state for entry in entries(file, runs)] == ["interrupted", "waiting", "waiting", "waiting"]

    # Given again, it goes on with the same run.
    steps = len((folder / "metrics.jsonl").read_text().splitlines())
    again = started(file, runs, processes=processes)
    assert wait_for(lambda: len((folder / "metrics.jsonl").read_text().splitlines()) > steps + 3, 60)
    assert [path.name for path in runs.glob("tiny/lr*")] == [folder.name]
    kill_tree(again.pid)


def test_a_trial_that_dies_is_tried_again_and_goes_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As when the kernel ends it because memory has run out."""
    file = write_sweep(tmp_path / "tiny.yaml", photos, "--epochs=2", parameters={"lr": {"values": [1e-3]}})
    assert sweep_here(file, tmp_path / "undisturbed") == 0
    killed = tmp_path / "killed"
    evaluate = train_module.evaluate

    def evaluate_once(*arguments: Any) -> Any:
        if killed.exists():
            return evaluate(*arguments)
        killed.touch()
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(train_module, "evaluate", evaluate_once)
    capfd.readouterr()
    assert sweep_here(file, tmp_path / "runs") == 0
    assert "killed (SIGKILL)" in capfd.readouterr().out
    [entry] = entries(file, tmp_path / "runs")
    assert (entry.state, entry.attempts) == ("finished", 1)
    assert same_bits(weights_of(run_folder(tmp_path / "undisturbed", 0)), weights_of(run_folder(tmp_path / "runs", 0)))


def test_what_keeps_failing_is_noted_and_the_others_go_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file = write_sweep(tmp_path / "tiny.yaml", photos, "--epochs=1")
    optimise = train_module.training_step

    def broken(state: Any, batch: Any, lr: float, *rest: Any) -> Any:
        if lr == 1e-2:
            raise RuntimeError("a bug in the program")
        return optimise(state, batch, lr, *rest)

    monkeypatch.setattr(train_module, "training_step", broken)
    assert sweep_here(file, tmp_path / "runs", retries=1) == 1
    done = entries(file, tmp_path / "runs")
    assert [entry.state for entry in done] == ["finished", "failed", "finished", "failed"]
    assert [entry.attempts for entry in done] == [0, 2, 0, 2]
    assert done[1].reason == "a bug in the program"

    # Given again, it leaves them alone; with more retries and the bug put right, they are done under the same run.
    assert sweep_here(file, tmp_path / "runs", retries=1) == 1
    monkeypatch.setattr(train_module, "training_step", optimise)
    assert sweep_here(file, tmp_path / "runs", retries=2) == 0
    again = entries(file, tmp_path / "runs")
    assert [entry.state for entry in again] == ["finished"] * 4
    assert [entry.run_id for entry in again] == [entry.run_id for entry in done]


def test_a_trial_with_a_damaged_summary_fails_with_the_reason_and_the_sweep_continues(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file = write_sweep(tmp_path / "tiny.yaml", photos, "--epochs=1")
    end = RunLogger.end

    def end_damaged(logger: RunLogger, state: str, **options: Any) -> None:
        end(logger, state, **options)
        if logger.config.lr == 1e-2:
            (logger.folder.path / "summary.json").write_text("[]")

    monkeypatch.setattr(RunLogger, "end", end_damaged)
    assert sweep_here(file, tmp_path / "runs", retries=0) == 1
    done = entries(file, tmp_path / "runs")
    assert [entry.state for entry in done] == ["finished", "failed", "finished", "failed"]
    folder = run_folder(tmp_path / "runs", 1)
    assert done[1].reason == (
        f"{folder / 'summary.json'} is damaged (it holds a list instead of an object). Move the run folder away and "
        "repeat `harness sweep run`: it starts this trial again."
    )
    monkeypatch.undo()

    # The trial fails again as long as the folder is there, and is done once it is moved away.
    assert sweep_here(file, tmp_path / "runs", retries=0) == 1
    assert [entry.state for entry in entries(file, tmp_path / "runs")] == ["finished", "failed", "finished", "failed"]
    for number in (1, 3):
        run_folder(tmp_path / "runs", number).rename(tmp_path / f"damaged-{number}")
    assert sweep_here(file, tmp_path / "runs", retries=0) == 0
    assert [entry.state for entry in entries(file, tmp_path / "runs")] == ["finished"] * 4


def test_a_sweep_in_which_nothing_works_is_given_up(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("the driver is too old")

    monkeypatch.setattr(train_module, "training_step", broken)
    parameters = {"seed": {"values": list(range(9))}}
    file = write_sweep(tmp_path / "tiny.yaml", photos, "--epochs=1", parameters=parameters)
    assert sweep_here(file, tmp_path / "runs", retries=0) == 1
    states = [entry.state for entry in entries(file, tmp_path / "runs")]
    assert states == ["failed"] * 5 + ["waiting"] * 4
    assert "5 trials failed, and none has ended well" in capfd.readouterr().out


def test_a_trial_that_hangs_is_ended(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    hung = tmp_path / "hung"
    optimise = train_module.training_step

    def hang_once(state: Any, *rest: Any) -> Any:
        if state.progress.step == 2 and not hung.exists():
            hung.touch()
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # deaf, too
            time.sleep(600)
        return optimise(state, *rest)

    monkeypatch.setattr(train_module, "training_step", hang_once)
    monkeypatch.setattr("harness.sweep.execution.running_trial.GRACE_SECONDS", 0.5)
    file = write_sweep(tmp_path / "tiny.yaml", photos, "--epochs=1", parameters={"lr": {"values": [1e-3]}})
    assert sweep_here(file, tmp_path / "runs", timeout=3.0) == 0
    [entry] = entries(file, tmp_path / "runs")
    assert (entry.state, entry.attempts) == ("finished", 1)
    assert "no progress for 3 s" in capfd.readouterr().out


def test_a_setting_that_cannot_be_trained_is_not_tried_again(photos: Path, tmp_path: Path) -> None:
    parameters = {"lr": {"values": [1e6, 1e-3]}, "optimizer": {"value": "sgd"}}
    file = write_sweep(tmp_path / "tiny.yaml", photos, "--epochs=2", parameters=parameters)
    assert sweep_here(file, tmp_path / "runs") == 0
    first, second = entries(file, tmp_path / "runs")
    assert (first.state, first.attempts, second.state) == ("infeasible", 0, "finished")
    assert first.reason is not None
    assert "training loss became" in first.reason


def test_early_termination_stops_what_is_not_among_the_best(photos: Path, tmp_path: Path) -> None:
    """Of three trials at epoch 1 the two best may go on, and of two both: W&B's threshold is the value at n // eta."""
    file = write_sweep(
        tmp_path / "tiny.yaml",
        photos,
        "--epochs=20",
        parameters={"lr": {"values": [1e-3, 1e-7, 1e-8]}},
        metric={"name": "val/loss", "goal": "minimize"},
        early_terminate={"type": "hyperband", "min_iter": 1, "eta": 2},
    )
    assert sweep_here(file, tmp_path / "runs") == 0
    done = entries(file, tmp_path / "runs")
    assert [entry.state for entry in done] == ["finished", "finished", "stopped"]
    assert done[2].reason is not None
    assert done[2].reason.startswith("early termination after epoch 1, at val/loss 1.0")
    rows = (run_folder(tmp_path / "runs", 2) / "metrics.jsonl").read_text().splitlines()
    assert sum("val/loss" in row for row in rows) < 20
    assert "test/f1" not in summaries(tmp_path / "runs")[run_folder(tmp_path / "runs", 2).name]


def test_a_changed_file_is_refused_with_the_difference(photos: Path, tmp_path: Path) -> None:
    file = write_sweep(tmp_path / "tiny.yaml", photos, "--epochs=1", parameters={"lr": {"values": [1e-3]}})
    assert sweep_here(file, tmp_path / "runs") == 0
    file.write_text("# a comment changes nothing\n" + file.read_text())
    assert sweep_here(file, tmp_path / "runs") == 0
    file.write_text(file.read_text().replace("0.001", "0.002"))
    with pytest.raises(ConfigError) as refused:
        sweep_here(file, tmp_path / "runs")
    assert "-    - 0.001\n+    - 0.002" in str(refused.value)
    file.write_text(file.read_text().replace("0.002", "0.001"))
    with pytest.raises(ConfigError, match="---seed 0\n\\+--seed 1"):
        sweep_here(file, tmp_path / "runs", search=Search(seed=1))


def test_a_second_runner_on_this_machine_is_refused(photos: Path, tmp_path: Path, started: Callable[..., Any]) -> None:
    file = write_sweep(tmp_path / "tiny.yaml", photos, *ENDLESS)
    child = started(file, tmp_path / "runs")
    assert wait_for(lambda: any((tmp_path / "runs").rglob("metrics.jsonl")), 60)
    with pytest.raises(HarnessError, match=f"is running here already \\(pid {child.pid}\\)"):
        sweep_here(file, tmp_path / "runs")


def test_what_is_wrong_is_said_before_the_first_trial(photos: Path, tmp_path: Path) -> None:
    file = write_sweep(tmp_path / "tiny.yaml", tmp_path / "nothing", "--epochs=1")
    with pytest.raises(HarnessError, match="nothing"):
        sweep_here(file, tmp_path / "runs")
    file = write_sweep(tmp_path / "tiny.yaml", photos, parameters={"epochs": {"values": [1, 0]}})
    with pytest.raises(ConfigError, match="--epochs is 0"):
        sweep_here(file, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_an_error_of_the_runner_itself_ends_its_trials(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_sweep(tmp_path / "tiny.yaml", photos, *ENDLESS)
    seen: list[int] = []

    def fail_once_running(runner: Runner) -> None:
        if any((tmp_path / "runs").rglob("metrics.jsonl")):
            seen.extend(one.process.pid for one in runner.running.values() if one.process.pid)
            raise RuntimeError("a bug in the runner")

    monkeypatch.setattr(runner_module.Runner, "_handle_stop_requests", fail_once_running)
    with pytest.raises(RuntimeError, match="a bug in the runner"):
        sweep_here(file, tmp_path / "runs")
    assert seen
    assert not any(is_running(pid) for pid in seen)
