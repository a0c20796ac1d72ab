"""The `command` of a sweep file: the words of a run's command line, with W&B's macros in their places."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import ConfigError
from harness.sweep.spec.yaml_text import as_written

# What W&B takes where a file has no `command`.
DEFAULT = ("${env}", "${interpreter}", "${program}", "${args}")

_SETTINGS = ("${args}", "${args_no_equals}", "${args_no_boolean_flags}")

_REFUSED = {
    "${args_no_hyphens}": "lr=0.1 does not parse as an option",
    "${args_json}": "it reads no JSON",
    "${args_json_file}": "it reads no JSON file",
    "${args_append_hydra}": "it is not configured by Hydra",
    "${args_override_hydra}": "it is not configured by Hydra",
}

_MACROS = ("${env}", "${interpreter}", "${program}", *_SETTINGS, *_REFUSED)

# The names that W&B's client replaces; a missing variable it replaces by its name.
_VARIABLE = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")


def read_command(command: Any) -> tuple[str, ...]:
    """The `command` of a sweep file as words; ConfigError with all that is wrong with it."""
    if command is None:
        return DEFAULT
    if not isinstance(command, list) or not command:
        raise ConfigError(
            f"command is {as_written(command)}; W&B's agent takes a list with one word per line: `- ${{env}}`, "
            "`- ${interpreter}`, `- ${program}`, `- ${args}`."
        )
    problems = [
        f"command: item {number} is {as_written(word)}, where a word is wanted; a word with a colon goes in quotes."
        for number, word in enumerate(command, start=1)
        if isinstance(word, list | dict) or word is None
    ]
    words = tuple(str(word) for word in command)
    problems += [problem for word in words for problem in _word_problems(word)]
    problems = problems or _order_problems(words)
    if problems:
        raise ConfigError(problems)
    return words


def run_words(command: Sequence[str], point: Mapping[str, Any]) -> list[str]:
    """What the program is given: the words after ${program}, a point's values in the place of ${args}."""
    words = []
    for word in command[command.index("${program}") + 1 :]:
        match word:
            case "${args}":
                words += [f"--{name}={value}" for name, value in point.items()]
            case "${args_no_equals}":
                words += [part for name, value in point.items() for part in (f"--{name}", str(value))]
            case "${args_no_boolean_flags}":
                words += [
                    f"--{name}" if value is True else f"--{name}={value}"
                    for name, value in point.items()
                    if value is not False
                ]
            case _:
                words.append(_VARIABLE.sub(lambda found: os.environ.get(found[1], found[1]), word))
    return words


def launcher_words(command: Sequence[str]) -> list[str]:
    """What W&B's agent starts the program with: the words before ${program}, without ${env} and ${interpreter}."""
    before = command[: command.index("${program}")]
    return [word for word in before if word not in ("${env}", "${interpreter}")]


def settings_given(words: Iterable[str]) -> set[str]:
    """The settings that words of a command line name, as fields of RunConfig."""
    return {word.lstrip("-").partition("=")[0].replace("-", "_") for word in words if re.match(r"--?[A-Za-z]", word)}


def _word_problems(word: str) -> list[str]:
    if variable := re.search(r"\$\{envvar:([^}]*)\}", word):
        return _variable_problems(variable[1])
    if word in _REFUSED:
        return [f"command: {word} is not for harness/run.py: {_REFUSED[word]}. Use ${{args}}."]
    macros = re.findall(r"\$\{[^}]*\}", word)
    unknown = [macro for macro in macros if macro not in _MACROS]
    if unknown:
        close = difflib.get_close_matches(unknown[0], _MACROS, n=1)
        advice = f"Did you mean {close[0]}?" if close else f"W&B knows {', '.join(_MACROS)} and ${{envvar:NAME}}."
        return [f"command: {unknown[0]} is not a macro of W&B's, whose agent would leave it out. {advice}"]
    if macros and word != macros[0]:
        return [f"command: W&B replaces {macros[0]} only where it stands alone; {word!r} would stay as it is."]
    return [_one_word(word)] if re.match(r"--[\w-]+\s", word) else []


def _one_word(word: str) -> str:
    items = ", ".join(f"`- {part}`" for part in word.split())
    return f"command: {word!r} is one word to W&B's agent. Make it several items: {items}."


def _variable_problems(name: str) -> list[str]:
    if not re.fullmatch(r"[A-Z0-9_]+", name):
        return [f"command: ${{envvar:{name}}}: W&B replaces only names of capital letters, digits and '_'."]
    if name not in os.environ:
        return [f"command: ${{envvar:{name}}}: there is no such environment variable here. Set {name}."]
    return []


def _order_problems(words: Sequence[str]) -> list[str]:
    if words.count("${program}") != 1:
        return ["command must hold ${program} once: it stands for harness/run.py."]
    before, after = words[: words.index("${program}")], words[words.index("${program}") + 1 :]
    problems = [
        _one_word(word) for word in before if " " in word and not word.startswith("-") and not Path(word).exists()
    ]
    problems += [
        f"command: {macro} is part of what starts the program; put it before ${{program}}."
        for macro in ("${env}", "${interpreter}")
        if macro in after
    ]
    if any(macro in before for macro in _SETTINGS):
        problems.append("command: the settings must come after ${program}, or they go to what starts it.")
    elif sum(after.count(macro) for macro in _SETTINGS) != 1:
        problems.append(f"command must hold one of {', '.join(_SETTINGS)}: the settings of the trial.")
    return problems
