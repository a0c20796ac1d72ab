"""A setting: its default, help and allowed values, kept in the field of a dataclass; its name on the command line."""

from __future__ import annotations

import dataclasses
import math
import operator
import re
import types
import typing
from collections.abc import Callable
from typing import Any

REQUIRED = object()
# In place of a default: the recipe's value.
BY_RECIPE = object()
# What versions without a setting computed, of a setting that all versions have.
_NO_VALUE = object()
# Bounds of numbers, in words and as comparisons.
BOUNDS: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "low": ("at least", operator.ge),
    "above": ("above", operator.gt),
    "high": ("at most", operator.le),
    "below": ("below", operator.lt),
}


def option(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    also: re.Pattern[str] | None = None,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    identity: bool = True,
    earlier: Any = _NO_VALUE,
) -> Any:
    """A field of a settings dataclass: its default, its help text and the values it allows.

    `also` matches values that are allowed beside the choices. `low`/`high` are inclusive bounds, `above`/`below`
    exclusive ones. `identity=False` marks a setting that does not change what a run computes, such as a folder; it may
    differ when a run is resumed. `earlier` is what versions without the setting computed: at this value, a run has the
    identity that it had with them.
    """
    metadata = {
        "help": help,
        "choices": choices,
        "also": also,
        "low": low,
        "high": high,
        "above": above,
        "below": below,
        "identity": identity,
        "earlier": earlier,
        "by_recipe": default is BY_RECIPE,
    }
    if default is REQUIRED:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=None if default is BY_RECIPE else default, metadata=metadata)


def value_type(field: dataclasses.Field[Any]) -> tuple[type, bool]:
    """The plain type of a field, the first of several, and whether None is allowed.

    The files of this package do not postpone annotations, so that a field's type is a type and not a string.
    """
    hint: Any = field.type
    if isinstance(hint, types.UnionType):
        members = typing.get_args(hint)
        return members[0], types.NoneType in members
    return hint, False


def allowed_words(field: dataclasses.Field[Any]) -> tuple[str, ...]:
    """The words that a field allows; of a boolean with choices, true and false as well."""
    choices: tuple[str, ...] = field.metadata["choices"]
    return (*choices, "true", "false") if choices and value_type(field)[0] is bool else choices


def option_name(field_name: str) -> str:
    """`batch_size` on the command line: `--batch-size`."""
    return "--" + field_name.replace("_", "-")


def bounds_text(field: dataclasses.Field[Any]) -> str:
    """The values a number may take, in words: "above 0, at most 1"."""
    limits = field.metadata
    return ", ".join(f"{words} {limits[key]:.10g}" for key, (words, _) in BOUNDS.items() if limits[key] is not None)


def value_problem(field: dataclasses.Field[Any], value: Any) -> str:
    """Why a setting cannot have this value, as a sentence; empty if it can."""
    kind, optional = value_type(field)
    name, limits = option_name(field.name), field.metadata
    if value is None and optional:
        return ""
    if type(value) is int and value.bit_length() > 64:
        return f"{name} is too large a number; it must be {bounds_text(field) or 'below 2^64'}."
    if kind is bool and limits["choices"]:
        fits = type(value) is bool or value in limits["choices"]
        return "" if fits else f"{name} is {value!r}; it must be one of {', '.join(allowed_words(field))}."
    actual: type = type(value)  # not isinstance: True is an int
    if actual is not kind:
        return f"{name} is {value!r}; it takes a value of type {kind.__name__}."
    if choices := limits["choices"]:
        if value in choices or (limits["also"] and limits["also"].fullmatch(value)):
            return ""
        return f"{name} is {value!r}; it must be one of {', '.join(choices)}."
    if kind is str:
        if re.search(r"[\0\ud800-\udfff]", value):  # bytes of a path that are not UTF-8 become surrogates
            return f"{name} is {value!r}; it must be UTF-8 without null characters."
        return "" if value.strip() else f"{name} is empty; give a value or leave the option out."
    if kind is bool:
        return ""
    within = all(fits(value, limits[key]) for key, (_, fits) in BOUNDS.items() if limits[key] is not None)
    if math.isfinite(value) and within:
        return ""
    return f"{name} is {value}; it must be a finite number {bounds_text(field)}."
