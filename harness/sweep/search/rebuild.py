"""`harness sweep rebuild`: makes the ledger of a sweep again from its run folders."""

from __future__ import annotations

import dataclasses
import json
import re
import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.trial import TrialState, create_trial

from harness.config import RunConfig
from harness.errors import ConfigError, HarnessError
from harness.sweep.execution.metrics_reader import value_after
from harness.sweep.search.grid import points_of
from harness.sweep.search.growth import Growth, file_keys, grow, queue_trial
from harness.sweep.search.identity import Contents, computed_settings, identity, identity_of, numbered, run_settings
from harness.sweep.search.ledger_errors import ledger_file
from harness.sweep.search.samplers import ended_trial
from harness.sweep.search.settings import Search
from harness.sweep.search.storage import default_storage, open_storage
from harness.sweep.search.trial_record import ENDINGS
from harness.sweep.spec.repeats import SEED
from harness.sweep.spec.sweep_file import Sweep
from reports.runs import Run, read_runs

# An id that `harness sweep run` gives a run: that of the sweep, and the trial's number.
RUN_ID = re.compile(r"([0-9a-f]{8})-(\d+)")

# Files of a ledger besides its main file: SQLite's journals.
SUFFIXES = ("", "-journal", "-wal", "-shm")


@dataclasses.dataclass(frozen=True)
class Rebuilt:
    """A ledger that was made again."""

    trials: int
    left_out: tuple[str, ...]  # run folders that are not in it, with the reason
    growth: Growth
    moved: tuple[Path, ...]  # the damaged ledger

    def text(self) -> str:
        waiting = self.growth.queued
        text = f"{self.trials} trial{'s' * (self.trials != 1)} from run folders"
        if waiting:
            text += f"; {waiting} more of the file wait"
        if self.growth.outside:
            text += f"; {self.growth.outside} are not in the file"
        return f"Trial queue made again: {text}."


@dataclasses.dataclass(frozen=True)
class FoundRun:
    """A run folder of the sweep, as a trial."""

    run: Run
    run_id: str
    key: str
    settings: Mapping[str, Any]
    number: int | None  # of the trial that made it; None for other runs


def rebuild(sweep: Sweep, search: Search, folder: Path, storage: str | None, contents: Contents) -> Rebuilt:
    """Make the ledger from the run folders: same run ids, numbers, states and values.

    A damaged ledger is moved aside. Raises HarnessError if there is nothing to rebuild from, or the ledger is intact.
    """
    runs = read_runs(folder)
    if not runs:
        raise HarnessError(f"{folder} holds no runs, so there is nothing to rebuild the trial queue from.")
    found, left_out = _found_runs(sweep, runs, contents)
    in_file = set(file_keys(sweep, search, points_of(sweep, search), contents))
    if sweep.method != "bayes" and not any(one.key in in_file for one in found):
        raise ConfigError(
            f"None of the {len(runs)} runs in {folder} computes what a trial of {sweep.path} does. Give the options "
            "that the sweep was run with (--seed, --count, options after --), and the file as it was."
        )
    moved = _move_damaged(sweep, folder, storage)
    sweep_id = _sweep_id(found)
    chosen, repeated = _chosen(found, sweep_id)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    backend = open_storage(storage or default_storage(folder))
    study = optuna.create_study(storage=backend, study_name=sweep.name, direction=sweep.metric.goal)
    study.set_user_attr("sweep_id", sweep_id)
    _add_trials(study, sweep, search, contents, chosen)
    growth = grow(study, sweep, search, folder, contents, accept=True)
    return Rebuilt(len(chosen), (*left_out, *repeated), growth, moved)


def _move_damaged(sweep: Sweep, folder: Path, storage: str | None) -> tuple[Path, ...]:
    """Move a ledger aside that cannot be read; HarnessError if it can be, or if it is not a file."""
    url, path = storage or default_storage(folder), ledger_file(folder, storage)
    if path and not path.exists():
        return ()
    try:
        study = optuna.load_study(storage=open_storage(url), study_name=sweep.name)
        trials = len(study.get_trials(deepcopy=False))
    except KeyError:
        return ()  # it is intact, and has no such sweep
    except (HarnessError, optuna.exceptions.OptunaError, sqlalchemy.exc.SQLAlchemyError, ValueError, OSError) as error:
        if not path:
            raise HarnessError(f"--storage {url} cannot be read, and only files can be moved aside: {error}") from error
    else:
        raise HarnessError(
            f"The trial queue of the sweep {sweep.name} is intact and has {trials} trials. To make it again "
            f"nevertheless, move {path or url} away first."
        )
    stamp = time.strftime("%Y%m%d-%H%M%S")
    existing = [Path(f"{path}{suffix}") for suffix in SUFFIXES if Path(f"{path}{suffix}").exists()]
    return tuple(old.rename(f"{old}.damaged-{stamp}") for old in existing)


