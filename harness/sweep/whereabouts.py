"""Where the runs of a sweep are: on which machine, in which job and in which folder. The trial queue stores it.

Machines that share a trial queue need not share a disk: their runs are known to each other by these notes only.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial

from harness.errors import printable
from harness.runs.folder import RunFolder
from harness.sweep.search.ledger import set_attribute
from harness.sweep.search.trial_queue import TrialQueue

# Attributes of a trial in the queue: where it runs, and the scores of its run.
RUN, SCORES = "run", "scores"

# What leaderboards show of a run on another machine, whose folder they cannot read.
SCORE_PREFIXES = ("best/", "test/", "seconds/")


@dataclass(frozen=True)
class Whereabouts:
    """Of one run."""

    host: str
    job: str  # a job of Slurm or a task of an array, such as 7_2; empty outside of Slurm
    path: str
    epochs: int

    @property
    def machine(self) -> str:
        """For people: "n1 (job 7_2)"."""
        return printable(f"{self.host} (job {self.job})" if self.job else self.host)


def slurm_job() -> str:
    """The job of Slurm, or the task of an array, that this process belongs to; empty outside of Slurm."""
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
    return os.environ.get("SLURM_JOB_ID", "")


def write_whereabouts(trial_queue: TrialQueue, number: int, folder: RunFolder, epochs: int) -> None:
    """Store where a trial runs: here, in this folder."""
    host = os.environ.get("SLURMD_NODENAME") or platform.node()
    note = {"host": host, "job": slurm_job(), "path": str(folder.path), "epochs": epochs}
    set_attribute(trial_queue.study, number, RUN, note)


def write_scores(trial_queue: TrialQueue, number: int, summary: Mapping[str, Any]) -> None:
    """Store the scores in the summary of a run that has ended."""
    numbers = {key: value for key, value in summary.items() if isinstance(value, int | float)}
    scores = {key: value for key, value in numbers.items() if key.startswith(SCORE_PREFIXES)}
    set_attribute(trial_queue.study, number, SCORES, scores)


def whereabouts_of(trial: FrozenTrial) -> Whereabouts | None:
    """Where the run of a trial is; None before it starts."""
    note = trial.user_attrs.get(RUN)
    return Whereabouts(**note) if note else None
