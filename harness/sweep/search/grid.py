"""The points of a sweep: the settings of each trial, in W&B's order, and what is wrong with them."""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.config import RunConfig
from harness.errors import ConfigError, PathError
from harness.sweep.spec import command as commands
from harness.sweep.spec.sweep_file import Sweep

# The stream of the counter-based generator (Philox) that settings are drawn from.
_SETTINGS = 0x5E7

# Sentences that are said before the rest is only counted.
_MOST_SENTENCES = 10


def grid_points(sweep: Sweep) -> list[dict[str, Any]]:
    """Every combination of a grid in W&B's order: by the sorted names, the last one changing fastest."""
    names = [parameter.name for parameter in sweep.parameters]
    grids = [parameter.grid() or () for parameter in sweep.parameters]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*grids)]


def random_points(sweep: Sweep, count: int, seed: int) -> list[dict[str, Any]]:
    """The first `count` points of a random search; point k is the same however many there are."""
    return [
        {parameter.name: parameter.at(_quantile(seed, number, parameter.name)) for parameter in sweep.parameters}
        for number in range(count)
    ]


def probe_points(sweep: Sweep, count: int = 64) -> list[dict[str, Any]]:
    """Points that a search might choose: all parameters at their least and at their largest values, and random ones."""
    ends = [{parameter.name: parameter.at(share) for parameter in sweep.parameters} for share in (1e-6, 1 - 1e-6)]
    return [*ends, *random_points(sweep, count, seed=0)]


def check_points(sweep: Sweep, points: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is wrong with these trials: settings that no run can have and, in a grid, settings that are there twice.

    One sentence for each problem, however many trials have it.
    """
    given = commands.settings_given([*commands.run_words(sweep.command, {}), *sweep.overrides])
    if "data" not in given | {parameter.name for parameter in sweep.parameters}:
        return ["Nothing says where the images are. Add `- --data=FOLDER` to `command`, or `--data FOLDER` after `--`."]
    same, impossible = _sorted_out(sweep, points)
    problems = [f"{_whose(sweep, numbers, len(points))}: {problem}" for problem, numbers in impossible]
    if sweep.method == "grid":
        problems += [
            f"{_trials(numbers)} are one and the same run: {_difference([points[number] for number in numbers])}"
            for numbers in same
        ]
    if (left_out := len(problems) - _MOST_SENTENCES) > 0:
        problems[_MOST_SENTENCES:] = [f"There are {left_out} more problems like these."]
    return problems


def checked_configs(sweep: Sweep, points: Sequence[Mapping[str, Any]]) -> list[RunConfig]:
    """The configs of these points; ConfigError with all that is wrong with them, missing weights files included."""
    if problems := check_points(sweep, points):
        raise ConfigError(f"{sweep.path}: {problem}" for problem in problems)
    configs = [sweep.config(point) for point in points]
    missing: list[ConfigError] = []
    for config in {config.weights: config for config in configs}.values():
        try:
            config.resolved()
        except ConfigError as error:
            missing.append(error)
    if missing:
        kind = PathError if all(isinstance(error, PathError) for error in missing) else ConfigError
        raise kind(problem for error in missing for problem in error.problems)
    return configs


def equal_points(sweep: Sweep, points: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Numbers of the trials that compute the same thing, those of each such group together."""
    return _sorted_out(sweep, points)[0]


def _sorted_out(
    sweep: Sweep, points: Sequence[Mapping[str, Any]]
) -> tuple[list[list[int]], list[tuple[str, list[int]]]]:
    """Numbers of trials: groups of those that compute the same thing, and each problem with those that have it."""
    same: dict[str, list[int]] = {}
    impossible: dict[str, tuple[str, list[int]]] = {}
    for number, point in enumerate(points):
        try:
            same.setdefault(sweep.config(point).identity, []).append(number)
        except ConfigError as error:
            for problem in error.problems:
                # Values that are drawn are all different: what is wrong with them is said for the first.
                kind = problem if sweep.method == "grid" else re.sub(r"-?\d+(\.\d+)?(e[-+]?\d+)?", "0", problem)
                impossible.setdefault(kind, (problem, []))[1].append(number)
    return [numbers for numbers in same.values() if len(numbers) > 1], list(impossible.values())


def _quantile(seed: int, number: int, name: str) -> float:
    """A uniform draw between 0 and 1, both excluded, that depends on nothing else."""
    counter = [0, number, zlib.crc32(name.encode()), 0]
    # The raw bits, of which NumPy promises that they stay the same from version to version.
    bits = int(np.random.Philox(key=[seed, _SETTINGS], counter=counter).random_raw())
    return ((bits >> 12) + 0.5) / 2**52


def _whose(sweep: Sweep, numbers: Sequence[int], total: int) -> str:
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
    """In what points differ that a run computes the same from."""
    names = [name for name in points[0] if len({repr(point[name]) for point in points}) > 1]
    if not names:
        return "a value is listed twice."
    return f"they differ in {', '.join(names)} only, which does not change what is computed."
