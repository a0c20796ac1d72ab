"""The Optuna study of a sweep: created once, with an id that the ids of its runs begin with."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import optuna

from harness.errors import HarnessError
from harness.sweep.search.ledger_errors import has_content, ledger_file
from harness.sweep.search.pruners import make_pruner
from harness.sweep.search.settings import Search
from harness.sweep.search.storage import default_storage, open_storage
from harness.sweep.spec.sweep_file import Sweep

# Seconds to wait for the id of a study that another process is creating.
STUDY_TIMEOUT = 2.0


class NotBegunError(HarnessError):
    """A sweep has no trial queue yet."""


def open_study(sweep: Sweep, search: Search, folder: Path, storage: str | None) -> optuna.Study:
    """The sweep's study, created if needed."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = make_pruner(sweep, search)
    backend = open_storage(storage or default_storage(folder))
    try:
        study = optuna.create_study(storage=backend, study_name=sweep.name, direction=sweep.metric.goal, pruner=pruner)
        is_new = True
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(storage=backend, study_name=sweep.name, pruner=pruner)
        is_new = False
    if "sweep_id" not in study.user_attrs:
        # The process that created the study also sets its id; others give it time to.
        if not is_new:
            time.sleep(STUDY_TIMEOUT)
        if "sweep_id" not in study.user_attrs:
            study.set_user_attr("sweep_id", secrets.token_hex(4))
    return study


def load_study(sweep: Sweep, folder: Path, storage: str | None) -> optuna.Study:
    """The study of a sweep that has begun. Raises NotBegunError if there is none."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    missing = NotBegunError(
        f"The sweep {sweep.name} has not begun in {folder}. Start it: harness sweep run {sweep.path}"
    )
    file = ledger_file(folder, storage)
    if file is not None and not has_content(file):  # opening it would create its tables
        raise missing
    backend = open_storage(storage or default_storage(folder))
    try:
        study = optuna.load_study(storage=backend, study_name=sweep.name)
    except KeyError:
        raise missing from None
    if "search" not in study.user_attrs:
        raise missing
    return study
