"""Facts about a trial beside its state: stored in the trial queue, so that every machine can read and write them."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError

STOP_REASON = "stop_reason"


def write_note(study: optuna.Study, number: int, name: str, value: Any) -> bool:
    """Store a fact about a trial; returns False if the trial has ended."""
    storage = study._storage
    try:
        storage.set_trial_user_attr(_trial_id(study, number), name, value)
    except UpdateFinishedTrialError:
        return False
    return True


def request_stop_of(study: optuna.Study, number: int, reason: str) -> bool:
    """Ask for one trial to stop, on whatever machine it runs; returns False if it has ended."""
    return write_note(study, number, STOP_REASON, reason)


def stop_reason(study: optuna.Study, number: int) -> str:
    """Why a trial was asked to stop; empty if it was not."""
    attributes = study._storage.get_trial(_trial_id(study, number)).user_attrs
    return str(attributes.get(STOP_REASON, ""))


def last_stop_request(study: optuna.Study) -> float:
    """Unix time of the last request to stop the sweep, by the clock of the machine that made it; 0 without one."""
    return float(study.user_attrs.get("stop_asked", 0.0))


def _trial_id(study: optuna.Study, number: int) -> int:
    return study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
