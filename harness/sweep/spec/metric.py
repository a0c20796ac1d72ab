"""`metric` and `early_terminate` of a sweep file: what the sweep optimises, and when it prunes trials."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import ConfigError
from harness.runs import metric_table
from harness.runs.rules import Goal
from harness.sweep.spec.yaml_text import as_written, did_you_mean

# Metrics that a sweep can optimise, and their directions.
METRICS: dict[str, Goal] = {metric.key: metric.goal for metric in metric_table.shown_in(metric_table.SWEEP)}

# Metrics that are logged once per epoch: value n is that of epoch n.
PER_EPOCH = tuple(name for name in METRICS if metric_table.BY_KEY[name].per_epoch)

# Keys of W&B's `metric` that are not supported, and why.
_METRIC_KEYS = {
    "target": "a sweep ends with its last trial",
    "impute": "the search does not use failed trials",
    "impute_while_running": "the search uses only trials that have ended",
}

_HYPERBAND_KEYS = ("type", "min_iter", "max_iter", "s", "eta", "strict")

_LAST_EPOCH = 10**6


@dataclass(frozen=True)
class Metric:
    """The metric that a sweep optimises, and its direction."""

    name: str
    goal: Goal


@dataclass(frozen=True)
class Hyperband:
    """Early termination: at each band only the best 1 / eta of the runs that reached it continue.

    As in W&B, all runs are in one bracket of Hyperband (Li et al. 2018, arXiv 1603.06560).
    """

    bands: tuple[int, ...]  # epochs, ascending
    eta: float
    strict: bool  # compare the value at the band; otherwise the best value so far


def read_metric(metric: Any, method: str) -> Metric:
    """`metric` of a sweep file; required only for a Bayesian search. Raises ConfigError with all problems."""
    if metric is None and method != "bayes":
        return Metric("best/val_f1", "maximize")
    if not isinstance(metric, dict) or not isinstance(metric.get("name"), str):
        raise ConfigError("metric must have a name and a goal, as in `metric: {name: best/val_f1, goal: maximize}`.")
    problems = _metric_problems(metric["name"], metric)
    for key in metric:
        if key not in ("name", "goal"):
            problems.append(f"metric.{key} is not supported: {_METRIC_KEYS.get(key, 'its keys are name and goal')}.")
    if problems:
        raise ConfigError(problems)
    return Metric(metric["name"], METRICS[metric["name"]])


def _metric_problems(name: str, metric: Mapping[str, Any]) -> list[str]:
    if name.startswith("test/"):
        return [f"metric {name}: a sweep must not choose settings by test images. Use best/val_f1."]
    if name not in METRICS:
        advice = did_you_mean(name, METRICS, f"Give one of {', '.join(METRICS)}.")
        return [f"metric {name} is not a metric that a sweep can optimise. {advice}"]
    if metric.get("goal", "minimize") == METRICS[name]:
        return []
    problem = f"the goal is {as_written(metric['goal'])}" if "goal" in metric else "without a `goal`, W&B minimises it"
    return [f"metric {name}: {problem}. Write `goal: {METRICS[name]}`."]


def read_hyperband(early: Any, metric: Any) -> Hyperband | None:
    """`early_terminate` of a sweep file, with W&B's defaults. Raises ConfigError with all problems."""
    if early is None:
        return None
    if not isinstance(early, dict) or early.get("type") != "hyperband":
        raise ConfigError("early_terminate must have `type: hyperband`, the only type that W&B has.")
    eta, strict = early.get("eta", 3), early.get("strict", True)
    problems = [
        f"early_terminate.{key} is not a key of hyperband; its keys are {', '.join(_HYPERBAND_KEYS)}."
        for key in early
        if key not in _HYPERBAND_KEYS
    ]
    problems += _comparison_problems(metric)
    if type(eta) not in (int, float) or not 1 < eta < math.inf:
        problems.append(f"early_terminate.eta is {as_written(eta)}; it must be a number above 1.")
    if type(strict) is not bool:
        problems.append(f"early_terminate.strict is {as_written(strict)}; it must be true or false.")
    problems += _epoch_problems(early)
    if problems:
        raise ConfigError(problems)
    if "min_iter" in early:
        bands = _bands_from(early["min_iter"], eta)
    else:
        bands = _bands_to(early["max_iter"], early["s"], eta)
    if not bands:
        raise ConfigError("early_terminate compares runs at no epoch. Give a larger max_iter or a smaller eta.")
    return Hyperband(bands, eta, strict)


def _comparison_problems(metric: Any) -> list[str]:
    name = metric.get("name") if isinstance(metric, dict) else None
    if not isinstance(name, str):
        return ["early_terminate needs a `metric` to compare runs by."]
    if name in METRICS and name not in PER_EPOCH:
        return [
            f"early_terminate needs a metric that is logged once per epoch; {name} is logged more often. Use one of "
            f"{', '.join(PER_EPOCH)}."
        ]
    return []


def _epoch_problems(early: Mapping[str, Any]) -> list[str]:
    if ("min_iter" in early) == ("max_iter" in early):
        return [
            "early_terminate needs either min_iter (the first epoch at which runs are compared), or max_iter and s "
            "(the epoch to count back from, and the number of comparisons)."
        ]
    names = ("min_iter",) if "min_iter" in early else ("max_iter", "s")
    problems = [
        f"early_terminate.{name} must be a whole number of at least 1."
        for name in names
        if type(early.get(name)) is not int or early[name] < 1
    ]
    if "min_iter" in early and "s" in early:
        problems.append("early_terminate.s needs max_iter instead of min_iter.")
    return problems


def _bands_from(first: int, eta: float) -> tuple[int, ...]:
    """first, first * eta, first * eta^2, ..., rounded down, without repeats."""
    bands: list[int] = []
    band = float(first)
    while band <= _LAST_EPOCH and len(bands) < 100:  # as many as W&B's server
        bands.append(int(band))
        band *= eta
    return tuple(dict.fromkeys(bands))


def _bands_to(last: int, count: int, eta: float) -> tuple[int, ...]:
    """The first `count` of last / eta, last / eta^2, ... >= 1, rounded down, ascending, without repeats."""
    bands: list[int] = []
    band = last / eta
    while band >= 1 and len(bands) < count:
        bands.append(int(band))
        band /= eta
    return tuple(sorted({band for band in bands if band <= _LAST_EPOCH}))
