"""A sweep grows: points of the sweep file that the ledger does not have are queued, others keep their trials."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from harness.errors import ConfigError
from harness.sweep.search.definition import (
    Definition,
    refuse_differences,
    refuse_other_search,
    store_definition,
    stored_definition,
)
from harness.sweep.search.earlier_ledger import earlier_definition, earlier_settings, with_identities
from harness.sweep.search.grid import number_of_trials, points_of, probe_points
from harness.sweep.search.identity import Contents, computed_settings, numbered, point_identity
from harness.sweep.search.ledger import REMOVED, end_without_result, ending_of, newest_trials, run_id_of
from harness.sweep.search.samplers import stored_distributions
from harness.sweep.search.settings import Search
from harness.sweep.spec.sweep_file import Sweep

Trials = Mapping[str | int, FrozenTrial]  # by key


@dataclasses.dataclass(frozen=True)
class Growth:
    """How a sweep file has changed the ledger of its sweep."""

    queued: int  # new trials
    removed: int  # trials that waited, and that the file does not have any more
    outside: int  # all trials that the file does not have; their results stay
    is_first: bool  # the ledger had no trials before

    def text(self) -> str:
        """What changed in a ledger that had trials before; empty if nothing did."""
        if self.is_first or not (self.queued or self.removed):
            return ""
        text = f"The sweep file has changed: {self.queued} new trial{'s' * (self.queued != 1)}"
        if self.removed:
            text += f", {self.removed} waiting trial{'s' * (self.removed != 1)} removed"
        if self.outside:
            text += f". {self.outside} of the earlier trials are not in the file any more; their results stay"
        return text + ".\n"


@dataclasses.dataclass(frozen=True)
class Added:
    """The trial of a point that was added by hand."""

    number: int
    state: str | None  # of a trial that was there before; None for a new one


def grow(
    study: optuna.Study, sweep: Sweep, search: Search, folder: Path, contents: Contents, *, accept: bool
) -> Growth:
    """Queue the trials of the file that the study does not have; remove waiting ones that the file does not have.

    Raises ConfigError if all trials of the file compute something else than those of the study, unless `accept`.
    """
    points = points_of(sweep, search)
    keys = file_keys(sweep, search, points, contents)
    definition = Definition.of(sweep, search, _computed(sweep, points or probe_points(sweep), contents))
    known, earlier = known_trials(study, sweep, folder, contents)
    missing = [place for place, key in enumerate(keys) if key not in known or ending_of(known[key]) == REMOVED]
    differences = earlier.differences(definition) if earlier else {}
    if differences and (sweep.method == "bayes" or (missing and not accept)):
        refuse_differences(sweep, differences, len(missing))
    store_definition(study, sweep, search, definition)

    first_new = _next_place(known)
    for count, place in enumerate(missing):
        if trial := known.get(keys[place]):
            queue_again(study, trial)
        elif sweep.method == "bayes":
            queue_trial(study, sweep, {"point": place})
        else:
            queue_trial(study, sweep, {"point": first_new + count, "key": keys[place], "settings": points[place]})
    in_file = set(keys)
    outside = [
        trial for key, trial in known.items() if key not in in_file and not _is_held(sweep, key, trial, contents)
    ]
    removed = [trial for trial in outside if trial.state == TrialState.WAITING]
    for trial in removed:
        end_without_result(study, trial.number, REMOVED)
    numbers = sorted(trial.number for trial in outside)
    if study.user_attrs.get("outside", []) != numbers:
        study.set_user_attr("outside", numbers)
    return Growth(len(missing), len(removed), len(outside), is_first=not known)


def add_points(
    study: optuna.Study, sweep: Sweep, points: Sequence[Mapping[str, Any]], contents: Contents
) -> list[Added]:
    """Queue points by hand, also ones that the sweep file does not have; a point that has a trial keeps it.

    Such trials run although the file does not list them. Raises ConfigError if settings are invalid.
    """
    for point in points:
        sweep.config(point)
    keys = [point_identity(sweep, point, contents) for point in points]
    before = _by_identity(study, sweep, contents)
    place = _next_place(before)
    new = {
        key: point
        for key, point in zip(keys, points, strict=True)
        if key not in before or ending_of(before[key]) == REMOVED
    }
    for key, point in new.items():
        if key in before:
            queue_again(study, before[key], added=True)
        else:
            queue_trial(study, sweep, {"point": place, "key": key, "settings": dict(point), "added": True})
            place += 1
    added = []
    now = _by_identity(study, sweep, contents)
    for key in keys:
        state = None if key in new else ending_of(now[key]) or now[key].state.name.lower()
        added.append(Added(now[key].number, state))
    return added


def known_trials(
    study: optuna.Study, sweep: Sweep, folder: Path, contents: Contents
) -> tuple[Trials, Definition | None]:
    """The trials of a study by the keys that the sweep file would give them, and their definition, if it has begun.

    Raises ConfigError if they cannot be trials of this sweep file.
    """
    trials = newest_trials(study)
    if "search" not in study.user_attrs:
        return trials, None
    stored = stored_definition(study)
    refuse_other_search(study, sweep, stored)
    without_key = [trial for key, trial in trials.items() if isinstance(key, int)]
    if not without_key or (stored and sweep.method == "bayes"):
        return trials, stored
    computed = earlier_settings(study, sweep, folder, contents, without_key)
    known = trials if sweep.method == "bayes" else with_identities(trials, computed)
    return known, stored or earlier_definition(study, sweep, computed)


def file_keys(sweep: Sweep, search: Search, points: Sequence[Mapping[str, Any]], contents: Contents) -> list[str | int]:
    """The keys of the file's trials in its order. Those of a Bayesian search are numbers: it chooses settings later."""
    if sweep.method == "bayes":
        return list(range(number_of_trials(sweep, search)))
    return list(numbered(point_identity(sweep, point, contents) for point in points))


