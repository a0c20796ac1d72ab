"""What a sweep optimises, and when it stops runs early: `metric` and `early_terminate` of a sweep file."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import ConfigError
from harness.runs import metric_table
from harness.runs.rules import Goal
from harness.sweep.spec.yaml_text import as_written

# What a run logs that a sweep may optimise, and which way.
METRICS: dict[str, Goal] = {metric.key: metric.goal for metric in metric_table.shown_in(metric_table.SWEEP)}

# Logged once in each epoch, so that the n-th value is that of epoch n.
PER_EPOCH = tuple(name for name in METRICS if metric_table.BY_KEY[name].per_epoch)

# Keys of W&B's metric that are refused, and why.
_METRIC_KEYS = {
    "target": "a sweep ends with its last trial",
    "impute": "a trial that failed tells the search nothing",
    "impute_while_running": "the search learns from trials that have ended",
}

_HYPERBAND_KEYS = ("type", "min_iter", "max_iter", "s", "eta", "strict")

_LAST_EPOCH = 10**6


@dataclass(frozen=True)
class Metric:
    """What a sweep optimises."""

    name: str
    goal: Goal


@dataclass(frozen=True)
class Hyperband:
    """Early stopping: at each band only the best 1 / eta of the runs that reached it continue.

    As W&B does it, all runs in one bracket (Li et al. 2018, arXiv 1603.06560, is where the name comes from).
    """

    bands: tuple[int, ...]  # epochs, rising
    eta: float
    strict: bool  # compares the value at the band; otherwise the best one so far


def read_metric(metric: Any, method: str) -> Metric:
    """`metric` of a sweep file; only Bayesian search cannot do without it."""
    if metric is None and method != "bayes":
        return Metric("best/val_f1", "maximize")
    if not isinstance(metric, dict) or not isinstance(metric.get("name"), str):
        raise ConfigError(
            "metric must say what is optimised, and which way: `metric: {name: best/val_f1, goal: maximize}`."
        )
    problems = _metric_problems(metric["name"], metric)
    for key in metric:
        if key not in ("name", "goal"):
            problems.append(f"metric.{key} is not supported: {_METRIC_KEYS.get(key, 'there are name and goal')}.")
    if problems:
        raise ConfigError(problems)
    return Metric(metric["name"], METRICS[metric["name"]])


def _metric_problems(name: str, metric: Mapping[str, Any]) -> list[str]:
    if name.startswith("test/"):
        return [f"metric {name}: images that settings are chosen by cannot test them any more. Use best/val_f1."]
    if name not in METRICS:
        close = difflib.get_close_matches(name, METRICS, n=1)
        advice = f"Did you mean {close[0]}?" if close else f"There are {', '.join(METRICS)}."
        return [f"metric {name} is nothing that a run logs and a sweep can optimise. {advice}"]
    if metric.get("goal", "minimize") == METRICS[name]:
        return []
    given = f"the goal is {as_written(metric['goal'])}" if "goal" in metric else "without a `goal` W&B minimises"
    return [f"metric {name}: {given}. Write `goal: {METRICS[name]}`."]


def read_hyperband(early: Any, metric: Any) -> Hyperband | None:
    """`early_terminate` of a sweep file, with W&B's defaults; `metric` is the file's."""
    if early is None:
        return None
    if not isinstance(early, dict) or early.get("type") != "hyperband":
        raise ConfigError("early_terminate must say `type: hyperband`: W&B has no other.")
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
    bands = _rising(early["min_iter"], eta) if "min_iter" in early else _falling(early["max_iter"], early["s"], eta)
    if not bands:
        raise ConfigError(
            "early_terminate leaves no epoch to compare runs at: take a larger max_iter or a smaller eta."
        )
    return Hyperband(bands, eta, strict)


def _comparison_problems(metric: Any) -> list[str]:
    name = metric.get("name") if isinstance(metric, dict) else None
    if not isinstance(name, str):
        return ["early_terminate needs a `metric` to compare runs by."]
    if name in METRICS and name not in PER_EPOCH:
        return [
            f"early_terminate counts the values that are logged, and {name} is logged many times in an epoch: use one "
            f"of {', '.join(PER_EPOCH)}."
        ]
    return []


def _epoch_problems(early: Mapping[str, Any]) -> list[str]:
    if ("min_iter" in early) == ("max_iter" in early):
        return [
            "early_terminate takes either min_iter (the first epoch at which runs are compared), or max_iter with s "
            "(the epoch to count back from, and how many times they are compared)."
        ]
    names = ("min_iter",) if "min_iter" in early else ("max_iter", "s")
    problems = [
        f"early_terminate.{name} must be a whole number from 1."
        for name in names
        if type(early.get(name)) is not int or early[name] < 1
    ]
    if "min_iter" in early and "s" in early:
        problems.append("early_terminate.s goes with max_iter.")
    return problems


def _rising(first: int, eta: float) -> tuple[int, ...]:
    """first, first * eta, first * eta^2, ..., rounded down, each once."""
    bands: list[int] = []
    band = float(first)
    while band <= _LAST_EPOCH and len(bands) < 100:  # W&B's server takes 100 of them
        bands.append(int(band))
        band *= eta
    return tuple(dict.fromkeys(bands))


def _falling(last: int, count: int, eta: float) -> tuple[int, ...]:
    """last / eta, last / eta^2, ..., `count` of them or down to 1, rounded down, rising, each once."""
    bands: list[int] = []
    band = last / eta
    while band >= 1 and len(bands) < count:
        bands.append(int(band))
        band /= eta
    return tuple(sorted({band for band in bands if band <= _LAST_EPOCH}))
