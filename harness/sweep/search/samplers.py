"""How the settings of a trial are chosen, and how they stand in the study: W&B's distributions in Optuna's terms."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import optuna

from harness.errors import ConfigError
from harness.sweep.search.settings import Search
from harness.sweep.spec.distributions import Parameter
from harness.sweep.spec.sweep_file import Sweep

if TYPE_CHECKING:
    pass

# A quantile of exactly 0 or 1 is infinite for some distributions.
_EDGE = 1e-6


def sampler(search: Search, begun: int) -> optuna.samplers.BaseSampler:
    """What chooses the next settings of a Bayesian search.

    Seeded for each trial by how many have begun, so that an interrupted search chooses what it would have chosen.
    """
    seed = (search.seed * 1_000_003 + begun) % 2**32
    if search.algorithm == "tpe":
        return optuna.samplers.TPESampler(seed=seed)
    if importlib.util.find_spec("scipy") is None:
        raise ConfigError("--algorithm gp needs scipy: pip install scipy, or use --algorithm tpe.")
    return optuna.samplers.GPSampler(seed=seed)


def queued_parameters(sweep: Sweep, settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """The parameters with which settings are queued in the study; none where they are still to be chosen."""
    if settings is None:
        return {}
    return {parameter.name: settings[parameter.name] for parameter in sweep.parameters if _is_kept(parameter, sweep)}


def choose(trial: optuna.Trial, sweep: Sweep, settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """The settings of a trial: those given, or chosen by the study's sampler; either way the study knows them."""
    if settings is not None:
        for parameter in sweep.parameters:
            if _is_kept(parameter, sweep):
                _suggest(trial, parameter, sweep)
        return dict(settings)
    return {
        parameter.name: _suggest(trial, parameter, sweep) if parameter.varies else parameter.values[0]
        for parameter in sweep.parameters
    }


def _is_kept(parameter: Parameter, sweep: Sweep) -> bool:
    """Whether the study holds the value itself. Of drawn values that Optuna has no distribution for it holds none."""
    return parameter.varies and (sweep.method == "grid" or parameter.distribution in _NATIVE)


def _suggest(trial: optuna.Trial, parameter: Parameter, sweep: Sweep) -> Any:
    name, low, high = parameter.name, parameter.low, parameter.high
    grid = parameter.grid() if sweep.method == "grid" else None
    if grid is not None:
        return trial.suggest_categorical(name, grid)
    match parameter.distribution:
        case "categorical" | "categorical_w_probabilities":
            return trial.suggest_categorical(name, parameter.values)
        case "int_uniform":
            return trial.suggest_int(name, int(low), int(high))
        case "uniform":
            return trial.suggest_float(name, low, high)
        case "log_uniform_values" | "inv_log_uniform_values":
            return trial.suggest_float(name, low, high, log=True)
    # The study holds the quantile; what it stands for is under the trial's own attribute `settings`.
    return parameter.at(trial.suggest_float(name, _EDGE, 1 - _EDGE))


_NATIVE = (
    "categorical",
    "categorical_w_probabilities",
    "int_uniform",
    "uniform",
    "log_uniform_values",
    "inv_log_uniform_values",
)
