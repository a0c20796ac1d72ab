"""A runner with a time limit starts no trial that is expected to take longer."""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import Any

import pytest

from harness.sweep.execution import time_limit
from harness.sweep.execution.time_limit import TimeLimit, median_seconds
from harness.sweep.plan.estimate import Cost
from harness.sweep.search.ledger import set_attribute
from harness.sweep.search.settings import Search
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.spec.sweep_file import read_sweep
from harness.sweep.whereabouts import write_scores
from tests.helpers.sweeping import records, sweep_here, write_sweep

LRS = {"lr": {"values": [1e-4, 1e-3, 1e-2, 1e-1]}}


@pytest.fixture
def queue(data_folder: Path, tmp_path: Path) -> TrialQueue:
    """Four trials."""
    sweep = read_sweep(write_sweep(tmp_path / "tiny.yaml", data_folder, parameters=LRS))
    return TrialQueue.open(sweep, Search(), tmp_path, None)


def finish_trials(queue: TrialQueue, seconds: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """End one trial after each of these durations."""
    get_trials = queue.study.get_trials
    for _ in seconds:
        claimed = queue.claim()
        assert claimed is not None
        queue.end(claimed, "finished", value=0.5)

    def with_durations(deepcopy: bool = True, states: Any = None) -> list[Any]:
        found = get_trials(deepcopy, states)
        for trial, length in zip(found, seconds, strict=False):
            trial.datetime_complete = trial.datetime_start + datetime.timedelta(seconds=length)
        return found

    monkeypatch.setattr(queue.study, "get_trials", with_durations)


def limit(queue: TrialQueue, left: float, folder: Path) -> str | None:
    return TimeLimit(time.time() + left, queue, folder / "runs" / "tiny").shortage()


def test_the_median_of_finished_trials_decides(
    queue: TrialQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish_trials(queue, [600.0, 90.0, 60.0], monkeypatch)
    assert median_seconds(queue.study.get_trials()) == 90.0
    assert limit(queue, 100.0, tmp_path) is None
    shortage = limit(queue, 80.0, tmp_path)
    assert shortage is not None
    assert shortage.startswith("A trial takes about 1 min 30 s, and 1 min 20 s are left of this job:")
    # Without a limit, and with nothing left to start, there is enough time.
    assert TimeLimit(None, queue, tmp_path).shortage() is None
    assert queue.claim() is not None
    assert limit(queue, 1.0, tmp_path) is None


def test_pauses_and_results_that_were_taken_over_do_not_count(
    queue: TrialQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial that waited for a day after Slurm had preempted it, and one that was trained elsewhere."""
    for trial in queue.study.trials[:2]:
        if trial.number == 0:
            summary = {"seconds/total": 40.0, "seconds/train": 80.0, "seconds/evaluate": 10.0}
            write_scores(queue, trial.number, summary)
        else:
            set_attribute(queue.study, trial.number, "run_folder", "/elsewhere")
    finish_trials(queue, [86_400.0, 0.01], monkeypatch)
    assert median_seconds(queue.study.get_trials()) == 90.0
    assert limit(queue, 100.0, tmp_path) is None and limit(queue, 80.0, tmp_path) is not None


def test_an_unknown_duration_is_tried_while_time_is_left(queue: TrialQueue, tmp_path: Path) -> None:
    assert limit(queue, 5.0, tmp_path) is None
    assert limit(queue, -5.0, tmp_path) is not None


def test_the_plans_estimate_decides_before_a_trial_has_finished(
    queue: TrialQueue, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From an earlier sweep beside this one."""
    earlier = write_sweep(tmp_path / "earlier.yaml", data_folder, "--epochs=1", parameters={"lr": {"values": [1e-3]}})
    assert sweep_here(earlier, tmp_path / "runs") == 0
    estimates: list[Cost] = []
    estimate = time_limit.estimate
    monkeypatch.setattr(
        time_limit, "estimate", lambda *args, **kw: estimates.append(estimate(*args, **kw)) or estimates[-1]
    )
    checked = TimeLimit(time.time() + 1e6, queue, tmp_path / "runs" / "tiny")
    assert checked.shortage() is None
    assert checked.shortage() is None
    [cost] = estimates  # it reads the data folder, so it is made once
    assert 0 < cost.trial_seconds < 1000
    checked = TimeLimit(time.time() + cost.trial_seconds / 100, queue, tmp_path / "runs" / "tiny")
    assert checked.shortage() is not None


def test_a_runner_without_time_starts_no_trial_and_exits_with_0(
    data_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = write_sweep(tmp_path / "tiny.yaml", data_folder, "--epochs=1", parameters=LRS)
    assert sweep_here(file, tmp_path / "runs", end_by=time.time() - 1) == 0
    assert {record.state for record in records(file, tmp_path / "runs")} == {"waiting"}
    assert "the remaining trials are left to other workers" in capfd.readouterr().out


def test_a_runner_whose_time_ends_finishes_what_it_runs(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_sweep(tmp_path / "tiny.yaml", data_folder, "--epochs=1", parameters=LRS)
    monkeypatch.setattr(
        time_limit, "median_seconds", lambda trials: 1e6 if len(trials) and trials[0].state.is_finished() else 0.0
    )
    assert sweep_here(file, tmp_path / "runs", end_by=time.time() + 1e5) == 0
    assert [record.state for record in records(file, tmp_path / "runs")] == ["finished", *["waiting"] * 3]
