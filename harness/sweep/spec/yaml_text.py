"""Reads the YAML of a sweep file safely; errors name the line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import yaml

from harness.errors import ConfigError, PathError
from harness.files import not_a_file


class _Loader(yaml.SafeLoader):
    """The safe loader, with an error for a key that is there twice; yaml itself silently keeps the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys: set[Any] = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.value != "<<":
                if key_node.value in keys:
                    raise yaml.MarkedYAMLError(
                        problem=f"{key_node.value} is there twice", problem_mark=key_node.start_mark
                    )
                keys.add(key_node.value)
        return super().construct_mapping(node, deep)


def read_text(path: Path) -> str:
    """The text of a file in UTF-8. Raises ConfigError."""
    if path.exists() and (problem := not_a_file(path)):  # a named pipe would block
        raise PathError(f"{path} cannot be read: {problem}.")
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise PathError(f"There is no sweep file {path}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not text in UTF-8 ({error.reason} at byte {error.start}).") from None
    except OSError as error:
        raise PathError(f"{path} cannot be read: {error.strerror}.") from None


def parse(text: str) -> dict[str, Any]:
    """The mapping in the text. Raises ConfigError."""
    try:
        document = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(_yaml_problem(error, text)) from None
    except RecursionError:
        raise ConfigError("the YAML is nested too deeply.") from None
    except ValueError as error:  # a date that does not exist, a number with thousands of digits
        raise ConfigError(f"invalid YAML: {error}.") from None
    if document is None:
        raise ConfigError("the file is empty.")
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise ConfigError("a sweep file must be a mapping at its top level, such as `method: grid`.")
    return document


def as_written(value: Any) -> str:
    """A value as YAML writes it, at most 60 characters."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | dict):
        return f"a {'list' if isinstance(value, list) else 'mapping'}"
    text = str(value) if str(value).isprintable() else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def did_you_mean(word: object, names: Iterable[str], otherwise: str) -> str:
    """A suggestion for a word that is not one of these names."""
    close = difflib.get_close_matches(str(word), list(names), n=1)
    return f"Did you mean {close[0]}?" if close else otherwise


def number_in_text(value: Any) -> str | None:
    """How to write a number that YAML has read as text; None for anything else.

    YAML 1.1, which W&B also uses, requires a dot and a signed exponent: 1e-4 and 1.0e4 are text.
    """
    if not isinstance(value, str) or not re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", value.strip()):
        return None
    mantissa, _, exponent = value.strip().lower().partition("e")
    if not exponent:
        return f"{mantissa}, without quotes"
    mantissa = mantissa if re.search(r"\.\d", mantissa) else mantissa.rstrip(".") + ".0"
    return f"{mantissa}e{exponent if exponent[0] in '+-' else '+' + exponent}"


def _yaml_problem(error: yaml.YAMLError, text: str) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
    if mark is None:
        return f"invalid YAML: {problem}."
    line = text.splitlines()[mark.line] if mark.line < len(text.splitlines()) else ""
    if re.search(r"[\[,]\s*\$\{", line):
        return (
            f"line {mark.line + 1}: YAML cannot read ${{...}} between [ and ]. Write `command` as a list with one item "
            "per line: `- ${env}`, `- ${program}`, `- ${args}`."
        )
    advice = " Indent with spaces, not with tabs." if "\\t" in problem or "\t" in line else ""
    return f"line {mark.line + 1}: {problem}.{advice}"
