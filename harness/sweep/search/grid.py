"""The points of a sweep: the settings of each trial, in W&B's order, and checks of them."""

from __future__ import annotations

import contextlib
import itertools
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.config import RunConfig
from harness.errors import ConfigError, PathError
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


def check_points(sweep: Sweep, points: Sequence[Mapping[str, Any]]) -> list[str]:
    """Problems of the sweep: no trial has valid settings, or trials of a grid compute the same.

    One sentence per problem, however many trials have it.
    """
    fixed = commands.named_settings([*commands.run_words(sweep.command, {}), *sweep.overrides])
    if "data" not in fixed | {parameter.name for parameter in sweep.parameters}:
        return ["The image folder is missing. Add `- --data=FOLDER` to `command`, or `--data FOLDER` after `--`."]
    same, invalid = _group(sweep, points)
    problems = []
    if len({number for _, numbers in invalid for number in numbers}) == len(points):
        problems += _sentences(sweep, invalid, len(points))
    if sweep.method == "grid":
        problems += [
            f"{_trials(numbers)} are the same run: {_difference([points[number] for number in numbers])}"
            for numbers in same
        ]
    return _at_most(problems)


def infeasible_points(sweep: Sweep, points: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which of these trials have invalid settings, and why: a sentence per problem. They do not run; the others do."""
    return _at_most(_sentences(sweep, _group(sweep, points)[1], len(points)))


def checked_configs(sweep: Sweep, points: Sequence[Mapping[str, Any]]) -> dict[int, RunConfig]:
    """The configs of those points that are valid, by their places.

    Raises ConfigError if no point is valid, or for any other problem, missing weights files included.
    """
    if problems := check_points(sweep, points):
        raise ConfigError(f"{sweep.path}: {problem}" for problem in problems)
    configs = {}
    for place, point in enumerate(points):
        with contextlib.suppress(ConfigError):
            configs[place] = sweep.config(point)
    missing: list[ConfigError] = []
    for config in {config.weights: config for config in configs.values()}.values():
        try:
            config.resolved()
        except ConfigError as error:
            missing.append(error)
    if missing:
        kind = PathError if all(isinstance(error, PathError) for error in missing) else ConfigError
        raise kind(problem for error in missing for problem in error.problems)
    return configs


def equal_points(sweep: Sweep, points: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Groups of trials that compute the same, by their numbers."""
    return _group(sweep, points)[0]


def _group(sweep: Sweep, points: Sequence[Mapping[str, Any]]) -> tuple[list[list[int]], list[tuple[str, list[int]]]]:
    """Numbers of trials: groups that compute the same, and each problem with the trials that have it."""
    same: dict[str, list[int]] = {}
    invalid: dict[str, tuple[str, list[int]]] = {}
    for number, point in enumerate(points):
        try:
            same.setdefault(sweep.config(point).identity, []).append(number)
        except ConfigError as error:
            for problem in error.problems:
                # Random values are all different, so problems that differ only in numbers are grouped.
                kind = problem if sweep.method == "grid" else re.sub(r"-?\d+(\.\d+)?(e[-+]?\d+)?", "0", problem)
                invalid.setdefault(kind, (problem, []))[1].append(number)
    return [numbers for numbers in same.values() if len(numbers) > 1], list(invalid.values())


def _quantile(seed: int, number: int, name: str) -> float:
    """A uniform random number between 0 and 1, both excluded, from a counter-based generator."""
    counter = [0, number, zlib.crc32(name.encode()), 0]
    # NumPy guarantees that these bits are the same in every version.
    bits = int(np.random.Philox(key=[seed, _SETTINGS], counter=counter).random_raw())
    return ((bits >> 12) + 0.5) / 2**52


def _sentences(sweep: Sweep, invalid: Sequence[tuple[str, list[int]]], total: int) -> list[str]:
    return [f"{_subject(sweep, numbers, total)}: {problem}" for problem, numbers in invalid]


def _at_most(problems: list[str]) -> list[str]:
    if (further := len(problems) - _MAX_PROBLEMS) > 0:
        problems[_MAX_PROBLEMS:] = [f"There are {further} more problems like these."]
    return problems


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
