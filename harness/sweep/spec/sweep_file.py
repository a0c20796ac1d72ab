"""Reads and checks a W&B sweep file. Keys of W&B's schema that are not supported are errors."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import harness
from harness.config import RunConfig
from harness.errors import ConfigError
from harness.options import parse
from harness.settings.option import option_name
from harness.sweep.spec import command as commands
from harness.sweep.spec import yaml_text
from harness.sweep.spec.distributions import Parameter
from harness.sweep.spec.metric import Hyperband, Metric, read_hyperband, read_metric
from harness.sweep.spec.parameter_entries import NOT_SWEPT, read_entry, similar_setting
from harness.sweep.spec.yaml_text import as_written, did_you_mean

Method = Literal["grid", "random", "bayes"]

_KEYS = (
    *("program", "method", "metric", "parameters", "command", "early_terminate", "run_cap"),
    *("name", "description", "project", "entity", "apiVersion", "kind", "controller"),
)

# Keys of W&B's schema that need its servers.
_REFUSED = {
    "job": "launch jobs need W&B's server",
    "image_uri": "launch jobs need W&B's server",
    "scheduler": "it needs W&B's server",
    "metrics": "several metrics need a scheduler on W&B's server. Give one `metric`",
}

_MAX_GRID_POINTS = 10_000


@dataclass(frozen=True)
class Sweep:
    """A valid sweep file."""

    path: Path
    text: str
    name: str
    method: Method
    metric: Metric
    parameters: tuple[Parameter, ...]  # in W&B's order: sorted by their names in the file
    command: tuple[str, ...]
    early_terminate: Hyperband | None = None
    run_cap: int | None = None
    project: str | None = None
    entity: str | None = None
    description: str | None = None
    overrides: tuple[str, ...] = ()  # options that take precedence over the file
    repeats: int = 1  # seeds of each point; see `repeats.with_repeats`

    @property
    def seeds_per_setting(self) -> int:
        """How many runs each setting gets: of a grid the values of `seed`, else those of --repeats."""
        if self.method != "grid":
            return self.repeats
        return next((parameter.grid_size for parameter in self.parameters if parameter.name == "seed"), 1)

    def config(self, point: Mapping[str, Any]) -> RunConfig:
        """The config of the trial at a point. Raises ConfigError if its settings are invalid."""
        return parse([*commands.run_words(self.command, point), *self.overrides])


def read_sweep(path: str | Path, overrides: Sequence[str] = ()) -> Sweep:
    """Read a sweep file; `overrides` are appended to the command line of every trial. Raises ConfigError.

    The error lists all problems of the file. `grid.check_points` finds problems in the combined settings of a trial.
    """
    path = Path(path)
    return parse_sweep(yaml_text.read_text(path), path, overrides)


def parse_sweep(text: str, path: Path, overrides: Sequence[str] = ()) -> Sweep:
    """The sweep in the text of a file. Raises ConfigError with all problems."""
    problems: list[str] = []

    def read(reader: Callable[..., Any], *values: Any) -> Any:
        """Call a reader; if it raises ConfigError, collect its problems and return None."""
        try:
            return reader(*values)
        except ConfigError as error:
            problems.extend(error.problems)

    content: dict[str, Any] = read(yaml_text.parse, text)
    if not problems:
        problems += [*_key_problems(content), *_program_problems(content.get("program"))]
        method = read(_method, content.get("method"))
        entries = read(_entries, content.get("parameters")) or {}
        parameters = [read(read_entry, key, entries[key]) for key in sorted(entries)]
        metric, early = content.get("metric"), content.get("early_terminate")
        sweep = Sweep(
            path=path,
            text=text,
            name=read(_name, content.get("name"), path),
            method=method or "grid",
            metric=read(read_metric, metric, method),
            parameters=tuple(parameter for parameter in parameters if parameter),
            command=read(commands.read_command, content.get("command")) or commands.DEFAULT,
            early_terminate=read(read_hyperband, early, metric),
            run_cap=read(_run_cap, content.get("run_cap")),
            project=read(_text, "project", content.get("project")),
            entity=read(_text, "entity", content.get("entity")),
            description=read(_text, "description", content.get("description")),
            overrides=tuple(overrides),
        )
        if method == "grid":
            problems += _grid_problems(sweep.parameters)
        problems += _option_problems(sweep, {key.replace("-", "_") for key in entries})
    if problems:
        raise ConfigError(f"{path}: {problem}" for problem in problems)
    return sweep


def _key_problems(content: Mapping[str, Any]) -> list[str]:
    problems = []
    for key, value in content.items():
        if key in _REFUSED:
            problems.append(f"`{key}` is not supported: {_REFUSED[key]}.")
        elif key == "controller" and value != {"type": "cloud"}:
            problems.append("`controller` is not supported: a local one also needs W&B's server. Remove it.")
        elif key == "kind" and value != "sweep":
            problems.append(f"kind is {as_written(value)}; it must be sweep.")
        elif key not in _KEYS:
            advice = did_you_mean(key, [*_KEYS, *_REFUSED], f"Keys are {', '.join(_KEYS)}.")
            problems.append(f"`{key}` is not a key of a W&B sweep file. {advice}")
    return problems


def _program_problems(program: Any) -> list[str]:
    script = Path(harness.__file__).with_name("run.py")
    if isinstance(program, str) and (Path(program) == Path("harness/run.py") or Path(program).resolve() == script):
        return []
    problem = "is missing" if program is None else f"is {as_written(program)}"
    return [f"program {problem}; it must be harness/run.py."]


def _method(method: Any) -> Method:
    if method in ("grid", "random", "bayes"):
        return method
    if method == "custom":
        raise ConfigError("method custom is not supported: it needs a scheduler on W&B's server.")
    problem = "is missing" if method is None else f"is {as_written(method)}"
    raise ConfigError(f"method {problem}; it must be grid, random or bayes.")


def _entries(entries: Any) -> dict[str, Any]:
    """`parameters`. Raises ConfigError for keys that are not names, or are equal except for - and _."""
    if not isinstance(entries, dict) or not entries:
        problem = "are missing" if entries is None else f"is {as_written(entries)}"
        raise ConfigError(f"parameters {problem}; give at least one, such as `lr: {{values: [1.0e-5, 1.0e-3]}}`.")
    if not_names := [key for key in entries if not isinstance(key, str)]:
        raise ConfigError(f"parameters: {as_written(key)} is not the name of a setting." for key in not_names)
    names = [key.replace("-", "_") for key in entries]
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"parameters has {name} twice, with '-' and with '_'. Remove one." for name in duplicates)
    return entries


def _run_cap(cap: Any) -> int | None:
    if cap is None or (type(cap) is int and cap > 0):
        return cap
    raise ConfigError(f"run_cap is {as_written(cap)}; it must be a whole number of at least 1.")


def _text(key: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise ConfigError(f"{key} is {as_written(value)}; it must be text. Put it in quotes.")


def _name(name: Any, path: Path) -> str:
    """The name of the sweep's folder and W&B group: `name`, else the name of the file."""
    name = _text("name", name) or path.stem
    if not re.fullmatch(r"\w[\w .=+-]{0,79}(?<![ .])", name, re.ASCII):
        raise ConfigError(
            f"the name {as_written(name)!r} cannot be a folder name. Give a `name` of up to 80 letters, digits, spaces "
            "and '.', '_', '-', '=', '+'."
        )
    return name


