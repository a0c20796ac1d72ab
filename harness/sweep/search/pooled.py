"""A Bayesian search with --repeats: it chooses settings once for all of their seeds, and learns from the means."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from harness.sweep.search.ledger import newest_trials
from harness.sweep.search.samplers import choose
from harness.sweep.spec.repeats import SEED
from harness.sweep.spec.sweep_file import Sweep

Lock = Callable[[], contextlib.AbstractContextManager[None]]


def settings_of(
    study: optuna.Study, trial: optuna.Trial, sweep: Sweep, attributes: Mapping[str, Any], lock: Lock
) -> dict[str, Any]:
    """The settings of a claimed trial: those that it stores in its `attributes`, else chosen and stored."""
    if "settings" in attributes:
        return choose(trial, sweep, attributes["settings"])
    if sweep.repeats == 1:
        settings = choose(trial, sweep, None)
        trial.set_user_attr("settings", settings)
        return settings
    with lock():  # another worker may claim the next seed of the same settings
        settings = _next_seed(study, trial, sweep, attributes["point"])
        trial.set_user_attr("settings", settings)
    return settings


def _next_seed(study: optuna.Study, trial: optuna.Trial, sweep: Sweep, point: int) -> dict[str, Any]:
    """Point p is seed p % repeats of setting p // repeats. The study's sampler chooses a setting at its first seed."""
    place, seed = divmod(point, sweep.repeats)
    source = next((other for other in _claimed(study) if _place(other, sweep.repeats) == place), None)
    if source is not None:
        settings = source.user_attrs["settings"]
    else:
        pooled = optuna.create_study(direction=study.direction, sampler=study.sampler)
        pooled.add_trials(setting_trials(study, sweep.repeats))
        new = pooled.ask()
        without_seed = tuple(parameter for parameter in sweep.parameters if parameter.name != SEED)
        settings = choose(new, dataclasses.replace(sweep, parameters=without_seed), None)
        source = pooled.trials[new.number]
    for name, distribution in source.distributions.items():
        value = distribution.to_internal_repr(source.params[name])
        study._storage.set_trial_param(trial._trial_id, name, value, distribution)
    return {**settings, SEED: seed}


def setting_trials(study: optuna.Study, repeats: int) -> list[FrozenTrial]:
    """What the search learns from: one trial per setting whose seeds have all ended, in the order of their starts.

    Its value is the mean over the seeds that finished. A setting counts as pruned if one of its seeds was pruned or is
    infeasible, because a mean over the others would be too good.
    """
    by_settings: dict[str, list[FrozenTrial]] = {}
    for trial in sorted(_claimed(study), key=lambda trial: trial.number):
        settings = {name: value for name, value in trial.user_attrs["settings"].items() if name != SEED}
        by_settings.setdefault(json.dumps(settings, sort_keys=True), []).append(trial)
    unfinished = {_place(trial, repeats) for trial in newest_trials(study).values() if not trial.state.is_finished()}
    ended = [trials for trials in by_settings.values() if not any(_place(one, repeats) in unfinished for one in trials)]
    return [pooled for trials in ended if (pooled := _pooled(trials))]


def _pooled(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """One trial for all seeds of a setting; None if all of them failed."""
    params = {name: value for name, value in trials[0].params.items() if name != SEED}
    distributions = {name: trials[0].distributions[name] for name in params}
    if pruned := [trial for trial in trials if trial.state == TrialState.PRUNED]:
        return create_trial(
            state=TrialState.PRUNED,
            params=params,
            distributions=distributions,
            intermediate_values=pruned[0].intermediate_values,
        )
    values = [trial.values[0] for trial in trials if trial.state == TrialState.COMPLETE]
    if not values:
        return None
    return create_trial(value=float(np.mean(values)), params=params, distributions=distributions)


def _claimed(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that have settings."""
    return [trial for trial in newest_trials(study).values() if "settings" in trial.user_attrs]


def _place(trial: FrozenTrial, repeats: int) -> int | str:
    """The number of a setting that the search chose; of a trial that was added or taken over, its key."""
    attributes = trial.user_attrs
    place: int | str = attributes["key"] if "key" in attributes else attributes["point"] // repeats
    return place
