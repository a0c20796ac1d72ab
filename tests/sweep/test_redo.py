"""Trials that run again or are left out: `harness sweep retry`, `harness sweep skip`, more retries, more memory."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from harness.cli.main import main
from harness.errors import HarnessError, LockedError
from harness.runs.folder import RunFolder
from harness.sweep import redo
from harness.sweep.search import ledger
from harness.sweep.search.reuse import _complete
from harness.sweep.search.settings import Search
from harness.sweep.search.storage import JOURNAL
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.spec.sweep_file import read_sweep
from tests.helpers.sweeping import write_sweep

SIX = {"seed": {"values": list(range(6))}}


@pytest.fixture
def ended(tmp_path: Path) -> tuple[Path, Path, TrialQueue]:
    """A sweep whose trials are finished, failed, infeasible, stopped, interrupted and waiting."""
    file = write_sweep(tmp_path / "tiny.yaml", tmp_path, parameters=SIX)
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    # A journal, which is quicker than a database; a sweep finds it in its folder.
    queue = TrialQueue.open(read_sweep(file), Search(), folder, str(folder / JOURNAL))
    endings: list[Any] = [
        ("finished", {"value": 0.5}),
        ("failed", {"reason": "a bug"}),
        ("infeasible", {"reason": "Out of memory.", "memory": 1000}),
        ("stopped", {"reason": "pruned"}),
    ]
    for state, details in endings:
        claimed = queue.claim()
        assert claimed is not None
        RunFolder(folder / f"s{claimed.number}-{claimed.run_id}").write(
            "summary.json", {"state": state, "best/epoch": 1}
        )
        queue.end(queue.attempt_failed(claimed) if state == "failed" else claimed, state, **details)
    interrupted = queue.claim()
    assert interrupted is not None
    queue.release(interrupted)
    return file, folder, queue


def states(queue: TrialQueue) -> list[str]:
    return [record.state for record in queue.records()]


def summary_of(folder: Path, number: int) -> dict[str, Any]:
    [path] = folder.glob(f"s{number}-*/summary.json")
    return json.loads(path.read_text())


def test_failed_trials_are_queued_again_with_all_their_attempts(ended: tuple[Path, Path, TrialQueue]) -> None:
    _, folder, queue = ended
    assert states(queue) == ["finished", "failed", "infeasible", "stopped", "interrupted", "waiting"]
    before = queue.records()[1]
    assert [record.number for record in redo.retry(queue, folder, (), failed=True)] == [1]
    after = queue.records()[1]
    assert (after.state, after.attempts, after.run_id, after.settings) == ("waiting", 0, before.run_id, {"seed": 1})
    assert redo.retry(queue, folder, (), failed=True) == []


def test_a_named_trial_runs_again_from_its_checkpoints(ended: tuple[Path, Path, TrialQueue]) -> None:
    _, folder, queue = ended
    redo.retry(queue, folder, (2, 3, 2), failed=False)
    assert states(queue) == ["finished", "failed", "waiting", "waiting", "interrupted", "waiting"]
    # Its old ending must not be taken for the new one.
    assert summary_of(folder, 2) == summary_of(folder, 3) == {"state": "preempted", "best/epoch": 1}
    numbers = []
    while claimed := queue.claim():
        numbers.append(claimed.run_id.rpartition("-")[2])
        queue.end(claimed, "finished", value=0.1)
    assert sorted(numbers) == ["2", "3", "4", "5"]
    assert states(queue) == ["finished", "failed", "finished", "finished", "finished", "finished"]


def test_two_retries_at_the_same_moment_run_the_trial_once(ended: tuple[Path, Path, TrialQueue]) -> None:
    _, _, queue = ended
    record = queue.records()[2]
    queue.requeue(record, attempts=0)
    queue.requeue(record, attempts=0)
    claims = []
    while claimed := queue.claim():
        claims.append(claimed.point)
        queue.end(claimed, "finished", value=0.1)
    assert sorted(claims) == [2, 4, 5]
    assert states(queue)[2] == "finished"


def test_unsuitable_numbers_are_all_named(ended: tuple[Path, Path, TrialQueue]) -> None:
    _, folder, queue = ended
    with pytest.raises(HarnessError) as error:
        redo.retry(queue, folder, (0, 1, 5, 99), failed=False)
    first, second, third = error.value.problems
    assert first.startswith("Trial 0 cannot run again: it is finished.")
    assert second.startswith("Trial 5 cannot run again: it is waiting.")
    assert third.startswith("There is no trial 99.")
    assert states(queue)[1] == "failed"
    with pytest.raises(HarnessError, match="Trial 3 cannot be skipped: it is stopped"):
        redo.skip(queue, (1, 3))
    assert states(queue)[1] == "failed"


def test_a_trial_whose_run_lives_is_not_queued_again(ended: tuple[Path, Path, TrialQueue]) -> None:
    _, folder, queue = ended
    [path] = folder.glob("s3-*")
    with RunFolder(path).locked(), pytest.raises(LockedError):
        redo.retry(queue, folder, (3,), failed=False)
    assert states(queue)[3] == "stopped"


def test_skipped_trials_do_not_run_until_they_are_retried(ended: tuple[Path, Path, TrialQueue]) -> None:
    file, folder, queue = ended
    redo.skip(queue, (1, 2, 4, 5))
    assert states(queue) == ["finished", "skipped", "skipped", "stopped", "skipped", "skipped"]
    assert queue.claim() is None and queue.unsettled() == []
    again = TrialQueue.open(read_sweep(file), Search(), folder, None)  # the next `run`
    redo.requeue_at_start(again, folder, 9, 10**6)
    assert states(again) == ["finished", "skipped", "skipped", "stopped", "skipped", "skipped"]
    redo.retry(again, folder, (1, 5), failed=False)
    assert [again.records()[number].state for number in (1, 5)] == ["waiting", "waiting"]
    claimed = again.claim()
    assert claimed is not None and claimed.settings == {"seed": 1}
    assert again.study.trials[claimed.number].params == {"seed": 1}  # what Optuna's samplers read


def test_a_number_names_its_own_trial_after_a_search_has_grown(tmp_path: Path) -> None:
    """An added point of a Bayesian search, and a trial of its raised count, may have the same place."""
    lr = {"lr": {"distribution": "uniform", "min": 1e-5, "max": 1e-1}}
    sweep = read_sweep(write_sweep(tmp_path / "tiny.yaml", tmp_path, method="bayes", parameters=lr))
    TrialQueue.open(sweep, Search(count=1), tmp_path, None).add([{"lr": 0.5}])
    queue = TrialQueue.open(sweep, Search(count=2), tmp_path, None)
    assert [record.number for record in redo.skip(queue, (1,))] == [1]
    assert {record.number: record.state for record in queue.records()} == {0: "waiting", 1: "skipped", 2: "waiting"}
    while claimed := queue.claim():
        queue.end(claimed, "failed", reason="a bug")
    redo.retry(queue, tmp_path, (1,), failed=False)
    redo.skip(queue, (2,))
    assert sorted(record.state for record in queue.records()) == ["failed", "skipped", "waiting"]
    [waiting] = [record for record in queue.records() if record.state == "waiting"]
    assert waiting.settings == {"lr": 0.5}


def test_a_number_stands_for_the_result_of_another_folder_that_was_taken_over(
    ended: tuple[Path, Path, TrialQueue],
) -> None:
    """A trial that was queued again and then got a reused result has the run id of that result's folder."""
    _, folder, queue = ended
    redo.retry(queue, folder, (1,), failed=False)
    waiting = queue.records()[1]
    run = SimpleNamespace(name="s1", manifest={}, path=folder / "s1", metric=lambda name: 0.5)
    trial = ledger.read_trial(queue.study, waiting.number)
    assert _complete(queue.study, queue.sweep, trial, run)  # type: ignore[arg-type]
    assert queue.records()[1].run_id == "s1"
    for number in (1, waiting.number):
        with pytest.raises(HarnessError, match=f"Trial {number} cannot run again: it is finished"):
            redo.retry(queue, folder, (number,), failed=False)


