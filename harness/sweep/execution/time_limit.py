"""The time that a runner has, in a batch job: it starts no trial that is expected to end later."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from harness.errors import ConfigError
from harness.runs.rules import duration
from harness.sweep.plan.estimate import UnknownCost, estimate
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.spec.sweep_file import Sweep

# States of trials that a runner can start.
STARTABLE = ("waiting", "interrupted")


class TimeLimit:
    """Keeps the plan's estimate, which reads the data folder, once it is needed."""

    def __init__(self, end_by: float | None, sweep: Sweep, folder: Path) -> None:
        self._end_by, self._sweep, self._folder = end_by, sweep, folder
        self._planned: float | None = None  # not a number: unknown

    def shortage(self, trial_queue: TrialQueue) -> str | None:
        """One sentence if trials remain, but the next one is expected to take longer than is left; else None."""
        if self._end_by is None or not any(record.state in STARTABLE for record in trial_queue.records()):
            return None
        left = max(0.0, self._end_by - time.time())
        expected = median_seconds(trial_queue.study.get_trials(deepcopy=False)) or self._planned_seconds(trial_queue)
        if left > 0 and (expected is None or expected <= left):
            return None
        takes = f"A trial takes about {duration(expected)}" if expected else "The next trial takes some time"
        return f"{takes}, and {duration(left)} are left of this job: the remaining trials are left to other workers."

    def awaits_first_end(self, trial_queue: TrialQueue) -> bool:
        """Whether no trial has ended yet, so that it is unknown if another one fits into the time."""
        return self._end_by is not None and not median_seconds(trial_queue.study.get_trials(deepcopy=False))

    def _planned_seconds(self, trial_queue: TrialQueue) -> float | None:
        """The plan's estimate from earlier runs beside the sweep; None if there are none like these."""
        if self._planned is None:
            points = [record.settings for record in trial_queue.records() if record.settings]
            try:
                # For a Bayesian search, which has not chosen any settings yet, the middle of each range.
                middle = {parameter.name: parameter.at(0.5) for parameter in self._sweep.parameters}
                configs = [self._sweep.config(point) for point in points or [middle]]
                cost = estimate(configs, len(configs), runs_dir=self._folder.parent, probe=False, workers=1)
                self._planned = cost.trial_seconds
            except (UnknownCost, ConfigError):
                self._planned = math.nan
        return None if math.isnan(self._planned) else self._planned


def median_seconds(trials: Sequence[FrozenTrial]) -> float | None:
    """The median duration of finished trials; None without one.

    It counts from the first start to the end, with the pause of a trial that was interrupted.
    """
    durations = [trial.duration for trial in trials if trial.state == TrialState.COMPLETE]
    return statistics.median(length.total_seconds() for length in durations if length) if any(durations) else None
