"""The sweep runner: each trial runs exactly once, whatever is killed, and no process is left behind."""

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
from harness.runs import figures
from harness.runs.folder import BEST, RunFolder
from harness.runs.logger import RunLogger
from harness.sweep.execution import memory as memory_module
from harness.sweep.execution import runner as runner_module
from harness.sweep.execution.resources import Slot
from harness.sweep.execution.runner import Runner
from harness.sweep.execution.runner_options import RunnerOptions
from harness.sweep.execution.running_trial import RunningTrial
from harness.sweep.plan import benchmark
from harness.sweep.plan.plan import plan
from harness.sweep.search.settings import Search
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.spec.sweep_file import read_sweep
from tests.helpers.sweeping import (
    descendants,
    kill_tree,
    let_fail,
    records,
    start_sweep,
    sweep_here,
    trial_queue,
    write_sweep,
)
from tests.helpers.waiting import wait_for
from tests.test_train import same_bits, weights_of

# Trials at the first learning rate fail in some tests.
TWO = {"lr": {"values": [1e-2, 1e-3]}}

ENDLESS = ("--epochs=100000", "--log-every=1")


def summaries(runs: Path) -> dict[str, dict[str, Any]]:
    """Summaries by the names of the runs."""
    return {path.parent.name: json.loads(path.read_text()) for path in runs.glob("*/*/summary.json")}


def run_folder(runs: Path, number: int) -> Path:
    [folder] = runs.glob(f"*/*-{number}")
    return folder


@pytest.fixture
def started() -> Iterator[Callable[..., Any]]:
    """A function that starts sweeps in child processes; those that still run are killed at the end."""
    children = []

    def start(*arguments: Any, **options: Any) -> Any:
        children.append(start_sweep(*arguments, **options))
        return children[-1]

    yield start
    for child in children:
        if child.is_alive():
            kill_tree(child.pid)


def test_every_point_of_a_grid_runs_in_order(
    data_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = write_sweep(tmp_path / "tiny.yaml", data_folder, "--epochs=1")
    assert sweep_here(file, tmp_path / "runs") == 0

    done = records(file, tmp_path / "runs")
    order = [("none", 1e-3), ("none", 1e-2), ("standard", 1e-3), ("standard", 1e-2)]
    assert [(record.settings["augment"], record.settings["lr"]) for record in done] == order
    assert [record.state for record in done] == ["finished"] * 4
    for record in done:
        folder = run_folder(tmp_path / "runs", record.number)
        assert folder.name.endswith(record.run_id)
        summary = json.loads((folder / "summary.json").read_text())
        assert record.value == summary["best/val_f1"]
        config = json.loads((folder / "config.json").read_text())
        assert (config["augment"], config["lr"]) == (record.settings["augment"], record.settings["lr"])
    assert (tmp_path / "runs" / "tiny" / "sweep.yaml").read_text() == file.read_text()

    # The same command again starts no trial and prints the leaderboard.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("summary.json")}
    capfd.readouterr()
    assert sweep_here(file, tmp_path / "runs") == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("summary.json")} == before
    printed = capfd.readouterr().out
    assert "started" not in printed
    assert "Best by best/val_f1: " in printed


