"""Whether a job of a sweep is queued again when its worker has ended."""

from __future__ import annotations

import signal

from harness.runs.rules import duration
from harness.slurm.job import WARNING_SECONDS
from harness.sweep.execution.budget import SPENT
from harness.sweep.execution.time_limit import median_seconds
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.search.trial_record import STARTABLE

INTERRUPTED = 128 + signal.SIGTERM


def reason_to_end(
    trial_queue: TrialQueue, state: str, time_limit: float | None, task: str, *, since: float, code: int
) -> str | None:
    """Why a task of a job array ends for good; None if it is to be queued again.

    `state` and `time_limit` (seconds) are Slurm's, `since` (Unix time) and `code` are the start and the exit code of
    the worker.
    """
    if code not in (0, INTERRUPTED):
        return f"its worker failed with exit code {code}"
    if state != "RUNNING":
        return f"it is {state.lower() or 'unknown to Slurm'}"
    attributes = trial_queue.study.user_attrs
    if attributes.get("stop_asked", 0.0) > since:  # by the clock of the machine that asked
        return "the sweep was stopped"
    states = {record.state for record in trial_queue.records()}
    is_spent = attributes.get(SPENT.format(job=task), 0.0) > since
    # A trial that Slurm interrupted is still finished.
    if is_spent and not (code == INTERRUPTED and "interrupted" in states):
        return "its --max-hours, --target or --patience was reached"
    if not states & set(STARTABLE):
        return "no trials are left to start"
    expected = median_seconds(trial_queue.study.get_trials(deepcopy=False))
    # After an interruption the next start resumes a trial, however long it takes.
    if code == 0 and expected and time_limit and expected > time_limit - WARNING_SECONDS:
        return (
            f"a trial takes about {duration(expected)}, and the time limit is {duration(time_limit)}. Give a longer "
            "--time, or remove --end-by from the batch script to run trials in parts"
        )
    return None
