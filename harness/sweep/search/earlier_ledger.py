"""What the trials in a ledger of an earlier version compute. Such a ledger stores no identities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from harness.errors import ConfigError
from harness.sweep.search.definition import Definition, begun_sweep, earlier_search
from harness.sweep.search.identity import Contents, computed_settings, identity_of, numbered, run_settings
from harness.sweep.search.ledger import run_id_of
from harness.sweep.search.settings import Search
from harness.sweep.spec.sweep_file import Sweep
from reports.runs import read_runs


def earlier_settings(
    study: optuna.Study, sweep: Sweep, folder: Path, contents: Contents, trials: Iterable[FrozenTrial]
) -> dict[int, dict[str, Any]]:
    """The computed settings of these trials by number: from their run folders, else from the file they began with."""
    runs = {run.manifest.get("wandb_run_id"): run for run in read_runs(folder)}
    try:
        begun = begun_sweep(study, sweep)
    except ConfigError:  # for example, an environment variable of its command is not set any more
        begun = None
    computed = {}
    for trial in trials:
        run = runs.get(run_id_of(study, trial))
        settings = run_settings(run) if run else None
        if settings is None and begun and "settings" in trial.user_attrs:
            try:
                settings = computed_settings(begun.config(trial.user_attrs["settings"]), contents)
            except ConfigError:  # an infeasible point of a Bayesian search
                continue
        if settings is not None:
            computed[trial.number] = settings
    return computed


def with_identities(
    trials: Mapping[str | int, FrozenTrial], computed: Mapping[int, Mapping[str, Any]]
) -> dict[str | int, FrozenTrial]:
    """The same trials by key; those without one by the identity of their computed settings, as far as it is known."""
    ordered = sorted(trials, key=lambda key: trials[key].user_attrs["point"])
    without = [key for key in ordered if isinstance(key, int) and trials[key].number in computed]
    identities = numbered(identity_of(computed[trials[key].number]) for key in without)
    keys: dict[str | int, str] = dict(zip(without, identities, strict=True))
    return {keys.get(key, key): trials[key] for key in ordered}


def earlier_definition(study: optuna.Study, sweep: Sweep, computed: Mapping[int, Mapping[str, Any]]) -> Definition:
    """The definition of a ledger that stores none, from what its trials compute."""
    method, metric = earlier_search(study)
    try:
        begun = begun_sweep(study, sweep)
    except ConfigError:
        return Definition(method, metric, (), {})
    return Definition.of(begun, Search(**study.user_attrs["search"]), computed.values())