@pytest.mark.parametrize(
    ("memory", "patience", "overlaps"),
    [(10**15, None, True), (10**15, 5, False), (1, None, False)],
)
def test_the_next_trial_starts_while_a_tested_one_draws_its_figures(
    memory: int,
    patience: int | None,
    overlaps: bool,
    data_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not with --patience, where the result of a trial decides whether there is a next one, nor without memory."""
    monkeypatch.setattr(memory_module, "available_memory", lambda: memory)
    file = write_sweep(tmp_path / "tiny.yaml", data_folder, "--epochs=1", parameters={"seed": {"values": [0, 1]}})
    runs, save = tmp_path / "runs", figures.save

    def save_after_the_next_start(figure: Any, path: Path) -> Path:
        if path.name == "loss_curve.png" and path.parent.parent.name.endswith("-0"):
            has_begun = wait_for(lambda: len(list(runs.glob("*/*/manifest.json"))) == 2, 60 if overlaps else 1)
            niceness = os.getpriority(os.PRIO_PROCESS, 0)
            (tmp_path / "second has begun").write_text(f"{has_begun}, niceness {niceness}")
        return save(figure, path)

    monkeypatch.setattr(figures, "save", save_after_the_next_start)
    assert sweep_here(file, runs, patience=patience) == 0
    # Beside another trial, it draws in the time that this one leaves.
    niceness = min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10 * overlaps)
    assert (tmp_path / "second has begun").read_text() == f"{overlaps}, niceness {niceness}"
    assert [record.state for record in records(file, runs)] == ["finished"] * 2
    assert len(list(runs.glob("*/*/figures/*.png"))) == 6


def test_memory_is_read_once_a_second_and_a_stop_is_requested_once(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop turns 20 times a second. A look at the memory reads a file of each process, a request writes one."""
    sweep = read_sweep(write_sweep(tmp_path / "tiny.yaml", data_folder))
    queue = TrialQueue.open(sweep, Search(), tmp_path, None)
    claimed = queue.claim()
    assert claimed is not None
    folder = RunFolder(tmp_path)
    folder.write("summary.json", {"state": "running"})
    fields: Any = (
        claimed,
        sweep.config(claimed.settings),
        Slot(0, (), (), 1),
        SimpleNamespace(pid=1),
        folder,
        tmp_path,
        None,
    )
    trial = RunningTrial(*fields, prune_reason="pruned")
    looks: list[int] = []
    monkeypatch.setattr(runner_module, "has_memory_for_another", looks.append)
    one = Runner(queue, tmp_path, [], RunnerOptions(start_method="fork"))
    assert not any(one._frees_slot(trial) for _ in range(3))
    assert looks == [1]
    trial.ask_to_stop()
    (tmp_path / "stop").write_text("untouched")
    trial.ask_to_stop()
    assert (tmp_path / "stop").read_text() == "untouched"


def test_predictions_of_an_earlier_start_do_not_count_as_tested(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.predictions.write_text("earlier")
    earlier = folder.predictions.stat().st_mtime_ns
    fields: Any = (None, None, None, None, folder, tmp_path / "log", None)
    trial = RunningTrial(*fields, earlier_predictions=earlier)
    assert not trial.is_tested
    os.utime(folder.predictions, ns=(earlier, earlier + 1))
    assert trial.is_tested


def test_two_workers_run_the_trials_of_one_sweep(data_folder: Path, tmp_path: Path) -> None:
    file = write_sweep(tmp_path / "tiny.yaml", data_folder, "--epochs=1", parameters=TWO)
    assert sweep_here(file, tmp_path / "one") == 0
    assert sweep_here(file, tmp_path / "two", workers=2) == 0
    values = [[record.value for record in records(file, tmp_path / runs)] for runs in ("one", "two")]
    assert values[0] == values[1]
    assert None not in values[0]


def test_the_end_of_a_trial_that_another_machine_took_over_is_not_recorded(
    data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = read_sweep(write_sweep(tmp_path / "tiny.yaml", data_folder))
    queue = TrialQueue.open(sweep, Search(), tmp_path, None)
    claimed = queue.claim()
    assert claimed is not None
    monkeypatch.setattr(queue, "owns", lambda _: False)
    folder, process = RunFolder(tmp_path / "run"), SimpleNamespace(exitcode=1)
    trial: Any = SimpleNamespace(claimed=claimed, folder=folder, process=process, log=tmp_path, hung=False)
    runner = Runner(queue, tmp_path, [], RunnerOptions(start_method="fork"))
    runner.endings.settle(trial, interrupted=False)
    assert "another runner took over this trial" in capsys.readouterr().out
    assert (queue.records()[0].state, queue.records()[0].attempts) == ("running", 0) and not runner._pending


def test_trials_with_two_processes_give_the_scores_of_one(data_folder: Path, tmp_path: Path) -> None:
    file = write_sweep(tmp_path / "tiny.yaml", data_folder, "--epochs=1", parameters={"lr": {"values": [1e-3, 1e-4]}})
    assert sweep_here(file, tmp_path / "one") == 0
    assert sweep_here(file, tmp_path / "two", processes=2) == 0
    # Sorted by trial number, the end of a folder's name. Adam's first steps amplify the last bits of a gradient.
    one, two = (
        [summary["best/val_loss"] for _, summary in sorted(summaries(tmp_path / runs).items(), key=lambda s: s[0][-1])]
        for runs in ("one", "two")
    )
    assert one[0] != pytest.approx(one[1], rel=0.1)
    assert two == pytest.approx(one, rel=1e-3)
    [manifest] = {json.loads(path.read_text())["processes"] for path in (tmp_path / "two").rglob("manifest.json")}
    assert manifest == 2


@pytest.mark.slow
def test_a_sweep_killed_at_random_moments_runs_each_trial_once(
    data_folder: Path, tmp_path: Path, started: Callable[..., Any]
) -> None:
    """kill -9 of runner and trials, 12 times: no trial is lost or repeated, and the weights are bit-identical."""
    file = write_sweep(tmp_path / "tiny.yaml", data_folder, "--epochs=6", "--checkpoint-every=2", "--log-every=1")
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    assert sweep_here(file, undisturbed) == 0

    chance = random.Random(0)
    kills = 0
    while kills < 12:
        child = started(file, disturbed, workers=chance.choice([1, 2]))
        child.join(chance.uniform(0.05, 1.2))
        if child.is_alive():
            kill_tree(child.pid)
            kills += 1
        else:
            # It finished first, so it must be complete. Continue with a new sweep.
            assert child.exitcode == 0
            assert {record.state for record in records(file, disturbed)} == {"finished"}
            disturbed = tmp_path / f"disturbed {kills}"
        child.join(10)
    child = started(file, disturbed)
    child.join(120)
    assert child.exitcode == 0

    done = records(file, disturbed)
    assert [record.state for record in done] == ["finished"] * 4
    assert [record.attempts for record in done] == [0] * 4  # a trial that is killed with its runner has not failed
    assert [record.value for record in done] == [record.value for record in records(file, undisturbed)]
    study = trial_queue(file, disturbed).study
    complete = [trial.user_attrs["point"] for trial in study.trials if trial.state.name == "COMPLETE"]
    assert sorted(complete) == [0, 1, 2, 3]
    assert len(list(disturbed.glob("tiny/*/config.json"))) == 4
    for number in range(4):
        assert same_bits(weights_of(run_folder(undisturbed, number)), weights_of(run_folder(disturbed, number)))


def stop_sweep(file: Path, runs: Path, child: Any, how: str) -> None:
    if how == "harness sweep stop":
        trial_queue(file, runs).request_stop()
    else:
        os.kill(child.pid, getattr(signal, how))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "code", "processes"),
    [
        *(("harness sweep stop", 0, 1), ("SIGHUP", 129, 1), ("SIGKILL", -9, 1)),
        *(("SIGINT", 130, 2), ("SIGTERM", 143, 2), ("SIGKILL", -9, 2)),
    ],
)
def test_a_stopped_sweep_saves_states_and_leaves_no_process(
    how: str, code: int, processes: int, data_folder: Path, tmp_path: Path, started: Callable[..., Any]
) -> None:
    file = write_sweep(tmp_path / "tiny.yaml", data_folder, *ENDLESS)
    runs = tmp_path / "runs"
    child = started(file, runs, processes=processes)
    assert wait_for(lambda: any(path.stat().st_size > 500 for path in runs.rglob("metrics.jsonl")), 60)
    family = descendants(child.pid)
    assert len(family) >= 1 + processes

    stop_sweep(file, runs, child, how)
    child.join(10)
    assert child.exitcode == code
    assert wait_for(lambda: not any(is_running(pid) for pid in family), 10), [pid for pid in family if is_running(pid)]

    [folder] = runs.glob("tiny/*-0")
    assert json.loads((folder / "summary.json").read_text())["state"] == "preempted"
    assert (folder / "checkpoints" / "state.safetensors").exists()
    assert [record.state for record in records(file, runs)] == ["interrupted", "waiting", "waiting", "waiting"]

    # The same command resumes the same run.
    steps = len((folder / "metrics.jsonl").read_text().splitlines())
    again = started(file, runs, processes=processes)
    assert wait_for(lambda: len((folder / "metrics.jsonl").read_text().splitlines()) > steps + 3, 60)
    assert [path.name for path in runs.glob("tiny/*_s0-*")] == [folder.name]
    kill_tree(again.pid)


def test_a_killed_trial_is_retried_and_resumes(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The kernel kills a trial like this if memory runs out."""
    file = write_sweep(tmp_path / "tiny.yaml", data_folder, "--epochs=2", parameters={"lr": {"values": [1e-3]}})
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
    [record] = records(file, tmp_path / "runs")
    assert (record.state, record.attempts) == ("finished", 1)
    assert same_bits(weights_of(run_folder(tmp_path / "undisturbed", 0)), weights_of(run_folder(tmp_path / "runs", 0)))


def test_a_trial_that_keeps_failing_is_recorded_and_the_others_continue(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file = write_sweep(tmp_path / "tiny.yaml", data_folder, "--epochs=1", parameters=TWO)
    training_step = train_module.training_step
    let_fail(monkeypatch, lr=1e-2)
    assert sweep_here(file, tmp_path / "runs", retries=1) == 1
    done = records(file, tmp_path / "runs")
    assert [record.state for record in done] == ["failed", "finished"]
    assert [record.attempts for record in done] == [2, 0]
    assert done[0].reason == "a bug in the program"

    # The same command does not retry them. A task of a job array that finds nothing to do ends well.
    with monkeypatch.context() as task:
        task.setenv("SLURM_JOB_ID", "7")  # also in a shell of salloc
        assert sweep_here(file, tmp_path / "runs", retries=1) == 1
        task.setenv("SLURM_ARRAY_TASK_ID", "0")
        assert sweep_here(file, tmp_path / "runs", retries=1) == 0
        # It fails if one of its trials does.
        trial_queue(file, tmp_path / "runs").requeue(done[0], attempts=1)
        assert sweep_here(file, tmp_path / "runs", retries=1) == 1

    # With more retries and without the bug, they finish under the same run ids.
    monkeypatch.setattr(train_module, "training_step", training_step)
    assert sweep_here(file, tmp_path / "runs", retries=2) == 0
    again = records(file, tmp_path / "runs")
    assert [record.state for record in again] == ["finished"] * 2
    assert [record.run_id for record in again] == [record.run_id for record in done]


def test_a_trial_with_a_damaged_summary_fails_with_the_reason_and_the_sweep_continues(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file = write_sweep(tmp_path / "tiny.yaml", data_folder, "--epochs=1", parameters=TWO)
    end = RunLogger.end

    def end_damaged(logger: RunLogger, state: str, **options: Any) -> None:
        end(logger, state, **options)
        if logger.config.lr == 1e-2:
            (logger.folder.path / "summary.json").write_text("[]")

    monkeypatch.setattr(RunLogger, "end", end_damaged)
    assert sweep_here(file, tmp_path / "runs", retries=0) == 1
    done = records(file, tmp_path / "runs")
    assert [record.state for record in done] == ["failed", "finished"]
    folder = run_folder(tmp_path / "runs", 0)
    assert done[0].reason == (
        f"{folder / 'summary.json'} is damaged (it holds a list instead of an object). Move the run folder away and "
        "repeat `harness sweep run`: it starts this trial again."
    )
    monkeypatch.undo()

    # The trial fails again as long as its folder is there; it runs once the folder is moved away.
    assert sweep_here(file, tmp_path / "runs", retries=0) == 1
    assert [record.state for record in records(file, tmp_path / "runs")] == ["failed", "finished"]
    run_folder(tmp_path / "runs", 0).rename(tmp_path / "damaged")
    assert sweep_here(file, tmp_path / "runs", retries=0) == 0
    assert [record.state for record in records(file, tmp_path / "runs")] == ["finished"] * 2


def test_a_sweep_stops_if_five_trials_fail_one_after_another(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also after a success: the driver may break in the night."""
    training_step = train_module.training_step

    def broken(state: Any, batch: Any, lr: float, config: Any, *rest: Any) -> Any:
        if config.seed > 0:
            raise RuntimeError("the driver is too old")
        return training_step(state, batch, lr, config, *rest)

    monkeypatch.setattr(train_module, "training_step", broken)
    parameters = {"seed": {"values": list(range(9))}}
    file = write_sweep(tmp_path / "tiny.yaml", data_folder, "--epochs=1", parameters=parameters)
    assert sweep_here(file, tmp_path / "runs", retries=0) == 1
    states = [record.state for record in records(file, tmp_path / "runs")]
    assert states == ["finished"] + ["failed"] * 5 + ["waiting"] * 3
    assert "5 trials failed one after another" in capfd.readouterr().out


def test_a_hung_trial_is_killed_and_retried(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    hung = tmp_path / "hung"
    training_step = train_module.training_step

    def hang_once(state: Any, *rest: Any) -> Any:
        if state.progress.step == 2 and not hung.exists():
            hung.touch()
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # it ignores SIGTERM
            time.sleep(600)
        return training_step(state, *rest)

    monkeypatch.setattr(train_module, "training_step", hang_once)
    monkeypatch.setattr("harness.sweep.execution.running_trial.GRACE_SECONDS", 0.5)
    # A hung trial counts as one at once, and a busy machine is not taken for a hung trial.
    made_no_progress_for = RunningTrial.made_no_progress_for

    def made_no_progress(trial: RunningTrial, timeout: float) -> bool:
        trial.last_progress -= 3600.0 * (hung.exists() and not trial.claimed.attempts)
        return made_no_progress_for(trial, timeout)

    monkeypatch.setattr(RunningTrial, "made_no_progress_for", made_no_progress)
    file = write_sweep(tmp_path / "tiny.yaml", data_folder, "--epochs=1", parameters={"lr": {"values": [1e-3]}})
    assert sweep_here(file, tmp_path / "runs", timeout=3600.0) == 0
    [record] = records(file, tmp_path / "runs")
    assert (record.state, record.attempts) == ("finished", 1)
    assert "no progress for 3600 s" in capfd.readouterr().out


def test_an_infeasible_trial_is_not_retried(data_folder: Path, tmp_path: Path) -> None:
    parameters = {"lr": {"values": [1e6, 1e-3]}, "optimizer": {"value": "sgd"}}
    file = write_sweep(tmp_path / "tiny.yaml", data_folder, "--epochs=2", parameters=parameters)
    assert sweep_here(file, tmp_path / "runs") == 0
    first, second = records(file, tmp_path / "runs")
    assert (first.state, first.attempts, second.state) == ("infeasible", 0, "finished")
    assert first.reason is not None
    assert "training loss became" in first.reason


def test_early_termination_stops_trials_that_are_not_among_the_best(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three trials at epoch 1 the best two continue, and of two both: W&B's threshold is the value at n // eta."""
    file = write_sweep(
        tmp_path / "tiny.yaml",
        data_folder,
        "--epochs=4",
        parameters={"lr": {"values": [1e-3, 1e-7, 1e-8]}},
        metric={"name": "val/loss", "goal": "minimize"},
        early_terminate={"type": "hyperband", "min_iter": 1, "eta": 2},
    )
    training_step = train_module.training_step

    def wait_for_the_runner(state: Any, batch: Any, lr: float, config: Any, *rest: Any) -> Any:
        """The last trial must not be faster than the runner that prunes it."""
        if config.lr == 1e-8 and state.progress.epochs == 1:
            assert wait_for(lambda: any((tmp_path / "runs").glob("*/*-2/stop")), 60)
        return training_step(state, batch, lr, config, *rest)

    monkeypatch.setattr(train_module, "training_step", wait_for_the_runner)
    assert sweep_here(file, tmp_path / "runs") == 0
    done = records(file, tmp_path / "runs")
    assert [record.state for record in done] == ["finished", "finished", "stopped"]
    assert done[2].reason is not None
    assert done[2].reason.startswith("early termination after epoch 1, at val/loss 1.0")
    rows = (run_folder(tmp_path / "runs", 2) / "metrics.jsonl").read_text().splitlines()
    assert sum("val/loss" in row for row in rows) == 1
    assert "test/f1" not in summaries(tmp_path / "runs")[run_folder(tmp_path / "runs", 2).name]

    # No trial keeps its optimiser's state, and the plan's estimate of the disk holds.
    assert {path.name for path in (tmp_path / "runs").glob("*/*/checkpoints/*")} == {BEST}
    monkeypatch.setattr(benchmark, "SECONDS", 1e-9)
    monkeypatch.setattr(benchmark, "SCORING_SECONDS", 1e-9)
    cost = plan(read_sweep(file), Search(), runs_dir=tmp_path / "none").cost
    assert cost is not None
    used = sum(path.stat().st_size for path in (tmp_path / "runs" / "tiny").rglob("*") if path.is_file())
    assert used / 2 < cost.disk(3, None)[0] < used * 2  # the sizes of figures depend on the version of matplotlib


def test_a_second_runner_on_this_machine_is_an_error(
    data_folder: Path, tmp_path: Path, started: Callable[..., Any]
) -> None:
    file = write_sweep(tmp_path / "tiny.yaml", data_folder, *ENDLESS)
    child = started(file, tmp_path / "runs")
    assert wait_for(lambda: any((tmp_path / "runs").rglob("metrics.jsonl")), 60)
    with pytest.raises(HarnessError, match=f"is already running on this machine \\(pid {child.pid}\\)"):
        sweep_here(file, tmp_path / "runs")


def test_problems_are_reported_before_the_first_trial(data_folder: Path, tmp_path: Path) -> None:
    file = write_sweep(tmp_path / "tiny.yaml", tmp_path / "nothing", "--epochs=1")
    with pytest.raises(HarnessError, match="nothing"):
        sweep_here(file, tmp_path / "runs")
    file = write_sweep(tmp_path / "tiny.yaml", data_folder, parameters={"epochs": {"values": [-1, 0]}})
    with pytest.raises(ConfigError, match="--epochs is 0"):
        sweep_here(file, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_an_error_of_the_runner_itself_ends_its_trials(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_sweep(tmp_path / "tiny.yaml", data_folder, *ENDLESS)
    trial_pids: list[int] = []

    def fail_once_running(runner: Runner) -> None:
        if any((tmp_path / "runs").rglob("metrics.jsonl")):
            trial_pids.extend(trial.process.pid for trial in runner.running if trial.process.pid)
            raise RuntimeError("a bug in the runner")

    monkeypatch.setattr(runner_module.Runner, "_handle_stop_requests", fail_once_running)
    with pytest.raises(RuntimeError, match="a bug in the runner"):
        sweep_here(file, tmp_path / "runs")
    assert trial_pids
    assert not any(is_running(pid) for pid in trial_pids)
