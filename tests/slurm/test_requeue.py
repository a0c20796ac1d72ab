"""When a task of a sweep is queued again, and when it ends for good."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from harness.slurm import requeue
from harness.slurm.requeue import reason_to_end


def queue_of(*states: str, stop: float = 0.0) -> Any:
    records = [SimpleNamespace(state=state) for state in states]
    study = SimpleNamespace(get_trials=lambda deepcopy: [], user_attrs={"stop_asked": stop})
    return SimpleNamespace(records=lambda: records, study=study)


@pytest.mark.parametrize("code", [0, 143])
@pytest.mark.parametrize("state", ["waiting", "interrupted"])
def test_trials_that_remain_queue_a_task_again(state: str, code: int) -> None:
    queue = queue_of("finished", state)
    assert reason_to_end(queue, "RUNNING", 3600.0, "7_0", since=time.time(), code=code) is None


def test_reasons_to_end() -> None:
    waiting = queue_of("waiting")

    def reason(queue: Any = waiting, state: str = "RUNNING", code: int = 0) -> str | None:
        return reason_to_end(queue, state, 3600.0, "7_0", since=100.0, code=code)

    assert reason(queue_of("finished", "failed", "running")) == "no trials are left to start"
    assert reason(queue_of("waiting", stop=101.0)) == "the sweep was stopped"
    assert reason(queue_of("waiting", stop=99.0)) is None
    assert reason(state="COMPLETING") == "it is completing"
    assert reason(state="") == "it is unknown to Slurm"
    assert reason(code=1) == "its worker failed with exit code 1"
    assert reason(code=137) == "its worker failed with exit code 137"


def test_a_limit_that_no_trial_fits_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requeue, "median_seconds", lambda trials: 3500.0)
    queue = queue_of("waiting")
    reason = reason_to_end(queue, "RUNNING", 3600.0, "7_0", since=0.0, code=0)
    assert reason is not None
    assert reason.startswith("a trial takes about 58 min 20 s, and the time limit is 1 h 0 min")
    # A trial that Slurm's warning interrupted resumes; a longer or no limit suffices.
    assert reason_to_end(queue, "RUNNING", 3600.0, "7_0", since=0.0, code=143) is None
    assert reason_to_end(queue, "RUNNING", 3700.0, "7_0", since=0.0, code=0) is None
    assert reason_to_end(queue, "RUNNING", None, "7_0", since=0.0, code=0) is None
