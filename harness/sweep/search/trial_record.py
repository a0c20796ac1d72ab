"""One trial of the trial queue: what is recorded of it, how it can end, and what its runner gets."""

from __future__ import annotations

import dataclasses
from typing import Any

from optuna.trial import TrialState

# States in which a trial can end, and Optuna's state for each.
ENDINGS = {
    "finished": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    # Samplers ignore FAIL; with PRUNED they avoid such settings.
    "infeasible": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}

# States of records that a runner can start, and of those that have ended.
STARTABLE = ("waiting", "interrupted")
ENDED = ("finished", "stopped", "infeasible", "failed", "skipped", "removed")


@dataclasses.dataclass(frozen=True)
class TrialRecord:
    """A point of the sweep and its newest trial."""

    number: int
    point: int
    run_id: str
    settings: dict[str, Any] | None  # None until a Bayesian search chooses them
    state: str  # waiting, running, interrupted, finished, stopped, infeasible, failed, skipped, removed
    attempts: int
    value: float | None
    reason: str | None
    owner: str | None  # host name of the runner of a running trial
    memory: int | None = None  # bytes that were too few for an infeasible trial
    heartbeat: float | None = None  # Unix time of a running trial's last one, by the clock of its machine
    in_file: bool = True  # the sweep file had it at the last `run`, or it was added by hand
    run_folder: str | None = None  # of a result that was taken over from another folder


@dataclasses.dataclass(frozen=True)
class ClaimedTrial:
    """A trial that this process has claimed."""

    number: int
    point: int
    run_id: str
    settings: dict[str, Any]
    attempts: int  # earlier attempts, which failed