def test_more_memory_runs_an_infeasible_trial_again(ended: tuple[Path, Path, TrialQueue]) -> None:
    _, folder, queue = ended
    for memory in (None, 900, 1000, 1099):
        redo.requeue_at_start(queue, folder, 0, memory)
        assert states(queue)[2] == "infeasible"
    redo.requeue_at_start(queue, folder, 0, 2000)
    assert states(queue)[:3] == ["finished", "failed", "waiting"]
    assert summary_of(folder, 2)["state"] == "preempted"
    redo.requeue_at_start(queue, folder, 1, None)
    assert states(queue)[1] == "waiting"


def test_the_end_of_a_run_names_the_failed_trials_and_the_remedy(ended: tuple[Path, Path, TrialQueue]) -> None:
    file, _, queue = ended
    sweep = read_sweep(file)
    assert list(redo.failed_lines(queue.records(), sweep)) == [
        "1 of 6 trials failed:",
        "  trial 1 (seed 1): a bug",
        f"To run them again: harness sweep retry {file} --failed, then repeat this command.",
        f"To leave trials out: harness sweep skip {file} TRIAL...",
    ]
    redo.skip(queue, (1,))
    assert list(redo.failed_lines(queue.records(), sweep)) == []


def test_retry_and_skip_work_on_the_command_line(ended: tuple[Path, Path, TrialQueue]) -> None:
    file, folder, _ = ended

    def sweep(*words: str) -> Any:
        result = CliRunner().invoke(main, ["sweep", words[0], str(file), "--runs-dir", str(folder.parent), *words[1:]])
        return result.exit_code, result.output

    assert sweep("retry") == (2, "Error: Name the trials to queue again by their numbers, or give --failed.\n")
    assert sweep("skip")[0] == 2
    assert sweep("skip", "5", "2") == (0, "Skipped: 5, 2.\n")
    assert sweep("retry", "--failed") == (0, f"Queued again: 1.\nTo run them: harness sweep run {file}\n")
    assert sweep("retry", "--failed") == (0, "No trial of this sweep has failed.\n")
    assert sweep("retry", "0") == (
        1,
        "Error: Trial 0 cannot run again: it is finished. Possible for trials that are failed, infeasible, stopped or "
        "skipped.\n",
    )
    code, table = sweep("status")
    assert code == 0 and table.count("skipped") == 2
