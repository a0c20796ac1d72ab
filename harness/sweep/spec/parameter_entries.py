"""One entry under `parameters` of a sweep file, read and checked as W&B's schema has it."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

from harness.config import RunConfig, value_type
from harness.errors import ConfigError
from harness.sweep.spec.distributions import DISTRIBUTIONS, Parameter
from harness.sweep.spec.yaml_text import as_written, number_in_text

# Settings of a run that a sweep decides itself, or that would do harm in it.
NOT_SWEPT = {
    "runs_dir": "the sweep keeps its runs in its own folder",
    "name": "each trial is named after its settings",
    "project": "all runs of a sweep are in one project: write `project:` at the top of the file",
    "group": "all runs of a sweep are in one group",
    "fresh": "a trial that is started again would start over instead of resuming",
}

_KEYS = ("distribution", "value", "values", "probabilities", "min", "max", "mu", "sigma", "q")
_NUMBERS = ("min", "max", "mu", "sigma", "q")

# What other programs call some of our settings, where the names are too far apart to be found alike.
_OTHER_NAMES = {"learning_rate": "lr", "bs": "batch_size", "wd": "weight_decay"}


def read_entry(key: str, entry: Any) -> Parameter:
    """The parameter that an entry describes; ConfigError with all that is wrong with it."""
    name = key.replace("-", "_")
    if isinstance(entry, dict) and "parameters" in entry:
        raise ConfigError(
            f"parameters.{key}: nested `parameters` are not supported, for the settings of a run are flat. Put what is "
            "in it beside it."
        )
    field = next((field for field in dataclasses.fields(RunConfig) if field.name == name), None)
    if field is None:
        raise ConfigError(f"parameters: there is no setting {key}. {did_you_mean(name)}")
    if name in NOT_SWEPT:
        raise ConfigError(f"parameters.{key} cannot be swept: {NOT_SWEPT[name]}.")
    try:
        parameter = _read(name, entry)
    except ConfigError as error:
        raise ConfigError(f"parameters.{key}: {problem}" for problem in error.problems) from None
    if problems := [*_misfits(parameter, field), *_overflow(parameter)]:
        raise ConfigError(f"parameters.{key}: {problem}" for problem in problems)
    return parameter


def did_you_mean(name: str) -> str:
    """Which setting a wrong name may stand for."""
    names = [field.name for field in dataclasses.fields(RunConfig)]
    close = difflib.get_close_matches(name, names, n=1)
    guess = _OTHER_NAMES.get(name) or (close[0] if close else None)
    return f"Did you mean {guess}?" if guess else "`harness train --help` lists them."


def _read(name: str, entry: Any) -> Parameter:
    if not isinstance(entry, dict):
        form = "values: [...]" if isinstance(entry, list) else f"value: {as_written(entry)}"
        raise ConfigError(f"is {as_written(entry)}; write `{name}: {{{form}}}`.")
    if problems := [*_unknown_keys(entry), *_texts_for_numbers(entry)]:
        raise ConfigError(problems)
    distribution = _distribution(entry)
    required, optional = DISTRIBUTIONS[distribution]
    problems = [f"{distribution} needs `{key}`." for key in required if key not in entry]
    problems += [
        f"`{key}` does not go with {distribution}, which takes {_and(required + optional)}."
        for key in entry
        if key not in (*required, *optional, "distribution")
    ]
    problems = problems or _wrong_values(distribution, entry)
    if problems:
        raise ConfigError(problems)
    numbers = {
        "low" if key == "min" else "high" if key == "max" else key: entry[key] for key in _NUMBERS if key in entry
    }
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
            close = difflib.get_close_matches(str(key), _KEYS, n=1)
            problems.append(f"`{key}` is not a key of a parameter. " + (f"Did you mean `{close[0]}`?" if close else ""))
    return [problem.strip() for problem in problems]


def _texts_for_numbers(entry: Mapping[str, Any]) -> list[str]:
    """Numbers that YAML took for text, under keys that only take numbers."""
    problems = []
    for key in _NUMBERS:
        if key in entry and not _is_number(entry[key]):
            better = number_in_text(entry[key])
            what = f"is text to YAML, write {better}" if better else "is not a finite number"
            problems.append(f"{key}: {as_written(entry[key])} {what}.")
    return problems


def _distribution(entry: Mapping[str, Any]) -> str:
    """The one that is named, or the one that W&B's schema infers from the keys."""
    if "distribution" in entry:
        given = entry["distribution"]
        if not isinstance(given, str) or given not in DISTRIBUTIONS:
            close = difflib.get_close_matches(str(given), DISTRIBUTIONS, n=1)
            advice = f"Did you mean {close[0]}?" if close else f"There are {', '.join(DISTRIBUTIONS)}."
            raise ConfigError(f"{as_written(given)} is not a distribution. {advice}")
        return given
    if "values" in entry:
        return "categorical_w_probabilities" if "probabilities" in entry else "categorical"
    if "value" in entry:
        return "constant"
    if others := [key for key in ("q", "mu", "sigma") if key in entry]:
        raise ConfigError(f"`{others[0]}` needs a `distribution`, as `distribution: q_uniform` or `normal`.")
    if "min" in entry and "max" in entry:
        return "int_uniform" if type(entry["min"]) is int and type(entry["max"]) is int else "uniform"
    raise ConfigError("needs `values`, `value`, or `min` and `max`.")


