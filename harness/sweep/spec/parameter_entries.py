"""Reads and checks one entry under `parameters` of a sweep file, by W&B's schema."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from harness.config import RunConfig
from harness.errors import ConfigError
from harness.settings.option import value_type
from harness.sweep.spec.distributions import DISTRIBUTIONS, Parameter
from harness.sweep.spec.yaml_text import as_written, did_you_mean, number_in_text

# Settings that a sweep file cannot vary, and why.
NOT_SWEPT = {
    "runs_dir": "the sweep keeps its runs in its own folder",
    "name": "each trial is named after its settings",
    "project": "all runs of a sweep are in one project: write `project:` at the top of the file",
    "group": "all runs of a sweep are in one group",
    "fresh": "an interrupted trial would start over instead of resuming",
}

_KEYS = ("distribution", "value", "values", "probabilities", "min", "max", "mu", "sigma", "q")
# Keys that take a number, and their fields of Parameter.
_FIELDS = {"min": "low", "max": "high", "mu": "mu", "sigma": "sigma", "q": "q"}

# Names in other programs, which are too different for a search by similarity.
_OTHER_NAMES = {"learning_rate": "lr", "bs": "batch_size", "wd": "weight_decay"}


def read_entry(key: str, entry: Any) -> Parameter:
    """The parameter of an entry. Raises ConfigError with all problems."""
    name = key.replace("-", "_")
    if isinstance(entry, dict) and "parameters" in entry:
        raise ConfigError(
            f"parameters.{key}: nested `parameters` are not supported, because a run has no groups of settings. Move "
            "its entries one level up."
        )
    field = next((field for field in dataclasses.fields(RunConfig) if field.name == name), None)
    if field is None:
        raise ConfigError(f"parameters: there is no setting {key}. {similar_setting(name)}")
    if name in NOT_SWEPT:
        raise ConfigError(f"parameters.{key} cannot be swept: {NOT_SWEPT[name]}.")
    try:
        parameter = _read(name, entry)
    except ConfigError as error:
        raise ConfigError(f"parameters.{key}: {problem}" for problem in error.problems) from None
    if problems := [*_misfits(parameter, field), *_overflow(parameter)]:
        raise ConfigError(f"parameters.{key}: {problem}" for problem in problems)
    return parameter


def similar_setting(name: str) -> str:
    """A suggestion for the name of a setting that does not exist."""
    names = [field.name for field in dataclasses.fields(RunConfig)]
    return did_you_mean(_OTHER_NAMES.get(name, name), names, "`harness train --help` lists the settings.")


def _read(name: str, entry: Any) -> Parameter:
    if not isinstance(entry, dict):
        form = "values: [...]" if isinstance(entry, list) else f"value: {as_written(entry)}"
        raise ConfigError(f"is {as_written(entry)}; write `{name}: {{{form}}}`.")
    if problems := [*_unknown_keys(entry), *_not_numbers(entry)]:
        raise ConfigError(problems)
    distribution = _distribution(entry)
    required, optional = DISTRIBUTIONS[distribution]
    problems = [f"{distribution} needs `{key}`." for key in required if key not in entry]
    allowed = " and ".join(f"`{key}`" for key in required + optional)
    problems += [
        f"{distribution} does not take `{key}`; it takes {allowed}."
        for key in entry
        if key not in (*required, *optional, "distribution")
    ]
    problems = problems or _wrong_values(distribution, entry)
    if problems:
        raise ConfigError(problems)
    numbers = {_FIELDS[key]: entry[key] for key in _FIELDS if key in entry}
    return Parameter(
        name,
        distribution,
        values=(entry["value"],) if "value" in entry else tuple(entry.get("values", ())),
        probabilities=tuple(entry.get("probabilities", ())),
        **numbers,
    )


def _unknown_keys(entry: Mapping[str, Any]) -> list[str]:
    if "a" in entry or "b" in entry or entry.get("distribution") in ("beta", "q_beta"):
        return ["beta and q_beta are not supported; write uniform, normal, or `values` with `probabilities`."]
    problems = []
    for key in entry:
        if key not in _KEYS:
            advice = did_you_mean(key, _KEYS, f"Its keys are {', '.join(_KEYS)}.")
            problems.append(f"`{key}` is not a key of a parameter. {advice}")
    return problems


def _not_numbers(entry: Mapping[str, Any]) -> list[str]:
    problems = []
    for key in _FIELDS:
        if key in entry and not _is_number(entry[key]):
            number = number_in_text(entry[key])
            problem = f"is text in YAML; write {number}" if number else "is not a finite number"
            problems.append(f"{key}: {as_written(entry[key])} {problem}.")
    return problems


def _distribution(entry: Mapping[str, Any]) -> str:
    """The distribution that the entry names, else the one that W&B's schema infers from its keys."""
    if "distribution" in entry:
        name = entry["distribution"]
        if not isinstance(name, str) or name not in DISTRIBUTIONS:
            advice = did_you_mean(name, DISTRIBUTIONS, f"Give one of {', '.join(DISTRIBUTIONS)}.")
            raise ConfigError(f"{as_written(name)} is not a distribution. {advice}")
        return name
    if "values" in entry:
        return "categorical_w_probabilities" if "probabilities" in entry else "categorical"
    if "value" in entry:
        return "constant"
    for key in ("q", "mu", "sigma"):
        if key in entry:
            raise ConfigError(f"`{key}` needs a `distribution`, such as q_uniform or normal.")
    if "min" in entry and "max" in entry:
        return "int_uniform" if type(entry["min"]) is int and type(entry["max"]) is int else "uniform"
    raise ConfigError("needs `values`, `value`, or `min` and `max`.")


