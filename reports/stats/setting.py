"""A setting: runs that differ only in their seed. It is the unit of rankings, tests and figures; seeds are repeats."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from harness.runs.paired import resampled
from harness.runs.resampling import LEVEL, RESAMPLES, macro_f1
from harness.runs.rules import Goal
from reports import columns
from reports.runs import Run
from reports.stats import crossed
from reports.stats.same_images import aligned, fingerprint, obstacle

SEED = "seed"

# Entries of config.json that do not change what a run computes: folders, names, logging, speed.
NOT_SETTINGS = (
    *("runs_dir", "cache_dir", "name", "project", "group", "tags", "fresh"),
    *("log_every", "checkpoint_every", "checkpoint_minutes", "threads", "workers"),
)

# Not part of a setting either, but a command that repeats a run keeps them: its machine may need small micro-batches.
NOT_COMPUTED = (*NOT_SETTINGS, "micro_batch", "explain", "explain_layer", "verify")


@dataclass(frozen=True)
class Pooled:
    """A score over seeds."""

    n: int
    mean: float | None  # None without a seed
    sd: float | None  # with n - 1; None with fewer than two seeds
    low: float | None = None  # 95 % interval of the mean: over images, and over seeds if there are several
    high: float | None = None


@dataclass(frozen=True, eq=False)
class Setting:
    """`runs` have finished with the metric that ranks, the best first; `others` have not."""

    runs: tuple[Run, ...]
    others: tuple[Run, ...]
    score: Pooled  # the metric that ranks

    @property
    def all_runs(self) -> tuple[Run, ...]:
        return (*self.runs, *self.others)

    @property
    def best(self) -> Run:
        """The run of the best seed; one of the others if no seed has finished."""
        return self.all_runs[0]

    @property
    def seeds(self) -> tuple[Any, ...]:
        """Of `runs`, in their order."""
        return tuple(run.config.get(SEED) for run in self.runs)

    def pooled(self, key: str) -> Pooled:
        """Another metric over the same runs."""
        return pooled(run.metric(key) for run in self.runs)

    @cached_property
    def test_f1(self) -> Pooled:
        """Macro F1 on test, with its interval."""
        if len(self.runs) == 1:
            return test_f1_of(self.best)
        scores = self.pooled("test/f1")
        low, high = _interval(self.runs) if scores.n == len(self.runs) > 1 else (None, None)
        return dataclasses.replace(scores, low=low, high=high)


def settings_of(runs: Sequence[Run], metric: str, goal: Goal) -> list[Setting]:
    """The settings of runs, best first by the mean of the metric over the seeds that have finished with it.

    The lower mean validation loss decides between equal ones. Settings without such a seed come last, in the order of
    their runs. Runs have one setting if they have the same config, except for the seed and what does not change the
    result, and the same data. A second run of a seed belongs to a second setting.
    """
    ranked_runs = {run for run in runs if run.finished and run.metric(metric) is not None}
    by_data: dict[str, str] = {}  # fingerprints of data folders, for runs that ended before they had one
    for run in runs:
        if (known := fingerprint(run)) is not None:
            by_data.setdefault(json.dumps(run.config.get("data")), known)
    groups: dict[str, list[dict[str, Run]]] = {}  # runs by seed
    for run in sorted(runs, key=lambda run: run not in ranked_runs):
        copies = groups.setdefault(_identity(run, by_data), [])
        seed = json.dumps(run.config.get(SEED))
        home = next((copy for copy in copies if seed not in copy), None)
        if home is None:
            copies.append(home := {})
        home[seed] = run
    settings = [
        _setting(list(copy.values()), ranked_runs, metric, goal) for copies in groups.values() for copy in copies
    ]

    def order(setting: Setting) -> tuple[float, float, str]:
        loss = setting.pooled("best/val_loss")
        mean_loss = loss.mean if loss.n == setting.score.n else None
        return _order(goal, setting.score.mean, mean_loss, setting.best)

    place = {run: number for number, run in enumerate(runs)}
    unranked = sorted((each for each in settings if not each.runs), key=lambda setting: place[setting.others[0]])
    return [*sorted((each for each in settings if each.runs), key=order), *unranked]


def ranked(runs: Iterable[Run], metric: str, goal: Goal) -> list[Run]:
    """The finished runs that have the metric: those of the best setting first, each setting's best seed first."""
    return [run for setting in settings_of(list(runs), metric, goal) for run in setting.runs]


