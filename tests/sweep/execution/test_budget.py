"""Budgets of a sweep: no further trial after some hours, at a target, or without progress."""

from __future__ import annotations

import functools
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.slurm.requeue import reason_to_end
from harness.sweep.execution import budget as budget_module
from harness.sweep.execution.budget import SPENT, BudgetWatch
from harness.sweep.execution.runner_options import RunnerOptions
from harness.sweep.repeat_best import RepeatBest
from harness.sweep.search.settings import Search
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.session import check_inputs
from harness.sweep.spec.sweep_file import read_sweep
from tests.helpers.sweeping import records, sweep_here, trial_queue, write_sweep

VALUES = [0.5, 0.7, 0.6, 0.9, 0.8, 0.7, 0.6, 0.5]


def finished_until(budget: RunnerOptions, tmp_path: Path, storage: str, metric: str = "best/val_f1") -> tuple[int, str]:
    """Finish trials with VALUES until the budget is spent; returns their number, and the reason."""
    goal: Any = "minimize" if metric.endswith("loss") else "maximize"
    parameters = {"seed": {"values": list(range(len(VALUES)))}}
    file = write_sweep(tmp_path / "tiny.yaml", tmp_path, parameters=parameters, metric={"name": metric, "goal": goal})
    trial_queue = TrialQueue.open(read_sweep(file), Search(), tmp_path, storage.format(tmp_path))
    watch = BudgetWatch(budget, trial_queue)
    count = 0
    while not watch.is_spent() and (claimed := trial_queue.claim()):
        sign = -1 if goal == "minimize" else 1
        trial_queue.end(claimed, "finished", value=sign * VALUES[claimed.number])
        count += 1
    return count, watch.reason


@pytest.mark.parametrize("storage", ["sqlite:///{}/study.db", "{}/journal.log"])
@pytest.mark.parametrize(
    ("budget", "count", "reason"),
    [
        (RunnerOptions(), 8, ""),
        (RunnerOptions(target=0.7), 2, "best/val_f1 reached 0.7000 (--target 0.7)"),
        (RunnerOptions(target=0.95), 8, ""),
        (RunnerOptions(patience=2), 6, "2 finished trials brought no better best/val_f1 than 0.9000 (--patience)"),
        (RunnerOptions(patience=1), 3, "1 finished trials brought no better best/val_f1 than 0.7000 (--patience)"),
        (RunnerOptions(max_hours=1.0), 8, ""),
    ],
)
def test_when_no_further_trial_starts(
    storage: str, budget: RunnerOptions, count: int, reason: str, tmp_path: Path
) -> None:
    ended, why = finished_until(budget, tmp_path, storage)
    assert ended == count
    assert why.startswith(f"No further trial was started: {reason}.") if reason else why == ""


def test_a_target_of_a_loss_is_an_upper_limit(tmp_path: Path) -> None:
    assert finished_until(RunnerOptions(target=-0.85), tmp_path, "sqlite:///{}/study.db", "val/loss")[0] == 4


