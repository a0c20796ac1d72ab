"""When a sweep starts no more trials before all have run: after some hours, at a target, or without progress."""

from __future__ import annotations

import os
import time

from harness.sweep.execution.runner_options import RunnerOptions
from harness.sweep.search.ledger import finished_values
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.whereabouts import slurm_job

# The attribute of a study that holds when the worker in a Slurm job reached a limit (Unix time).
SPENT = "budget of {job} spent"

CHANGED = (
    "No further trial was started: a changed sweep file was run on another machine in the meantime. To run the trials "
    "of the file on this machine, repeat the command."
)


class BudgetWatch:
    """Decides for one runner whether it may start another trial."""

    def __init__(self, options: RunnerOptions, trial_queue: TrialQueue) -> None:
        self._options, self._trial_queue, self._metric = options, trial_queue, trial_queue.sweep.metric
        self._started = time.monotonic()
        self._is_restarted = os.environ.get("SLURM_RESTART_COUNT", "0") != "0"
        self._was_spent = self._is_restarted and SPENT.format(job=slurm_job()) in trial_queue.study.user_attrs
        self.reason = ""  # why no trial is started any more, once that is so

    def is_spent(self) -> bool:
        """Whether no trial may begin any more; from then on it stays so."""
        if not self.reason and not self._trial_queue.is_current():
            self.reason = CHANGED
        elif not self.reason and (reason := self._exceeded()):
            if job := slurm_job():  # it would otherwise be queued again, and end at once again
                self._trial_queue.study.set_user_attr(SPENT.format(job=job), time.time())
            self.reason = reason
        return bool(self.reason)

    @property
    def may_resume(self) -> bool:
        """Whether trials that have begun are finished nevertheless: Slurm interrupted this job, and restarted it."""
        return self._is_restarted and self.reason != CHANGED

    def _exceeded(self) -> str:
        if self._was_spent:
            return _sentence("this job had reached a limit before Slurm restarted it", "submit the sweep again")
        hours, target, patience = self._options.max_hours, self._options.target, self._options.patience
        if hours is not None and time.monotonic() - self._started >= hours * 3600:
            return _sentence(f"{hours:g} h are over (--max-hours)", "repeat the command: it has as many hours again")
        if not self._options.results_decide:
            return ""
        name, sign = self._metric.name, 1 if self._metric.goal == "maximize" else -1
        values = finished_values(self._trial_queue.study)
        best = max((sign * value for value, _ in values), default=None)
        if target is not None and best is not None and best >= sign * target:
            reached = f"{name} reached {sign * best:.4f} (--target {target:g})"
            return _sentence(reached, "repeat the command with another --target, or without it")
        if patience is not None and best is not None:
            first = next(place for place, (value, _) in enumerate(values) if sign * value == best)
            since = sum(not is_reused for _, is_reused in values[first + 1 :])
            if since >= patience:
                gain = f"{since} finished trials brought no better {name} than {sign * best:.4f}"
                return _sentence(f"{gain} (--patience)", "repeat the command with more --patience, or without it")
        return ""


def _sentence(what: str, remedy: str) -> str:
    return f"No further trial was started: {what}. To run the others, {remedy}."
