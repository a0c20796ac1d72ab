"""The ledger of a sweep: an Optuna study that knows every trial, what became of it, and who is working on it.

All trials are queued when the study is made, each under its index: the points of a grid or of a random search with
their settings, those of a Bayesian search without, for they are chosen when their turn comes. Whoever takes a trial
from the queue owns it until it is told how it ended, or until the owner is gone.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import platform
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from harness.errors import ConfigError, HarnessError
from harness.sweep.points import grid_points, random_points
from harness.sweep.pruner import WandbHyperband
from harness.sweep.search import choose, queued_parameters, sampler
from harness.sweep.spec import Sweep

# An owner on another machine is taken for gone when it has given no sign of life for so long.
SIGN_OF_LIFE_EVERY = 30.0
GONE_AFTER = 300.0

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


@dataclasses.dataclass(frozen=True)
class Search:
    """What a sweep was begun with, beside its file; the same when it goes on."""

    count: int | None = None  # trials of a random or Bayesian search
    seed: int = 0
    algorithm: str = "tpe"  # of a Bayesian search


class Ledger:
    def __init__(self, study: optuna.Study, sweep: Sweep, search: Search) -> None:
        self._study, self._sweep, self._search = study, sweep, search
        self._ours: dict[int, optuna.Trial] = {}
        self.sweep_id: str = study.user_attrs["sweep_id"]

    @classmethod
    def open(cls, sweep: Sweep, search: Search, folder: Path, storage: str | None) -> Ledger:
        """The sweep's study, made if need be. Raises ConfigError when it was begun with something else."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        backend = _open_storage(storage or default_storage(folder))
        try:
            study = optuna.create_study(
                storage=backend,
                study_name=sweep.name,
                direction=sweep.metric.goal,
                pruner=optuna.pruners.NopPruner(),
            )
        except optuna.exceptions.DuplicatedStudyError:
            study = optuna.load_study(storage=backend, study_name=sweep.name)
        _define(study, sweep, search)
        return cls(_with_search(study, sweep), sweep, search)

    @classmethod
    def existing(cls, sweep: Sweep, folder: Path, storage: str | None) -> Ledger:
        """The study of a sweep that has begun, to look at. Raises HarnessError when there is none."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        url = storage or default_storage(folder)
        missing = HarnessError(f"The sweep {sweep.name} has not begun in {folder}: harness sweep run {sweep.path}")
        if storage is None and not (folder / "study.db").exists():
            raise missing
        try:
            study = optuna.load_study(storage=_open_storage(url), study_name=sweep.name)
        except KeyError:
            raise missing from None
        if "search" not in study.user_attrs:
            raise missing
        return cls(_with_search(study, sweep), sweep, Search(**study.user_attrs["search"]))

    def take(self) -> Task | None:
        """The next trial to do, now ours: first one whose owner is gone, then one from the queue."""
        self._study.sampler = sampler(self._search, self._begun())
        for begun in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if "point" in begun.user_attrs and _is_abandoned(begun) and self._claim(begun):
                return self._task(begun.number)
        queue = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if not queue:
            return None
        # Signed before it is taken: should we be killed in between, it is plain whose it was.
        self._study._storage.set_trial_user_attr(queue[0]._trial_id, "owner", _me())
        trial = self._study.ask()
        if "point" not in trial.user_attrs:
            # Another machine took the last of the queue in between; Optuna then makes up a trial.
            self._study.tell(trial, state=TrialState.FAIL)
            return None
        self._ours[trial.number] = trial
        trial.set_user_attr("owner", _me())  # another machine may have signed it, too
        return self._task(trial.number)

    def report(self, task: Task, epoch: int, value: float) -> bool:
        """Note the metric after an epoch; whether early termination wants the trial to end."""
        trial = self._trial(task.number)
        if epoch not in self._frozen(task.number).intermediate_values:
            trial.report(value, step=epoch)
        return trial.should_prune()

    def sign_of_life(self, tasks: list[Task]) -> None:
        for task in tasks:
            self._trial(task.number).set_user_attr("owner", _me())

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
        mine = _me()
        self._trial(trial.number).set_user_attr("owner", mine)
        if _on_this_host(trial.user_attrs.get("owner")):
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
                state = "interrupted" if _is_abandoned(trial) else "running"
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


def default_storage(folder: Path) -> str:
    return f"sqlite:///{(folder / 'study.db').resolve()}"


def _open_storage(url: str) -> BaseStorage:
    """A database by its URL, or a journal by the path of its file."""
    try:
        if "://" not in url:
            Path(url).expanduser().parent.mkdir(parents=True, exist_ok=True)
            path = str(Path(url).expanduser().resolve())
            # The kind of lock that network file systems keep; one left by a killed process is broken after 30 s.
            return JournalStorage(JournalFileBackend(path, lock_obj=JournalFileOpenLock(path)))
        # Seconds that a writer waits for another.
        arguments = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
        return RDBStorage(url, engine_kwargs=arguments)
    except (ImportError, ValueError, OSError) as error:
        raise HarnessError(f"--storage {url} cannot be opened: {str(error).splitlines()[0]}") from error
    except Exception as error:
        # SQLAlchemy's and the database's own.
        if type(error).__module__.partition(".")[0] not in ("sqlalchemy", "optuna", "sqlite3"):
            raise
        raise HarnessError(f"--storage {url} cannot be opened: {str(error).splitlines()[0]}") from error


def _with_search(study: optuna.Study, sweep: Sweep) -> optuna.Study:
    if sweep.early_terminate is not None:
        study.pruner = WandbHyperband(sweep.early_terminate)
    return study


def _define(study: optuna.Study, sweep: Sweep, search: Search) -> None:
    """Fill a new study, or go on filling one whose maker did not come to the end; refuse another definition."""
    definition = {"sweep": sweep.text, "overrides": list(sweep.overrides), "search": dataclasses.asdict(search)}
    if "search" in study.user_attrs:
        _refuse_changes(study.user_attrs, definition, sweep)
    elif "sweep_id" not in study.user_attrs:
        study.set_user_attr("sweep_id", secrets.token_hex(4))
    if "filled" in study.user_attrs:
        return
    for name, value in definition.items():
        study.set_user_attr(name, value)
    queued = {trial.user_attrs.get("point") for trial in study.get_trials(deepcopy=False)}
    known = points_of(sweep, search)
    for point in range(number_of_trials(sweep, search)):
        settings = known[point] if known else None
        if point not in queued:
            chosen = {} if settings is None else {"settings": settings}
            study.enqueue_trial(
                queued_parameters(sweep, settings), user_attrs={"point": point, "attempts": 0, **chosen}
            )
    study.set_user_attr("filled", True)


def points_of(sweep: Sweep, search: Search) -> list[dict[str, Any]]:
    """Settings of every trial, as far as they are known before the first: none of a Bayesian search."""
    match sweep.method:
        case "grid":
            return grid_points(sweep)[: sweep.run_cap]
        case "random":
            return random_points(sweep, number_of_trials(sweep, search), search.seed)
    return []


def number_of_trials(sweep: Sweep, search: Search) -> int:
    if sweep.method == "grid":
        return len(grid_points(sweep)[: sweep.run_cap])
    if count := search.count or sweep.run_cap:
        return count
    raise ConfigError(
        f"{sweep.path}: method {sweep.method} has no end of its own. Give run_cap in the file, or --count."
    )


def _refuse_changes(known: Mapping[str, Any], new: Mapping[str, Any], sweep: Sweep) -> None:
    if _meaning(known) == _meaning(new):
        return
    before, now = _written(known), _written(new)
    difference = "\n".join(difflib.unified_diff(before, now, "as it was begun", "now", lineterm="", n=1))
    raise ConfigError(
        f"{sweep.path}: the sweep {sweep.name} was begun with something else. Give the file another name (or `name:`) "
        f"for a sweep of its own, or undo this:\n{difference}"
    )


def _meaning(definition: Mapping[str, Any]) -> str:
    """Without comments and layout, which may change."""
    import yaml

    parts = [yaml.safe_load(definition["sweep"]), definition["overrides"], definition["search"]]
    return json.dumps(parts, sort_keys=True, default=str)


def _written(definition: Mapping[str, Any]) -> list[str]:
    options = {"overrides": " ".join(definition["overrides"]), **definition["search"]}
    return [*definition["sweep"].splitlines(), *(f"--{name} {value}" for name, value in options.items())]


def _me() -> dict[str, Any]:
    pid = os.getpid()
    return {"host": platform.node(), "pid": pid, "born": _born(pid), "seen": time.time()}


def _is_abandoned(trial: FrozenTrial) -> bool:
    """Whether nobody works on a running trial any more."""
    owner = trial.user_attrs.get("owner")
    if owner is None:
        return True  # given back
    if _on_this_host(owner):
        return _born(owner["pid"]) != owner["born"]
    return time.time() - owner["seen"] > GONE_AFTER


def _on_this_host(owner: Mapping[str, Any] | None) -> bool:
    return owner is None or owner["host"] == platform.node()


def _born(pid: int) -> str | None:
    """When a process began, which tells it from a later one of the same number; None when it is gone."""
    try:
        # Field 22, counted from the state after the name in parentheses (proc_pid_stat(5)).
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None