def _grid_problems(parameters: Sequence[Parameter]) -> list[str]:
    problems = [
        f"parameters.{parameter.name}: W&B's grids do not support {parameter.distribution}. Give `values`, int_uniform "
        "or q_uniform, or use method random."
        for parameter in parameters
        if not parameter.grid_size
    ]
    if (count := math.prod(parameter.grid_size for parameter in parameters)) > _MAX_GRID_POINTS:
        problems.append(f"the grid has {count:,} points; at most {_MAX_GRID_POINTS:,} are possible. Use method random.")
    return problems


def _option_problems(sweep: Sweep, swept: set[str]) -> list[str]:
    """Options in `command` or in the overrides that contradict the parameters, or that a sweep does not allow."""
    fixed = commands.named_settings(commands.run_words(sweep.command, {}))
    overridden = commands.named_settings(sweep.overrides)
    varying = {parameter.name for parameter in sweep.parameters if parameter.varies}
    settings = {field.name for field in dataclasses.fields(RunConfig)}
    unknown = sorted((fixed | overridden) - settings)
    return [
        *(f"There is no option {option_name(name)}. {similar_setting(name)}" for name in unknown),
        *(
            f"{name} is set twice: by {option_name(name)} in `command` and under `parameters`. Remove one."
            for name in sorted(fixed & swept)
        ),
        *(
            f"{option_name(name)} cannot be given for all trials, because this sweep varies {name}."
            for name in sorted(overridden & varying)
        ),
        *(
            f"{option_name(name)} cannot be given for the trials of a sweep: {NOT_SWEPT[name]}."
            for name in sorted((fixed & {"fresh", "name"}) | (overridden & set(NOT_SWEPT)))
        ),
    ]
