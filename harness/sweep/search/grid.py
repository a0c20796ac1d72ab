"""The points of a sweep: the settings of each trial, in W&B's order, and checks of them."""

from __future__ import annotations

import dataclasses
import itertools
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.config import RunConfig
from harness.errors import ConfigError, HarnessError, collected, joined
from harness.sweep.search.settings import Search
from harness.sweep.spec import command as commands
from harness.sweep.spec.sweep_file import Sweep

# The stream of the counter-based generator (Philox) that settings are drawn from.
_SETTINGS = 0x5E7

# Problems that are printed; further ones are counted.
_MAX_PROBLEMS = 10


def points_of(sweep: Sweep, search: Search) -> list[dict[str, Any]]:
    """The settings of every trial; empty for a Bayesian search, which chooses them later."""
    match sweep.method:
        case "grid":
            return grid_points(sweep)[: _most_trials(sweep, search)]
        case "random":
            return random_points(sweep, number_of_trials(sweep, search) // sweep.repeats, search.seed)
    return []


def number_of_trials(sweep: Sweep, search: Search) -> int:
    """Raises ConfigError for a search without an end."""
    if sweep.method == "grid":
        return len(points_of(sweep, search))
    if count := _most_trials(sweep, search):
        return count
    raise ConfigError(
        f"{sweep.path}: method {sweep.method} needs a number of trials. Give run_cap in the file, or --count."
    )


def _most_trials(sweep: Sweep, search: Search) -> int | None:
    """--count, else run_cap; both count points, and the repeats of a point are trials. None without either."""
    return search.count * sweep.repeats if search.count else sweep.run_cap


def grid_points(sweep: Sweep) -> list[dict[str, Any]]:
    """Every combination of a grid in W&B's order: names are sorted, and the last one changes fastest.

    With `--repeats` it is the seed, so that run_cap cuts whole settings.
    """
    parameters = sorted(sweep.parameters, key=lambda parameter: sweep.repeats > 1 and parameter.name == "seed")
    names = [parameter.name for parameter in parameters]
    grids = [parameter.grid() or () for parameter in parameters]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*grids)]


def random_points(sweep: Sweep, count: int, seed: int) -> list[dict[str, Any]]:
    """The first `count` points of a random search, each with every seed of `--repeats`. None depends on `count`."""
    points = [
        {parameter.name: parameter.at(_quantile(seed, number, parameter.name)) for parameter in sweep.parameters}
        for number in range(count)
    ]
    if sweep.repeats == 1:
        return points
    return [{**point, "seed": repeat} for point in points for repeat in range(sweep.repeats)]


def probe_points(sweep: Sweep) -> list[dict[str, Any]]:
    """Points that a search might choose: all parameters at their smallest or largest values, and random ones."""
    ends = [{parameter.name: parameter.at(quantile) for parameter in sweep.parameters} for quantile in (1e-6, 1 - 1e-6)]
    return [*ends, *random_points(sweep, 64, seed=0)]


@dataclasses.dataclass(frozen=True)
class CheckedPoints:
    """What the points of a sweep compute. Points are trials, or examples of those of a Bayesian search."""

    configs: dict[int, RunConfig]  # of the points with valid settings, by their places
    equal: list[list[int]]  # groups of trials that compute the same
    infeasible: list[str]  # which trials have invalid settings and do not run: a sentence per problem
    problems: list[str]  # of the sweep: no trial has valid settings, or trials of a grid compute the same


def check_points(sweep: Sweep, points: Sequence[Mapping[str, Any]]) -> CheckedPoints:
    """Compute the config of each point. One sentence per problem, however many trials have it."""
    fixed = commands.named_settings([*commands.run_words(sweep.command, {}), *sweep.overrides])
    if "data" not in fixed | {parameter.name for parameter in sweep.parameters}:
        missing = "The image folder is missing. Add `- --data=FOLDER` to `command`, or `--data FOLDER` after `--`."
        return CheckedPoints({}, [], [], [missing])
    configs: dict[int, RunConfig] = {}
    same: dict[str, list[int]] = {}
    invalid: dict[str, tuple[str, list[int]]] = {}
    for number, point in enumerate(points):
        try:
            configs[number] = sweep.config(point)
            same.setdefault(configs[number].identity, []).append(number)
        except ConfigError as error:
            for problem in error.problems:
                # Random values are all different, so problems that differ only in numbers are grouped.
                kind = problem if sweep.method == "grid" else re.sub(r"-?\d+(\.\d+)?(e[-+]?\d+)?", "0", problem)
                invalid.setdefault(kind, (problem, []))[1].append(number)
    equal = [numbers for numbers in same.values() if len(numbers) > 1]
    infeasible = [f"{_subject(sweep, numbers, len(points))}: {problem}" for problem, numbers in invalid.values()]
    problems = [] if configs else infeasible
    if sweep.method == "grid":
        problems = problems + [
            f"{_trials(numbers)} are the same run: {_difference([points[number] for number in numbers])}"
            for numbers in equal
        ]
    return CheckedPoints(configs, equal, _at_most(infeasible), _at_most(problems))


def valid_points(sweep: Sweep, points: Sequence[Mapping[str, Any]]) -> CheckedPoints:
    """The checked points of a valid sweep. Raises HarnessError for its problems, missing weights files included."""
    checked = check_points(sweep, points)
    if checked.problems:
        raise ConfigError(f"{sweep.path}: {problem}" for problem in checked.problems)
    missing: list[HarnessError] = []
    for config in {config.weights: config for config in checked.configs.values()}.values():
        with collected(missing):
            config.resolved()
    if missing:
        raise joined(missing)
    return checked


def _quantile(seed: int, number: int, name: str) -> float:
    """A uniform random number between 0 and 1, both excluded, from a counter-based generator."""
    counter = [0, number, zlib.crc32(name.encode()), 0]
    # NumPy guarantees that these bits are the same in every version.
    bits = int(np.random.Philox(key=[seed, _SETTINGS], counter=counter).random_raw())
    return ((bits >> 12) + 0.5) / 2**52


def _at_most(problems: list[str]) -> list[str]:
    further = len(problems) - _MAX_PROBLEMS
    return [*problems[:_MAX_PROBLEMS], f"There are {further} more problems like these."] if further > 0 else problems


def _subject(sweep: Sweep, numbers: Sequence[int], total: int) -> str:
    if sweep.method == "bayes":
        return f"{'Every' if len(numbers) == total else 'A'} point that the search may choose"
    return "Every trial" if len(numbers) == total else _trials(numbers)


def _trials(numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return f"Trial {numbers[0]}"
    if len(numbers) <= 6:
        return f"Trials {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
    return f"Trials {', '.join(map(str, numbers[:5]))} and {len(numbers) - 5} more"


def _difference(points: Sequence[Mapping[str, Any]]) -> str:
    """How points differ that compute the same."""
    names = [name for name in points[0] if len({repr(point[name]) for point in points}) > 1]
    if not names:
        return "a value is listed twice."
    return f"they differ only in {', '.join(names)}, which does not change the result."
