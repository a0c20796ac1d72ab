"""The Optuna study of a sweep: created once, with every trial queued; refused for a file that has changed.

The trials of a grid or a random search are queued with their settings. Those of a Bayesian search are queued without:
the sampler chooses their settings when they are claimed.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import yaml

from harness import recipes
from harness.errors import ConfigError, HarnessError
from harness.sweep.search.grid import grid_points, random_points
from harness.sweep.search.hyperband import WandbHyperband
from harness.sweep.search.samplers import queued_parameters
from harness.sweep.search.settings import Search
from harness.sweep.search.storage import default_storage, open_storage
from harness.sweep.spec.sweep_file import Sweep

# Seconds to wait for the id of a study that another process is creating.
STUDY_TIMEOUT = 2.0


def open_study(sweep: Sweep, search: Search, folder: Path, storage: str | None) -> optuna.Study:
    """The sweep's study, created if needed. Raises ConfigError if the sweep file or the search has changed."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    backend, pruner = open_storage(storage or default_storage(folder)), _pruner(sweep)
    try:
        study = optuna.create_study(storage=backend, study_name=sweep.name, direction=sweep.metric.goal, pruner=pruner)
        is_new = True
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(storage=backend, study_name=sweep.name, pruner=pruner)
        is_new = False
    _define(study, sweep, search, is_new=is_new)
    return study


def load_study(sweep: Sweep, folder: Path, storage: str | None) -> optuna.Study:
    """The study of a sweep that has begun. Raises HarnessError if there is none."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    missing = HarnessError(
        f"The sweep {sweep.name} has not begun in {folder}. Start it: harness sweep run {sweep.path}"
    )
    if storage is None and not (folder / "study.db").exists():
        raise missing
    backend = open_storage(storage or default_storage(folder))
    try:
        study = optuna.load_study(storage=backend, study_name=sweep.name, pruner=_pruner(sweep))
    except KeyError:
        raise missing from None
    if "search" not in study.user_attrs:
        raise missing
    return study


def _pruner(sweep: Sweep) -> optuna.pruners.BasePruner:
    return WandbHyperband(sweep.early_terminate) if sweep.early_terminate else optuna.pruners.NopPruner()


def _define(study: optuna.Study, sweep: Sweep, search: Search, *, is_new: bool) -> None:
    """Queue the trials that the study does not have yet; refuse a definition that has changed."""
    definition = {
        "sweep": sweep.text,
        "overrides": list(sweep.overrides),
        "search": dataclasses.asdict(search),
        "default_recipe": recipes.DEFAULT,
    }
    if "search" in study.user_attrs:
        _refuse_changes(study.user_attrs, definition, sweep)
    elif "sweep_id" not in study.user_attrs:
        # The process that created the study also sets its id; others give it time to.
        if not is_new:
            time.sleep(STUDY_TIMEOUT)
        if "sweep_id" not in study.user_attrs:
            study.set_user_attr("sweep_id", secrets.token_hex(4))
    if "filled" in study.user_attrs:
        return
    for name, value in definition.items():
        study.set_user_attr(name, value)
    queued = {trial.user_attrs.get("point") for trial in study.get_trials(deepcopy=False)}
    points = points_of(sweep, search)
    for point in range(number_of_trials(sweep, search)):
        if point in queued:
            continue
        settings = points[point] if points else None
        attributes: dict[str, Any] = {"point": point, "attempts": 0}
        if settings is not None:
            attributes["settings"] = settings
        study.enqueue_trial(queued_parameters(sweep, settings), user_attrs=attributes)
    study.set_user_attr("filled", True)


def points_of(sweep: Sweep, search: Search) -> list[dict[str, Any]]:
    """The settings of every trial; empty for a Bayesian search, which chooses them later."""
    match sweep.method:
        case "grid":
            return grid_points(sweep)[: sweep.run_cap]
        case "random":
            return random_points(sweep, number_of_trials(sweep, search) // sweep.repeats, search.seed)
    return []


def number_of_trials(sweep: Sweep, search: Search) -> int:
    """Raises ConfigError for a search without an end."""
    if sweep.method == "grid":
        return len(grid_points(sweep)[: sweep.run_cap])
    if count := search.count * sweep.repeats if search.count else sweep.run_cap:
        return count
    raise ConfigError(
        f"{sweep.path}: method {sweep.method} needs a number of trials. Give run_cap in the file, or --count."
    )


def _refuse_changes(stored: Mapping[str, Any], new: Mapping[str, Any], sweep: Sweep) -> None:
    default = stored.get("default_recipe", recipes.BEFORE_RECIPES)
    word = f"--recipe={default}"
    if default != new["default_recipe"] and word not in (*sweep.command, *sweep.overrides):
        raise ConfigError(
            f"{sweep.path}: the sweep {sweep.name} was begun with an earlier version, whose defaults are now those of "
            f"{word}. Add `- {word}` to `command`, before `${{args}}`, to resume it; or give the file another name."
        )
    # That word changes nothing: without it the earlier version had the same defaults.
    if _content(stored, word) == _content(new, word):
        return
    difference = "\n".join(difflib.unified_diff(_lines(stored), _lines(new), "at the start", "now", lineterm="", n=1))
    raise ConfigError(
        f"{sweep.path}: the sweep {sweep.name} has already begun with other settings. For a separate sweep, rename the "
        f"file or set `name:` in it. To resume, undo this change:\n{difference}"
    )


def _content(definition: Mapping[str, Any], default: str) -> str:
    """The definition without comments, layout and the word `default`, which may change."""
    content = yaml.safe_load(definition["sweep"])
    if isinstance(content.get("command"), list):
        content["command"] = [word for word in content["command"] if word != default]
    overrides = [word for word in definition["overrides"] if word != default]
    # Sweeps of versions without repeats did not store how many there are.
    search = {"repeats": 1, **definition["search"]}
    return json.dumps([content, overrides, search], sort_keys=True, default=str)


def _lines(definition: Mapping[str, Any]) -> list[str]:
    options = {"overrides": " ".join(definition["overrides"]), **definition["search"]}
    return [*definition["sweep"].splitlines(), *(f"--{name} {value}" for name, value in options.items())]