def _wrong_values(distribution: str, entry: Mapping[str, Any]) -> list[str]:
    problems = []
    if "values" in entry and not (isinstance(entry["values"], list) and entry["values"]):
        return [f"values is {as_written(entry['values'])}; it takes a list with at least one item."]
    if "probabilities" in entry:
        problems += _wrong_probabilities(entry["values"], entry["probabilities"])
    if distribution == "int_uniform" and not all(type(entry[key]) is int for key in ("min", "max")):
        problems.append("int_uniform takes whole numbers as min and max.")
    if "min" in entry and entry["min"] >= entry["max"]:
        problems.append(f"min {entry['min']} is not below max {entry['max']}.")
    if distribution.endswith("_values") and entry["min"] <= 0:
        problems.append(f"min is {entry['min']}; {distribution} takes numbers above 0.")
    problems += [f"{key} is {entry[key]}; it must be above 0." for key in ("sigma", "q") if entry.get(key, 1) <= 0]
    return problems


def _wrong_probabilities(values: list[Any], probabilities: Any) -> list[str]:
    if not isinstance(probabilities, list) or not all(_is_number(share) and share >= 0 for share in probabilities):
        return ["probabilities must be a list of numbers, none of them negative."]
    if len(probabilities) != len(values):
        return [f"there are {len(values)} values and {len(probabilities)} probabilities."]
    if not math.isclose(sum(probabilities), 1, rel_tol=1e-5):
        return [f"the probabilities add up to {sum(probabilities):g} instead of 1."]
    return []


def _misfits(parameter: Parameter, field: dataclasses.Field[Any]) -> list[str]:
    """Values of a type that the setting does not take. Whether they are in its bounds is for RunConfig to say."""
    kind, _ = value_type(field)
    if parameter.values:
        return [problem for value in parameter.values if (problem := _misfit(value, kind))]
    if kind is int and not _draws_integers(parameter):
        return [
            f"takes whole numbers, and {parameter.distribution} draws others: use int_uniform, `values`, or a q_ "
            "distribution of whole numbers with `q: 1`."
        ]
    if kind in (bool, str):
        return [f"takes {_KINDS[kind]}, and {parameter.distribution} draws numbers: use `values`."]
    return []


def _overflow(parameter: Parameter) -> list[str]:
    """The limits of log_uniform are exponents; one that was meant as a value can be far too large."""
    try:
        parameter.at(1 - 1e-9)
    except OverflowError:
        return [f"{parameter.distribution} draws numbers too large for a computer: its limits are exponents of e."]
    return []


def _draws_integers(parameter: Parameter) -> bool:
    """Whether W&B's sampler returns Python's ints, which `--batch_size=16` needs: 16.0 is none to a command line."""
    if parameter.distribution == "int_uniform":
        return True
    quantised = parameter.distribution.startswith("q_") and type(parameter.q) is int
    # A grid counts from min in steps of q, in floats if one of min and max is one.
    whole_ends = type(parameter.low) is int and type(parameter.high) is int
    return quantised and (parameter.distribution != "q_uniform" or whole_ends)


_KINDS = {int: "whole numbers", float: "numbers", bool: "true or false", str: "text"}


def _misfit(value: Any, kind: type) -> str | None:
    """What is wrong with one value of `value` or `values`."""
    written = as_written(value)
    if kind in (int, float) and (better := number_in_text(value)):
        return f"{written} is text to YAML, write {better}."
    if value is None:
        return "null cannot be said on a command line. Leave the setting out; where `none` is a choice, write that."
    if kind is str and isinstance(value, bool):
        return f"YAML reads on, off, yes and no as true or false. This is {written}: put the word in quotes."
    if kind is int and type(value) is float and value.is_integer():
        return f"{written} is not written as a whole number, write {value:.0f}."
    fits = _is_number(value) if kind is float else type(value) is kind
    return None if fits else f"{written} does not fit; the setting takes {_KINDS[kind]}."


def _is_number(value: Any) -> bool:
    # A whole number may be larger than any float.
    return (type(value) is int and abs(value) < 2**63) or (type(value) is float and math.isfinite(value))


def _and(keys: Iterable[str]) -> str:
    return " and ".join(f"`{key}`" for key in keys)