def pooled(values: Iterable[float | None]) -> Pooled:
    """Mean and standard deviation of the values that are known."""
    known = [value for value in values if value is not None]
    mean = statistics.fmean(known) if known else None
    return Pooled(len(known), mean, statistics.stdev(known) if len(known) > 1 else None)


def test_f1_of(run: Run) -> Pooled:
    """Macro F1 on test of one run, with the interval of its summary, which is over images only."""
    low, high = (run.metric(f"test/f1_{side}") for side in ("low", "high"))
    return dataclasses.replace(pooled([run.metric("test/f1")]), low=low, high=high)


def varying(runs: Sequence[Run]) -> tuple[str, ...]:
    """Names of settings with more than one value among the runs, in the order of the configs; the seed is none."""
    names = dict.fromkeys(name for run in runs for name in run.config if name not in (*NOT_COMPUTED, SEED))
    values = {name: {json.dumps(run.config[name]) for run in runs if name in run.config} for name in names}
    return tuple(name for name in names if len(values[name]) > 1)


def in_words(settings: Mapping[str, Any]) -> str:
    """Settings as text: "lr 0.0001, batch size 16"."""
    return columns.in_words({name: columns.value(value) for name, value in settings.items()})


def _identity(run: Run, by_data: Mapping[str, str]) -> str:
    """Text that is equal for runs of one setting."""
    path = run.config.get("data")
    data = fingerprint(run) or by_data.get(json.dumps(path)) or {"path": path}
    kept = {name: value for name, value in run.config.items() if name not in (*NOT_COMPUTED, SEED, "data")}
    return json.dumps([kept, data], sort_keys=True)


def _setting(runs: Sequence[Run], ranked_runs: Set[Run], metric: str, goal: Goal) -> Setting:
    finished = sorted(
        (run for run in runs if run in ranked_runs),
        key=lambda run: _order(goal, run.metric(metric), run.metric("best/val_loss"), run),
    )
    others = tuple(run for run in runs if run not in ranked_runs)
    return Setting(tuple(finished), others, pooled(run.metric(metric) for run in finished))


def _order(goal: Goal, score: float | None, loss: float | None, run: Run) -> tuple[float, float, str]:
    """Sort key: the better score first, then the lower loss, then the name."""
    sign = -1 if goal == "maximize" else 1
    return sign * (score or 0.0), math.inf if loss is None else loss, run.name


def _interval(runs: Sequence[Run]) -> tuple[float, float] | tuple[None, None]:
    """95 % interval of the mean macro F1 of several seeds, over seeds and images; None if it cannot be computed."""
    first = runs[0]
    if any(obstacle(first, run) for run in runs):
        return None, None
    labels, num_classes = first.predictions.labels, len(first.predictions.classes)
    predicted = [aligned(first, run) for run in runs]
    scores = np.array([macro_f1(labels, of_run, num_classes) for of_run in predicted])
    estimate = crossed.mean(scores, resampled(labels, predicted, num_classes, resamples=RESAMPLES))
    low, high = max(estimate.low, 0.0), min(estimate.high, 1.0)
    # As in `resampling.bootstrap`: without an error, or without a hit, all redrawn images give the same score.
    certain = ((1 - LEVEL) / 2) ** (1 / len(labels))
    hits = [(of_run == labels).mean() for of_run in predicted]
    if min(hits) == 1:
        low = min(low, estimate.value * certain)
    if max(hits) == 0:
        high = max(high, 1 - certain)
    return low, high