def test_the_hours_of_a_runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1800.0, 3599.0, 3600.0])
    monkeypatch.setattr(budget_module, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    ended, reason = finished_until(RunnerOptions(max_hours=1.0), tmp_path, "sqlite:///{}/study.db")
    assert ended == 2
    assert reason.startswith("No further trial was started: 1 h are over (--max-hours). To run the others, repeat the")


def test_a_file_that_another_machine_changed_starts_no_trial_here(tmp_path: Path) -> None:
    file, storage = tmp_path / "tiny.yaml", str(tmp_path / "journal.log")
    here = TrialQueue.open(read_sweep(write_sweep(file, tmp_path)), Search(), tmp_path, storage)
    watch = BudgetWatch(RunnerOptions(), here)
    assert not watch.is_spent()
    changed = read_sweep(write_sweep(file, tmp_path, "--epochs=9"))
    TrialQueue.open(changed, Search(), tmp_path, storage, accept=True)
    assert watch.is_spent() and "a changed sweep file was run on another machine" in watch.reason


def test_a_sweep_ends_at_its_target_and_resumes_without_it(
    data_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}.items():
        monkeypatch.setenv(name, value)
    started = time.time()
    parameters = {"lr": {"values": [1e-3, 1e-2]}}
    file = write_sweep(tmp_path / "tiny.yaml", data_folder, "--epochs=1", parameters=parameters)
    assert sweep_here(file, tmp_path / "runs", target=0.0) == 0
    assert [record.state for record in records(file, tmp_path / "runs")] == ["finished", "waiting"]
    remedy = "(--target 0). To run the others, repeat the command with another --target, or without it"
    assert remedy in capfd.readouterr().out
    # A Slurm job that ended for this reason would end at once again. Other jobs, and later starts, are not concerned.
    ended = functools.partial(reason_to_end, trial_queue(file, tmp_path / "runs"), "RUNNING", None, code=0)
    assert ended("7_2", since=started) == "its --max-hours, --target or --patience was reached"
    assert ended("7_1", since=started) is None and ended("7_2", since=time.time()) is None
    assert sweep_here(file, tmp_path / "runs") == 0
    assert [record.state for record in records(file, tmp_path / "runs")] == ["finished"] * 2


def test_a_limit_that_leaves_no_trial_is_not_announced(
    data_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the hours are those of the command: more seeds of the best setting do not have as many again."""
    runs = tmp_path / "runs"

    def hours_pass_with_the_first_trial() -> float:
        return 3600.0 * any('"finished"' in path.read_text() for path in runs.rglob("summary.json"))

    clock = SimpleNamespace(monotonic=hours_pass_with_the_first_trial, time=time.time)
    monkeypatch.setattr(budget_module, "time", clock)
    file = write_sweep(tmp_path / "tiny.yaml", data_folder, "--epochs=1", parameters={"lr": {"values": [1e-3]}})
    assert sweep_here(file, runs, max_hours=1.0, target=0.0) == 0  # which is checked when the trial has ended
    assert "No further trial" not in capfd.readouterr().out
    shutil.rmtree(runs)
    assert sweep_here(file, runs, max_hours=1.0, repeat=RepeatBest(1, 2)) == 0
    assert [record.state for record in records(file, runs)] == ["finished", "waiting"]
    assert "No further trial was started: 1 h are over (--max-hours)." in capfd.readouterr().out


def test_a_limit_that_could_not_be_stored_is_stored_by_the_next_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    queue = TrialQueue.open(read_sweep(write_sweep(tmp_path / "tiny.yaml", tmp_path)), Search(), tmp_path, None)
    watch = BudgetWatch(RunnerOptions(max_hours=0.0), queue)

    def fail(*args: Any) -> None:
        raise OSError("database is locked")

    with monkeypatch.context() as context, pytest.raises(OSError, match="database is locked"):
        context.setattr(queue.study, "set_user_attr", fail)
        watch.is_spent()
    assert watch.is_spent() and SPENT.format(job="9") in queue.study.user_attrs


def test_a_job_that_slurm_interrupted_at_its_limit_finishes_its_trial_and_starts_no_other(
    data_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2", "SLURM_RESTART_COUNT": "1"}
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    parameters = {"lr": {"values": [1e-3, 1e-2]}}
    file = write_sweep(tmp_path / "tiny.yaml", data_folder, "--epochs=1", parameters=parameters)
    sweep, folder = read_sweep(file), tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    queue = TrialQueue.open(sweep, Search(), folder, None, check_inputs(sweep, Search()))
    ended = functools.partial(reason_to_end, queue, "RUNNING", None, "7_2")
    claimed, spent = queue.claim(), "its --max-hours, --target or --patience was reached"
    assert claimed is not None
    queue.study.set_user_attr(SPENT.format(job="7_2"), time.time())
    assert ended(since=0.0, code=143) == spent  # no trial was interrupted: the others would not be started
    queue.release(claimed)
    assert ended(since=0.0, code=0) == spent and ended(since=0.0, code=143) is None

    restarted = time.time()
    assert sweep_here(file, tmp_path / "runs", max_hours=1.0) == 0
    assert [record.state for record in records(file, tmp_path / "runs")] == ["finished", "waiting"]
    assert "No further trial was started: this job had reached a limit before Slurm" in capfd.readouterr().out
    assert ended(since=restarted, code=0) == spent
