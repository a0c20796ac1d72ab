"""The Optuna study of a sweep: made once, with every trial queued, and never for another file of the same name.

The points of a grid or of a random search are queued with their settings, those of a Bayesian search without: they are
chosen when their turn comes.
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

# Seconds for the process that made a study to give it its id.
STUDY_TIMEOUT = 2.0


def open_study(sweep: Sweep, search: Search, folder: Path, storage: str | None) -> optuna.Study:
    """The sweep's study, made if need be. Raises ConfigError when it was begun with something else."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    backend, pruner = open_storage(storage or default_storage(folder)), _pruner(sweep)
    try:
        study = optuna.create_study(storage=backend, study_name=sweep.name, direction=sweep.metric.goal, pruner=pruner)
        made_here = True
    except optuna.exceptions.DuplicatedStudyError:
        made_here = False
        study = optuna.load_study(storage=backend, study_name=sweep.name, pruner=pruner)
    _define(study, sweep, search, made_here=made_here)
    return study


def begun_study(sweep: Sweep, folder: Path, storage: str | None) -> optuna.Study:
    """The study of a sweep that has begun. Raises HarnessError when there is none."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    missing = HarnessError(f"The sweep {sweep.name} has not begun in {folder}: harness sweep run {sweep.path}")
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


def _define(study: optuna.Study, sweep: Sweep, search: Search, *, made_here: bool) -> None:
    """Fill a new study, or one that an interrupted process left half full; refuse another definition."""
    definition = {
        "sweep": sweep.text,
        "overrides": list(sweep.overrides),
        "search": dataclasses.asdict(search),
        "default_recipe": recipes.DEFAULT,
    }
    if "search" in study.user_attrs:
        _refuse_changes(study.user_attrs, definition, sweep)
    elif "sweep_id" not in study.user_attrs:
        # Whoever made the study gives it its id; somebody who finds one without gives that time.
        if not made_here:
            time.sleep(STUDY_TIMEOUT)
        if "sweep_id" not in study.user_attrs:
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
        f"{sweep.path}: method {sweep.method} never ends by itself. Give run_cap in the file, or --count."
    )


def _refuse_changes(known: Mapping[str, Any], new: Mapping[str, Any], sweep: Sweep) -> None:
    default = known.get("default_recipe", recipes.BEFORE_RECIPES)
    word = f"--recipe={default}"
    if default != new["default_recipe"] and word not in (*sweep.command, *sweep.overrides):
        raise ConfigError(
            f"{sweep.path}: the sweep {sweep.name} was begun with an earlier version, whose defaults are now those of "
            f"{word}. Add `- {word}` to `command`, before `${{args}}`, to resume it; or give the file another name."
        )
    # That word changes nothing: without it the earlier version had the same defaults.
    if _meaning(known, word) == _meaning(new, word):
        return
    before, now = _written(known), _written(new)
    difference = "\n".join(difflib.unified_diff(before, now, "as it was begun", "now", lineterm="", n=1))
    raise ConfigError(
        f"{sweep.path}: the sweep {sweep.name} was begun with something else. Give the file another name (or `name:`) "
        f"for a separate sweep, or undo this change:\n{difference}"
    )


def _meaning(definition: Mapping[str, Any], default: str) -> str:
    """Without comments, layout and the word `default`, which may change."""
    content = yaml.safe_load(definition["sweep"])
    if isinstance(content.get("command"), list):
        content["command"] = [word for word in content["command"] if word != default]
    overrides = [word for word in definition["overrides"] if word != default]
    return json.dumps([content, overrides, definition["search"]], sort_keys=True, default=str)


def _written(definition: Mapping[str, Any]) -> list[str]:
    options = {"overrides": " ".join(definition["overrides"]), **definition["search"]}
    return [*definition["sweep"].splitlines(), *(f"--{name} {value}" for name, value in options.items())]
