"""The ledger of a sweep: every trial, what became of it, and who is working on it.

Whoever takes a trial from the queue owns it until it is told how it ended, or until the owner is gone.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from harness.sweep.owner import is_abandoned, me, on_this_host
from harness.sweep.search import choose, sampler
from harness.sweep.spec import Sweep
from harness.sweep.study import Search, begun_study, open_study

# How a trial can end; the names are those of a run's own summary.
ENDINGS = {
    "finished": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    # Not FAIL, which samplers overlook: they should keep away from such settings.
    "infeasible": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


@dataclasses.dataclass(frozen=True)
class Task:
    """A trial that somebody has to do: its number, settings and how often it was tried."""

    number: int
    point: int
    run_id: str
    settings: dict[str, Any]
    attempts: int  # begun before, and failed


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line of the ledger: a point of the sweep and what became of it."""

    number: int
    point: int
    run_id: str
    settings: dict[str, Any] | None  # None while a Bayesian search has not chosen them
    state: str  # waiting, running, interrupted, finished, stopped, infeasible, failed
    attempts: int
    value: float | None
    reason: str | None
    owner: str | None


class Ledger:
    def __init__(self, study: optuna.Study, sweep: Sweep, search: Search) -> None:
        self._study, self._sweep, self._search = study, sweep, search
        self._ours: dict[int, optuna.Trial] = {}
        self.sweep_id: str = study.user_attrs["sweep_id"]

    @classmethod
    def open(cls, sweep: Sweep, search: Search, folder: Path, storage: str | None) -> Ledger:
        """To do trials: the study is made if need be. Raises ConfigError when it was begun with something else."""
        return cls(open_study(sweep, search, folder, storage), sweep, search)

    @classmethod
    def begun(cls, sweep: Sweep, folder: Path, storage: str | None) -> Ledger:
        """To look at. Raises HarnessError when the sweep has not begun."""
        study = begun_study(sweep, folder, storage)
        return cls(study, sweep, Search(**study.user_attrs["search"]))

    def take(self) -> Task | None:
        """The next trial to do, now ours: first one whose owner is gone, then one from the queue."""
        self._study.sampler = sampler(self._search, self._begun())
        for begun in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if "point" in begun.user_attrs and is_abandoned(begun) and self._claim(begun):
                return self._task(begun.number)
        if not self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            return None
        trial = self._study.ask()
        if "point" not in trial.user_attrs:
            # Another machine took the last of the queue in between; Optuna then makes up a trial.
            self._study.tell(trial, state=TrialState.FAIL)
            return None
        self._ours[trial.number] = trial
        trial.set_user_attr("owner", me())
        return self._task(trial.number)

    def is_settled(self) -> bool:
        """Whether each trial that was begun and has not ended has an owner; the others can soon be taken."""
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return all(trial.user_attrs.get("owner") for trial in running if "point" in trial.user_attrs)

    def report(self, task: Task, epoch: int, value: float) -> bool:
        """Note the metric after an epoch; whether early termination wants the trial to end."""
        trial = self._trial(task.number)
        if epoch not in self._frozen(task.number).intermediate_values:
            trial.report(value, step=epoch)
        return trial.should_prune()

    def sign_of_life(self, tasks: list[Task]) -> None:
        for task in tasks:
            self._trial(task.number).set_user_attr("owner", me())

    def end(self, task: Task, state: str, *, value: float | None = None, reason: str | None = None) -> None:
        """Note how a trial ended: `finished` with its value, `stopped`, `infeasible` or `failed`."""
        trial = self._trial(task.number)
        trial.set_user_attr("ending", {"state": state, "reason": reason})
        if state == "finished" and value is None:
            raise ValueError("a finished trial has a value")
        self._study.tell(task.number, value if state == "finished" else None, ENDINGS[state])

    def attempt_failed(self, task: Task) -> Task:
        """Note that an attempt failed; the same task, to be tried again."""
        self._trial(task.number).set_user_attr("attempts", task.attempts + 1)
        return dataclasses.replace(task, attempts=task.attempts + 1)

    def give_back(self, task: Task) -> None:
        """Ours no longer, and not done: the next to look for work goes on with it."""
        self._trial(task.number).set_user_attr("owner", None)

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

    def entries(self) -> list[Entry]:
        """Every point of the sweep once, in order; of one that was queued again, the newest trial."""
        newest: dict[int, FrozenTrial] = {}
        for trial in self._study.get_trials(deepcopy=False):
            if "point" in trial.user_attrs:
                newest[trial.user_attrs["point"]] = trial
        return [self._entry(trial) for _, trial in sorted(newest.items())]

    def ask_to_stop(self) -> None:
        """Have everyone who works on this sweep end, on whatever machine."""
        self._study.set_user_attr("stop_asked", time.time())

    def stop_asked_since(self, moment: float) -> bool:
        return self._study.user_attrs.get("stop_asked", 0.0) > moment

    def _begun(self) -> int:
        return sum(trial.state != TrialState.WAITING for trial in self._study.get_trials(deepcopy=False))

    def _claim(self, trial: FrozenTrial) -> bool:
        """Make an abandoned trial ours. Of two machines that try at once, the later to write has it."""
        mine = me()
        self._trial(trial.number).set_user_attr("owner", mine)
        if on_this_host(trial.user_attrs.get("owner")):
            return True  # one process per machine and sweep: nobody else here
        time.sleep(1.0)
        return self._frozen(trial.number).user_attrs["owner"] == mine

    def _task(self, number: int) -> Task:
        trial = self._trial(number)
        attributes = self._frozen(number).user_attrs
        settings = choose(trial, self._sweep, attributes.get("settings"))
        if "settings" not in attributes:
            trial.set_user_attr("settings", settings)
        return Task(number, attributes["point"], self._run_id(number, attributes), settings, attributes["attempts"])

    def _entry(self, trial: FrozenTrial) -> Entry:
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
        return Entry(
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
        return self._study.get_trials(deepcopy=False)[number]