def _computed(sweep: Sweep, points: Sequence[Mapping[str, Any]], contents: Contents) -> list[dict[str, Any]]:
    """The computed settings of the valid points."""
    computed = []
    for point in points:
        with contextlib.suppress(ConfigError):
            computed.append(computed_settings(sweep.config(point), contents))
    return computed


def _by_identity(study: optuna.Study, sweep: Sweep, contents: Contents) -> Trials:
    """The trials of a study, also those whose settings a Bayesian search chose, by what they compute."""
    by_identity = {}
    for key, trial in newest_trials(study).items():
        if isinstance(key, int) and "settings" in trial.user_attrs:
            key = point_identity(sweep, trial.user_attrs["settings"], contents)
        by_identity[key] = trial
    return by_identity


def _is_held(sweep: Sweep, key: str | int, trial: FrozenTrial, contents: Contents) -> bool:
    """Whether a trial that the file does not list was added, and computes the same with the file as it is now."""
    attributes = trial.user_attrs
    return bool(attributes.get("added")) and point_identity(sweep, attributes["settings"], contents) == key


def _next_place(trials: Trials) -> int:
    return 1 + max((trial.user_attrs["point"] for trial in trials.values()), default=-1)


def queue_trial(study: optuna.Study, sweep: Sweep, attributes: Mapping[str, Any]) -> None:
    """Queue a new trial; without `settings` among its attributes, a Bayesian search chooses them later."""
    settings = attributes.get("settings", {})
    parameters = {name: settings[name] for name in stored_distributions(sweep, settings)}
    study.enqueue_trial(parameters, user_attrs={"attempts": 0, **attributes})


def queue_again(study: optuna.Study, trial: FrozenTrial, **attributes: Any) -> None:
    """Queue an ended trial again, with the id of its run: an interrupted run resumes."""
    kept = ("point", "key", "settings", "attempts", "added")
    attributes = {name: trial.user_attrs[name] for name in kept if name in trial.user_attrs} | attributes
    parameters = trial.params or trial.system_attrs.get("fixed_params", {})  # of a trial that was not claimed
    attributes |= {"run_id": run_id_of(study, trial), "replaces": trial.number}
    study.enqueue_trial(parameters, user_attrs=attributes)