def _found_runs(sweep: Sweep, runs: Sequence[Run], contents: Contents) -> tuple[list[FoundRun], list[str]]:
    """The runs that can be trials, and those that cannot, with the reason."""
    found, left_out = [], []
    for run in runs:
        try:
            config = RunConfig.from_dict(run.config)
        except (ConfigError, TypeError):
            left_out.append(f"{run.name}: its config.json cannot be read")
            continue
        # A run that was killed before it read its data does not record their fingerprint.
        computed = run_settings(run) or computed_settings(config, contents)
        run_id = run.manifest.get("wandb_run_id") or run.name.removeprefix(f"{config.run_name}-")
        key = identity_of(computed)
        number = RUN_ID.fullmatch(run_id)
        settings = _settings_of(sweep, config, key, contents)
        found.append(FoundRun(run, run_id, key, settings, int(number[2]) if number else None))
    return found, left_out


def _settings_of(sweep: Sweep, config: RunConfig, key: str, contents: Contents) -> dict[str, Any]:
    """The settings with which the sweep file gives this config; with those of an added point, if it has others."""
    settings = {parameter.name: getattr(config, parameter.name) for parameter in sweep.parameters}
    try:
        given = sweep.config(settings)
    except ConfigError:
        return settings
    if identity(given, contents) == key:
        return settings
    return settings | {name: getattr(config, name) for name in given.differences(config)}


def _sweep_id(found: Sequence[FoundRun]) -> str:
    """The sweep id that most runs have; a new one if none of them was started by a sweep."""
    ids = Counter(one.run_id.partition("-")[0] for one in found if one.number is not None)
    return ids.most_common(1)[0][0] if ids else secrets.token_hex(4)


def _chosen(found: Sequence[FoundRun], sweep_id: str) -> tuple[dict[int, FoundRun], list[str]]:
    """The runs that become trials, by number; and the others, which repeat one of them."""
    own = [one for one in found if one.number is not None and one.run_id.startswith(f"{sweep_id}-")]
    chosen = {one.number: one for one in own if one.number is not None}
    keys = {one.key: one.run.name for one in own}
    repeated, following = [], max(chosen, default=-1) + 1
    for one in sorted((one for one in found if one not in own), key=lambda one: not one.run.finished):
        if one.key in keys:
            repeated.append(f"{one.run.name}: computes the same as {keys[one.key]}")
            continue
        keys[one.key] = one.run.name
        chosen[following] = one
        following += 1
    return chosen, repeated


def _add_trials(
    study: optuna.Study, sweep: Sweep, search: Search, contents: Contents, chosen: Mapping[int, FoundRun]
) -> None:
    """Add the trials in the order of their numbers. Trials without a run folder had not begun: they wait again."""
    points = points_of(sweep, search)
    keys = file_keys(sweep, search, points, contents)
    ordered, places = sorted(chosen), _places(sweep, chosen)
    run_keys = dict(zip(ordered, numbered(chosen[number].key for number in ordered), strict=True))
    for number in range(max(chosen, default=-1) + 1):
        if number in chosen:
            _add_trial(study, sweep, places[number], run_keys[number], chosen[number])
        elif sweep.method == "bayes" and sweep.repeats == 1:
            queue_trial(study, sweep, {"point": number})
        elif number < len(keys) and keys[number] not in run_keys.values():
            queue_trial(study, sweep, {"point": number, "key": keys[number], "settings": points[number]})
        else:
            study.add_trial(create_trial(state=TrialState.FAIL))  # the number of a trial that was queued again


def _places(sweep: Sweep, chosen: Mapping[int, FoundRun]) -> dict[int, int]:
    """The point of each trial by its number. Seeds of one setting of a Bayesian search have successive points."""
    if sweep.method != "bayes" or sweep.repeats == 1:
        return {number: number for number in chosen}
    settings: dict[str, int] = {}
    places: dict[int, int] = {}
    for number, one in sorted(chosen.items()):
        without_seed = json.dumps({name: value for name, value in one.settings.items() if name != SEED}, sort_keys=True)
        place = settings.setdefault(without_seed, len(settings))
        places[number] = place * sweep.repeats + one.settings[SEED]
    return places


def _add_trial(study: optuna.Study, sweep: Sweep, point: int, key: str, one: FoundRun) -> None:
    metric, settings = sweep.metric.name, dict(one.settings)
    attributes: dict[str, Any] = {"point": point, "settings": settings, "attempts": 0, "run_id": one.run_id}
    if sweep.method != "bayes":
        attributes["key"] = key
    value = one.run.metric(metric) if one.run.finished else None
    ending = "infeasible" if one.run.finished and value is None else one.run.state
    if ending not in ENDINGS:  # interrupted: it waits, and resumes from its checkpoint
        queue_trial(study, sweep, attributes)
        return
    attributes["ending"] = {"state": ending, "reason": one.run.summary.get("reason")}
    attributes["attempts"] = int(ending == "failed")
    validations = [dict(row) for row in one.run.rows if "val/loss" in row]
    by_epoch = {epoch: value_after(validations[:epoch], metric) for epoch in range(1, len(validations) + 1)}
    reported = {epoch: value for epoch, value in by_epoch.items() if value is not None}
    study.add_trial(
        ended_trial(
            sweep,
            settings,
            state=ENDINGS[ending],
            value=value,
            user_attrs=attributes,
            intermediate_values=reported,
        )
    )
