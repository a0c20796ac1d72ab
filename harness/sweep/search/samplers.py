"""Chooses the settings of trials, and stores them in the study: W&B's distributions as those of Optuna."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, create_trial

from harness.errors import ConfigError
from harness.sweep.search.settings import Search
from harness.sweep.spec.distributions import Parameter
from harness.sweep.spec.sweep_file import Method, Sweep

# The values of some distributions are infinite at a quantile of exactly 0 or 1.
_EDGE = 1e-6

# Distributions that Optuna has too.
NATIVE = (
    "categorical",
    "categorical_w_probabilities",
    "int_uniform",
    "uniform",
    "log_uniform_values",
    "inv_log_uniform_values",
)


def make_sampler(search: Search, number: int) -> optuna.samplers.BaseSampler:
    """The sampler of one trial of a Bayesian search.

    Its seed depends on the number of the trial: an interrupted search continues with the same settings, and two runners
    that choose settings at the same moment choose different ones.
    """
    seed = (search.seed * 1_000_003 + number) % 2**32
    if search.algorithm == "tpe":
        return optuna.samplers.TPESampler(seed=seed)
    if importlib.util.find_spec("scipy") is None:
        raise ConfigError("--algorithm gp needs scipy. Run `pip install scipy`, or use --algorithm tpe.")
    return optuna.samplers.GPSampler(seed=seed)


def stored_distributions(sweep: Sweep, settings: Mapping[str, Any]) -> dict[str, BaseDistribution]:
    """Optuna's distributions of those settings that the study can store.

    It cannot store a value outside of the sweep file's values, or one that was drawn from a distribution that only W&B
    has. The trial's user attribute `settings` has them all.
    """
    distributions = {}
    for parameter in sweep.parameters:
        is_native = sweep.method == "grid" or parameter.distribution in NATIVE
        if is_native and parameter.varies and parameter.name in settings:
            distribution = distribution_of(parameter, sweep.method)
            if _holds(distribution, settings[parameter.name]):
                distributions[parameter.name] = distribution
    return distributions


def ended_trial(sweep: Sweep, settings: Mapping[str, Any], **fields: Any) -> FrozenTrial:
    """A trial that ended elsewhere, with those settings that the study can store; `fields` are of `create_trial`."""
    distributions = stored_distributions(sweep, settings)
    params = {name: settings[name] for name in distributions}
    return create_trial(params=params, distributions=distributions, **fields)


def choose(trial: optuna.Trial, sweep: Sweep, settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """The settings of a trial: `settings`, or those that the study's sampler chooses. The study stores both."""
    if settings is not None:
        for name, distribution in stored_distributions(sweep, settings).items():
            # A study cannot extend the choices of a parameter: it stores no value of a trial that was added later.
            with contextlib.suppress(ValueError):
                _suggest(trial, name, distribution)
        return dict(settings)
    return {
        parameter.name: _chosen(trial, parameter, sweep.method) if parameter.varies else parameter.values[0]
        for parameter in sweep.parameters
    }


def distribution_of(parameter: Parameter, method: Method) -> BaseDistribution:
    """Optuna's distribution of a parameter; of a distribution that only W&B has, that of its quantile."""
    grid = parameter.grid() if method == "grid" else None
    if grid is not None:
        return CategoricalDistribution(grid)
    match parameter.distribution:
        case "categorical" | "categorical_w_probabilities":
            return CategoricalDistribution(parameter.values)
        case "int_uniform":
            return IntDistribution(int(parameter.low), int(parameter.high))
        case "uniform":
            return FloatDistribution(parameter.low, parameter.high)
        case "log_uniform_values" | "inv_log_uniform_values":
            return FloatDistribution(parameter.low, parameter.high, log=True)
    return FloatDistribution(_EDGE, 1 - _EDGE)


def _chosen(trial: optuna.Trial, parameter: Parameter, method: Method) -> Any:
    value = _suggest(trial, parameter.name, distribution_of(parameter, method))
    return value if parameter.distribution in NATIVE else parameter.at(value)


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    match distribution:
        case CategoricalDistribution():
            return trial.suggest_categorical(name, distribution.choices)
        case IntDistribution():
            return trial.suggest_int(name, distribution.low, distribution.high)
        case FloatDistribution():
            return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
    raise TypeError(f"{distribution} is not a distribution of a sweep")


def _holds(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    if isinstance(distribution, IntDistribution | FloatDistribution):
        return distribution.low <= value <= distribution.high
    return False