def _wrong_values(distribution: str, entry: Mapping[str, Any]) -> list[str]:
    problems = []
    if "values" in entry and not (isinstance(entry["values"], list) and entry["values"]):
        given = "an empty list" if entry["values"] == [] else as_written(entry["values"])
        return [f"values is {given}; it must be a list with at least one item."]
    if "probabilities" in entry:
        problems += _wrong_probabilities(entry["values"], entry["probabilities"])
    if distribution == "int_uniform" and not all(type(entry[key]) is int for key in ("min", "max")):
        problems.append("min and max of int_uniform must be whole numbers.")
    if "min" in entry and entry["min"] >= entry["max"]:
        problems.append(f"min is {entry['min']} and max is {entry['max']}; min must be below max.")
    if distribution.endswith("_values") and entry["min"] <= 0:
        problems.append(f"min is {entry['min']}; the limits of {distribution} must be above 0.")
    problems += [f"{key} is {entry[key]}; it must be above 0." for key in ("sigma", "q") if entry.get(key, 1) <= 0]
    return problems


def _wrong_probabilities(values: list[Any], probabilities: Any) -> list[str]:
    if not isinstance(probabilities, list) or not all(_is_number(value) and value >= 0 for value in probabilities):
        return ["probabilities must be a list of numbers of at least 0."]
    if len(probabilities) != len(values):
        return [f"there are {len(values)} values and {len(probabilities)} probabilities; give one per value."]
    if not math.isclose(sum(probabilities), 1, rel_tol=1e-5):
        return [f"the sum of probabilities is {sum(probabilities):g}; it must be 1."]
    return []


def _misfits(parameter: Parameter, field: dataclasses.Field[Any]) -> list[str]:
    """Values of a type that the setting does not take. RunConfig checks their bounds."""
    kind, _ = value_type(field)
    if parameter.values:
        values = [value for value in parameter.values if value not in field.metadata["choices"]]
        return [problem for value in values if (problem := _misfit(value, kind))]
    if kind is int and not _draws_integers(parameter):
        return [
            f"takes whole numbers, and {parameter.distribution} draws fractions. Use int_uniform, `values`, or a q_ "
            "distribution with whole numbers and `q: 1`."
        ]
    if kind in (bool, str):
        return [f"takes {_KINDS[kind]}, and {parameter.distribution} draws numbers. Use `values`."]
    return []


def _overflow(parameter: Parameter) -> list[str]:
    """The limits of log_uniform are exponents. A limit that was meant as a value can be far too large."""
    try:
        parameter.at(1 - 1e-9)
    except OverflowError:
        return [f"{parameter.distribution} draws numbers above the largest float: its limits are exponents of e."]
    return []


def _draws_integers(parameter: Parameter) -> bool:
    """Whether W&B's sampler returns ints: `--batch_size=16` is valid, `--batch_size=16.0` is not."""
    if parameter.distribution == "int_uniform":
        return True
    quantised = parameter.distribution.startswith("q_") and type(parameter.q) is int
    # A grid has steps of q from min; they are floats if min or max is a float.
    whole_ends = type(parameter.low) is int and type(parameter.high) is int
    return quantised and (parameter.distribution != "q_uniform" or whole_ends)


_KINDS = {int: "whole numbers", float: "numbers", bool: "true or false", str: "text"}


def _misfit(value: Any, kind: type) -> str | None:
    """The problem of a value whose type the setting does not take."""
    written = as_written(value)
    if kind in (int, float) and (number := number_in_text(value)):
        return f"{written} is text in YAML; write {number}."
    if value is None:
        return "null cannot be passed on a command line. Omit the setting, or write none if it is one of its choices."
    if kind is str and isinstance(value, bool):
        return f"{written} is not text: YAML reads on, off, yes and no as true or false. Put the word in quotes."
    if kind is int and type(value) is float and value.is_integer():
        return f"{written} is not written as a whole number; write {value:.0f}."
    fits = _is_number(value) if kind is float else type(value) is kind
    return None if fits else f"{written} does not fit; the setting takes {_KINDS[kind]}."


def _is_number(value: Any) -> bool:
    # An int may be larger than the largest float.
    return (type(value) is int and abs(value) < 2**63) or (type(value) is float and math.isfinite(value))
