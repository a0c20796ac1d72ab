"""When a sweep starts no more trials before all have run: after some hours, at a target, or without progress."""

from __future__ import annotations

import dataclasses
import time

from harness.runs.rules import Goal
from harness.sweep.search.ledger import finished_values
from harness.sweep.search.trial_queue import TrialQueue

CHANGED = (
    "No further trial was started: a changed sweep file was run on another machine in the meantime. To run the trials "
    "of the file on this machine, repeat the command."
)


@dataclasses.dataclass(frozen=True)
class Budget:
    """Limits of a sweep, as far as they are not None. Running trials end normally."""

    max_hours: float | None = None  # since this runner started
    target: float | None = None  # value of the metric
    patience: int | None = None  # finished trials without a better value

    @property
    def has_limits(self) -> bool:
        return any(limit is not None for limit in dataclasses.astuple(self))

    @property
    def depends_on_results(self) -> bool:
        """Whether the result of one trial decides if another one starts."""
        return self.target is not None or self.patience is not None


NO_LIMITS = Budget()


class BudgetWatch:
    """Decides for one runner whether it may start another trial."""

    def __init__(self, budget: Budget, trial_queue: TrialQueue, metric: str, goal: Goal) -> None:
        self._budget, self._trial_queue, self._metric, self._goal = budget, trial_queue, metric, goal
        self._started = time.monotonic()
        self.reason = ""  # why no trial is started any more, once that is so

    def is_spent(self) -> bool:
        """Whether no further trial may be started; from then on it stays so."""
        if not self.reason and not self._trial_queue.is_current():
            self.reason = CHANGED
        if not self.reason and self._budget.has_limits:
            self.reason = self._exceeded()
        return bool(self.reason)

    def _exceeded(self) -> str:
        hours, target, patience = self._budget.max_hours, self._budget.target, self._budget.patience
        if hours is not None and time.monotonic() - self._started >= hours * 3600:
            return _sentence(f"{hours:g} h are over (--max-hours)", "repeat the command: it has as many hours again")
        sign = 1 if self._goal == "maximize" else -1
        values = finished_values(self._trial_queue.study)
        best = max((sign * value for value, _ in values), default=None)
        if target is not None and best is not None and best >= sign * target:
            reached = f"{self._metric} reached {sign * best:.4f} (--target {target:g})"
            return _sentence(reached, "repeat the command with another --target, or without it")
        if patience is not None and best is not None:
            first = next(place for place, (value, _) in enumerate(values) if sign * value == best)
            since = sum(not is_reused for _, is_reused in values[first + 1 :])
            if since >= patience:
                gain = f"{since} finished trials brought no better {self._metric} than {sign * best:.4f}"
                return _sentence(f"{gain} (--patience)", "repeat the command with more --patience, or without it")
        return ""


def _sentence(what: str, remedy: str) -> str:
    return f"No further trial was started: {what}. To run the others, {remedy}."
