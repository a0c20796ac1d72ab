"""The time that a runner has, in a batch job: it starts no trial that is expected to end later."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Iterable
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from harness.errors import ConfigError
from harness.runs.rules import duration
from harness.sweep.plan.estimate import UnknownCost, estimate
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.search.trial_record import STARTABLE
from harness.sweep.whereabouts import SCORES


class TimeLimit:
    """Decides for one runner whether another trial fits into its time."""

    def __init__(self, end_by: float | None, trial_queue: TrialQueue, folder: Path) -> None:
        self._end_by, self._trial_queue, self._folder = end_by, trial_queue, folder

    def shortage(self) -> str | None:
        """One sentence if trials remain, but the next one is expected to take longer than is left; else None."""
        if self._end_by is None or not any(record.state in STARTABLE for record in self._trial_queue.records()):
            return None
        left = max(0.0, self._end_by - time.time())
        expected = self._median_seconds() or self._planned_seconds
        if left > 0 and (expected is None or expected <= left):
            return None
        takes = f"A trial takes about {duration(expected)}" if expected else "The next trial takes some time"
        return f"{takes}, and {duration(left)} are left of this job: the remaining trials are left to other workers."

    def awaits_first_end(self) -> bool:
        """Whether no trial has ended yet, so that it is unknown if another one fits into the time."""
        return self._end_by is not None and not self._median_seconds()

    def _median_seconds(self) -> float | None:
        return median_seconds(self._trial_queue.study.get_trials(deepcopy=False))

    @functools.cached_property  # it reads the data folder
    def _planned_seconds(self) -> float | None:
        """The plan's estimate from earlier runs beside the sweep; None if there are none like these."""
        sweep = self._trial_queue.sweep
        points = [record.settings for record in self._trial_queue.records() if record.settings]
        try:
            # For a Bayesian search, which has not chosen any settings yet, the middle of each range.
            middle = {parameter.name: parameter.at(0.5) for parameter in sweep.parameters}
            configs = [sweep.config(point) for point in points or [middle]]
            return estimate(configs, len(configs), runs_dir=self._folder.parent, probe=False, workers=1).trial_seconds
        except (UnknownCost, ConfigError):
            return None


def median_seconds(trials: Iterable[FrozenTrial]) -> float | None:
    """The median time that finished trials took; None without one. Results that were taken over took none."""
    ended = [trial for trial in trials if trial.state == TrialState.COMPLETE and "run_folder" not in trial.user_attrs]
    lengths = [length for trial in ended if (length := _seconds(trial))]
    return statistics.median(lengths) if lengths else None


def _seconds(trial: FrozenTrial) -> float:
    """How long a finished trial has run; of a resumed one, all starts without the pauses between them."""
    scores = trial.user_attrs.get(SCORES, {})
    # The first counts from the last start on, the others all starts.
    known = scores.get("seconds/total", 0.0), scores.get("seconds/train", 0.0) + scores.get("seconds/evaluate", 0.0)
    # A ledger of an earlier version has no scores: from the first start to the end.
    return max(known) or (trial.duration.total_seconds() if trial.duration else 0.0)
