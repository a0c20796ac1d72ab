"""Single trials of a study, by number: read, changed, ended. The study itself would read all of its trials."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

# Why a trial was asked to stop.
STOP_REASON = "stop_reason"


def trial_id(study: optuna.Study, number: int) -> int:
    return study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)


def read_trial(study: optuna.Study, number: int) -> FrozenTrial:
    return study._storage.get_trial(trial_id(study, number))


def set_attribute(study: optuna.Study, number: int, name: str, value: Any) -> bool:
    """Store a fact about a trial, for every machine; returns False if the trial has ended."""
    try:
        study._storage.set_trial_user_attr(trial_id(study, number), name, value)
    except UpdateFinishedTrialError:
        return False
    return True


def end_without_result(study: optuna.Study, number: int, ending: str) -> bool:
    """End a trial that does not run, such as a duplicate; returns False if another machine has ended it."""
    if not set_attribute(study, number, "ending", {"state": ending, "reason": None}):
        return False
    try:
        return study._storage.set_trial_state_values(trial_id(study, number), TrialState.FAIL)
    except UpdateFinishedTrialError:
        return False
