"""The trial queue of a sweep: every trial, what became of it, and who is working on it.

A worker that claims a trial owns it until it reports how the trial ended, or until its lease expires.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from harness.sweep.search.lease import is_abandoned, is_mine, me
from harness.sweep.search.samplers import choose, sampler
from harness.sweep.search.settings import Search
from harness.sweep.search.study import begun_study, open_study
from harness.sweep.spec.sweep_file import Sweep

# A trial that was queued twice by accident, and is not done.
DUPLICATE = "duplicate"

# How a trial can end; the names are those of a run's own summary.
ENDINGS = {
    "finished": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    # Not FAIL, which samplers overlook: they should keep away from such settings.
    "infeasible": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


@dataclasses.dataclass(frozen=True)
class ClaimedTrial:
    """A trial that somebody has to do: its number, settings and how often it was tried."""

    number: int
    point: int
    run_id: str
    settings: dict[str, Any]
    attempts: int  # begun before, and failed


@dataclasses.dataclass(frozen=True)
class TrialRecord:
    """One line of the trial_queue: a point of the sweep and what became of it."""

    number: int
    point: int
    run_id: str
    settings: dict[str, Any] | None  # None while a Bayesian search has not chosen them
    state: str  # waiting, running, interrupted, finished, stopped, infeasible, failed
    attempts: int
    value: float | None
    reason: str | None
    owner: str | None


class TrialQueue:
    def __init__(self, study: optuna.Study, sweep: Sweep, search: Search, *, shared: bool) -> None:
        self._study, self._sweep, self._search, self._shared = study, sweep, search, shared
        self._ours: dict[int, optuna.Trial] = {}
        self.sweep_id: str = study.user_attrs["sweep_id"]

    @classmethod
    def open(cls, sweep: Sweep, search: Search, folder: Path, storage: str | None) -> TrialQueue:
        """To do trials: the study is made if need be. Raises ConfigError when it was begun with something else."""
        return cls(open_study(sweep, search, folder, storage), sweep, search, shared=storage is not None)

    @classmethod
    def begun(cls, sweep: Sweep, folder: Path, storage: str | None) -> TrialQueue:
        """To look at. Raises HarnessError when the sweep has not begun."""
        study = begun_study(sweep, folder, storage)
        return cls(study, sweep, Search(**study.user_attrs["search"]), shared=storage is not None)

    def claim(self) -> ClaimedTrial | None:
        """The next trial to do, now ours: first one whose owner is gone, then one from the queue."""
        trials = self._study.get_trials(deepcopy=False)
        self._study.sampler = sampler(self._search, sum(trial.state != TrialState.WAITING for trial in trials))
        for begun in trials:
            of_sweep = begun.state == TrialState.RUNNING and "point" in begun.user_attrs
            if of_sweep and is_abandoned(begun) and self._claim(begun):
                return self._task(begun.number)
        for _ in range(sum(trial.state == TrialState.WAITING for trial in trials)):
            trial = self._study.ask()
            self._ours[trial.number] = trial
            if "point" not in trial.user_attrs:
                # Another machine took the last of the queue in between; Optuna then makes up a trial.
                self._study.tell(trial, state=TrialState.FAIL)
                return None
            trial.set_user_attr("owner", me())
            if not self._is_queued_twice(trial):
                return self._task(trial.number)
            trial.set_user_attr("ending", {"state": DUPLICATE, "reason": None})
            self._study.tell(trial, state=TrialState.FAIL)
        return None

    def is_settled(self) -> bool:
        """Whether each trial that was begun and has not ended has an owner; the others can soon be taken."""
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return all(trial.user_attrs.get("owner") for trial in running if "point" in trial.user_attrs)

    def report(self, task: ClaimedTrial, epoch: int, value: float) -> bool:
        """Note the metric after an epoch; whether early termination wants the trial to end."""
        trial = self._trial(task.number)
        try:
            if epoch not in self._frozen(task.number).intermediate_values:
                trial.report(value, step=epoch)
            return trial.should_prune()
        except UpdateFinishedTrialError:  # by another machine
            return False

    def heartbeat(self, task: ClaimedTrial) -> bool:
        """Say that we are at it; False when it is not ours any more."""
        return self.owns(task) and self._sign(task.number, me())

    def owns(self, task: ClaimedTrial) -> bool:
        """Whether we still have the trial; another machine takes it when it has heard nothing of us for long."""
        stored = self._frozen(task.number)
        return stored.state == TrialState.RUNNING and is_mine(stored.user_attrs.get("owner"))

    def end(self, task: ClaimedTrial, state: str, *, value: float | None = None, reason: str | None = None) -> None:
        """Note how a trial ended: `finished` with its value, `stopped`, `infeasible` or `failed`."""
        if state == "finished" and value is None:
            raise ValueError("a finished trial has a value")
        with contextlib.suppress(UpdateFinishedTrialError):  # by another machine, to the same end
            self._trial(task.number).set_user_attr("ending", {"state": state, "reason": reason})
            self._study.tell(task.number, value if state == "finished" else None, ENDINGS[state])

    def attempt_failed(self, task: ClaimedTrial) -> ClaimedTrial:
        """Note that an attempt failed; the same task, to be tried again."""
        self._trial(task.number).set_user_attr("attempts", task.attempts + 1)
        return dataclasses.replace(task, attempts=task.attempts + 1)

    def release(self, task: ClaimedTrial) -> None:
        """Release an unfinished trial; the next worker to claim it resumes it."""
        if self.owns(task):
            self._sign(task.number, None)

    def queue_failed_again(self, retries: int) -> int:
        """Queue trials that failed with attempts left, under their old run; how many."""
        again = [
            (entry, self._frozen(entry.number))
            for entry in self.entries()
            if entry.state == "failed" and entry.attempts <= retries
        ]
        for entry, trial in again:
            kept = {"point": entry.point, "attempts": entry.attempts, "settings": entry.settings}
            self._study.enqueue_trial(trial.params, user_attrs={**kept, "run_id": entry.run_id})
        return len(again)

    def entries(self) -> list[TrialRecord]:
        """Every point of the sweep once, in order; of one that failed and was queued again, the newest trial."""
        shown: dict[int, FrozenTrial] = {}
        for trial in self._study.get_trials(deepcopy=False):
            point = trial.user_attrs.get("point")
            if point is None or trial.user_attrs.get("ending", {}).get("state") == DUPLICATE:
                continue
            if point not in shown or shown[point].state == TrialState.FAIL:
                shown[point] = trial
        return [self._entry(trial) for _, trial in sorted(shown.items())]

    def ask_to_stop(self) -> None:
        """Have everyone who works on this sweep end, on whatever machine."""
        self._study.set_user_attr("stop_asked", time.time())

    def stop_asked_since(self, moment: float) -> bool:
        return self._study.user_attrs.get("stop_asked", 0.0) > moment

    def _is_queued_twice(self, trial: optuna.Trial) -> bool:
        """Whether an older trial stands for the same point: two machines may have queued it at the same moment."""
        point = trial.user_attrs["point"]
        return any(
            other.user_attrs.get("point") == point and other.state != TrialState.FAIL
            for other in self._study.get_trials(deepcopy=False)[: trial.number]
        )

    def _claim(self, trial: FrozenTrial) -> bool:
        """Make an abandoned trial ours. Of two machines that try at once, the later to write has it."""
        mine = me()
        if not self._sign(trial.number, mine):
            return False
        if not self._shared:
            return True  # one process per machine and sweep: nobody else is there
        time.sleep(1.0)
        return self._frozen(trial.number).user_attrs["owner"] == mine

    def _sign(self, number: int, owner: dict[str, Any] | None) -> bool:
        """Write who has a trial; False when it has ended in the meantime, on another machine."""
        try:
            self._trial(number).set_user_attr("owner", owner)
        except UpdateFinishedTrialError:
            return False
        return True

    def _task(self, number: int) -> ClaimedTrial:
        trial = self._trial(number)
        attributes = self._frozen(number).user_attrs
        settings = choose(trial, self._sweep, attributes.get("settings"))
        if "settings" not in attributes:
            trial.set_user_attr("settings", settings)
        return ClaimedTrial(
            number, attributes["point"], self._run_id(number, attributes), settings, attributes["attempts"]
        )

    def _entry(self, trial: FrozenTrial) -> TrialRecord:
        attributes = trial.user_attrs
        ending = attributes.get("ending", {})
        match trial.state:
            case TrialState.WAITING:
                state = "waiting"
            case TrialState.RUNNING:
                state = "interrupted" if is_abandoned(trial) else "running"
            case _:
                state = ending["state"]
        owner = attributes.get("owner")
        return TrialRecord(
            trial.number,
            attributes["point"],
            self._run_id(trial.number, attributes),
            attributes.get("settings"),
            state,
            attributes["attempts"],
            trial.value if trial.state == TrialState.COMPLETE else None,
            ending.get("reason"),
            owner["host"] if owner and state == "running" else None,
        )

    def _run_id(self, number: int, attributes: Mapping[str, Any]) -> str:
        return attributes.get("run_id") or f"{self.sweep_id}-{number}"

    def _trial(self, number: int) -> optuna.Trial:
        # Made once: making one has the sampler choose.
        if number not in self._ours:
            self._ours[number] = optuna.Trial(self._study, self._frozen(number)._trial_id)
        return self._ours[number]

    def _frozen(self, number: int) -> FrozenTrial:
        storage = self._study._storage  # reads one trial, where the study reads all
        return storage.get_trial(storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number))
