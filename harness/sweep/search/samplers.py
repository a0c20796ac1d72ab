"""Chooses the settings of trials, and stores them in the study: W&B's distributions as those of Optuna."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import optuna

from harness.errors import ConfigError
from harness.sweep.search.settings import Search
from harness.sweep.spec.distributions import Parameter
from harness.sweep.spec.sweep_file import Sweep

# The values of some distributions are infinite at a quantile of exactly 0 or 1.
_EDGE = 1e-6

# Distributions that Optuna has too.
_NATIVE = (
    "categorical",
    "categorical_w_probabilities",
    "int_uniform",
    "uniform",
    "log_uniform_values",
    "inv_log_uniform_values",
)


def make_sampler(search: Search, begun: int) -> optuna.samplers.BaseSampler:
    """The sampler of the next trial of a Bayesian search.

    Its seed depends on the number of trials begun, so that an interrupted search continues with the same settings.
    """
    seed = (search.seed * 1_000_003 + begun) % 2**32
    if search.algorithm == "tpe":
        return optuna.samplers.TPESampler(seed=seed)
    if importlib.util.find_spec("scipy") is None:
        raise ConfigError("--algorithm gp needs scipy. Run `pip install scipy`, or use --algorithm tpe.")
    return optuna.samplers.GPSampler(seed=seed)


def queued_parameters(sweep: Sweep, settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """The Optuna parameters of a trial in the queue; empty if its settings are chosen later."""
    if settings is None:
        return {}
    return {parameter.name: settings[parameter.name] for parameter in sweep.parameters if _is_stored(parameter, sweep)}


def choose(trial: optuna.Trial, sweep: Sweep, settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """The settings of a trial: `settings`, or those that the study's sampler chooses. The study stores both."""
    if settings is not None:
        for parameter in sweep.parameters:
            if _is_stored(parameter, sweep):
                _suggest(trial, parameter, sweep)
        return dict(settings)
    return {
        parameter.name: _suggest(trial, parameter, sweep) if parameter.varies else parameter.values[0]
        for parameter in sweep.parameters
    }


def _is_stored(parameter: Parameter, sweep: Sweep) -> bool:
    """Whether the study can store a value that was drawn without Optuna: only if Optuna has the distribution."""
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
    # The study stores the quantile; the value is in the trial's user attribute `settings`.
    return parameter.at(trial.suggest_float(name, _EDGE, 1 - _EDGE))
