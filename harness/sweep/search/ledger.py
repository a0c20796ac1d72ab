"""The trials that a study holds: one per point of the sweep, and single ones by number, read, changed and ended."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

# Endings of trials that do not run. Two machines queued the same trial at the same moment; the sweep file does not have
# the trial any more.
DUPLICATE, REMOVED = "duplicate", "removed"

# The attribute with the reason why a trial was asked to stop.
STOP_REASON = "stop_reason"


def key_of(attributes: Mapping[str, Any]) -> str | int:
    """What the trials of one point share: its key, else its place (Bayesian searches, ledgers of earlier versions)."""
    key: str | int = attributes.get("key", attributes["point"])
    return key


def newest_trials(study: optuna.Study) -> dict[str | int, FrozenTrial]:
    """The trial of each point by its key: the newest one, if a failed or removed one was queued again."""
    newest: dict[str | int, FrozenTrial] = {}
    for trial in study.get_trials(deepcopy=False):
        if "point" not in trial.user_attrs or ending_of(trial) == DUPLICATE:
            continue
        key = key_of(trial.user_attrs)
        if key not in newest or not is_copy(trial, newest[key]):
            newest[key] = trial
    return newest


def is_copy(trial: FrozenTrial, earlier: FrozenTrial) -> bool:
    """Whether two machines queued the same trial at the same moment; both trials have one key.

    A trial that was queued again names the one that it replaces. In ledgers of earlier versions, which have no keys, it
    does not; there, only failed trials were queued again.
    """
    if "replaces" in trial.user_attrs:
        return bool(earlier.user_attrs.get("replaces") == trial.user_attrs["replaces"])
    return "key" in trial.user_attrs or earlier.state != TrialState.FAIL


def is_duplicate(study: optuna.Study, trial: FrozenTrial) -> bool:
    """Whether an older trial is of the same point: two machines may have queued it at the same moment."""
    key = key_of(trial.user_attrs)
    return any(
        "point" in other.user_attrs
        and key_of(other.user_attrs) == key
        and ending_of(other) != DUPLICATE
        and is_copy(trial, other)
        for other in study.get_trials(deepcopy=False)[: trial.number]
    )


def newest_numbers(study: optuna.Study) -> dict[int, int]:
    """The number of the newest trial of the same point, by the number of each trial."""
    trials = [trial for trial in study.get_trials(deepcopy=False) if "point" in trial.user_attrs]
    newest = newest_trials(study)
    return {trial.number: newest[key_of(trial.user_attrs)].number for trial in trials}


def ending_of(trial: FrozenTrial) -> str | None:
    """finished, stopped, infeasible, failed, removed, duplicate; None for a trial that has not ended."""
    ending: str | None = trial.user_attrs.get("ending", {}).get("state") if trial.state.is_finished() else None
    return ending


def finished_values(study: optuna.Study) -> list[tuple[float, bool]]:
    """The values of the file's finished trials in the order in which they ended, and whether each was taken over."""
    outside = study.user_attrs.get("outside", [])
    trials = [trial for trial in newest_trials(study).values() if trial.state == TrialState.COMPLETE]
    trials.sort(key=lambda trial: (trial.datetime_complete or datetime.datetime.min, trial.number))
    return [(trial.values[0], "run_folder" in trial.user_attrs) for trial in trials if trial.number not in outside]


def run_id_of(study: optuna.Study, trial: FrozenTrial) -> str:
    run_id: str = trial.user_attrs.get("run_id") or f"{study.user_attrs['sweep_id']}-{trial.number}"
    return run_id


def _trial_id(study: optuna.Study, number: int) -> int:
    return study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)


def read_trial(study: optuna.Study, number: int) -> FrozenTrial:
    """One trial; the study itself would read all of its trials."""
    return study._storage.get_trial(_trial_id(study, number))


def set_attribute(study: optuna.Study, number: int, name: str, value: Any) -> bool:
    """Store a fact about a trial, for every machine; returns False if the trial has ended."""
    try:
        study._storage.set_trial_user_attr(_trial_id(study, number), name, value)
    except UpdateFinishedTrialError:
        return False
    return True


def end_without_result(study: optuna.Study, number: int, ending: str) -> bool:
    """End a trial that does not run, such as a duplicate; returns False if another machine has ended it."""
    if not set_attribute(study, number, "ending", {"state": ending, "reason": None}):
        return False
    try:
        return study._storage.set_trial_state_values(_trial_id(study, number), TrialState.FAIL)
    except UpdateFinishedTrialError:
        return False
