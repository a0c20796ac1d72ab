"""The `command` of a sweep file: the words of a trial's command line, with W&B's macros."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import ConfigError
from harness.sweep.spec.yaml_text import as_written, did_you_mean

# W&B's default if a file has no `command`.
DEFAULT = ("${env}", "${interpreter}", "${program}", "${args}")

# Macros that W&B replaces by the settings of the trial.
_SETTINGS = ("${args}", "${args_no_equals}", "${args_no_boolean_flags}")

# Macros that harness/run.py does not support, and why.
_REFUSED = {
    "${args_no_hyphens}": "options need hyphens",
    "${args_json}": "it does not read JSON",
    "${args_json_file}": "it does not read JSON files",
    "${args_append_hydra}": "it does not use Hydra",
    "${args_override_hydra}": "it does not use Hydra",
}

_MACROS = ("${env}", "${interpreter}", "${program}", *_SETTINGS, *_REFUSED)

# Names that W&B's client replaces. It replaces a missing variable by its name.
_VARIABLE = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")


def read_command(command: Any) -> tuple[str, ...]:
    """The `command` of a sweep file as words. Raises ConfigError with all problems."""
    if command is None:
        return DEFAULT
    if not isinstance(command, list) or not command:
        raise ConfigError(
            f"command is {as_written(command)}; it must be a list with one word per line: `- ${{env}}`, "
            "`- ${interpreter}`, `- ${program}`, `- ${args}`."
        )
    problems = [
        f"command: item {number} is {as_written(word)}; it must be a word. Put a word with a colon in quotes."
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
    """The arguments of the program: the words after ${program}, with ${args} replaced by a point's settings."""
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
                words.append(_VARIABLE.sub(lambda match: os.environ.get(match[1], match[1]), word))
    return words


def launcher_words(command: Sequence[str]) -> list[str]:
    """The launcher: the words before ${program}, without ${env} and ${interpreter}."""
    before = command[: command.index("${program}")]
    return [word for word in before if word not in ("${env}", "${interpreter}")]


def named_settings(words: Iterable[str]) -> set[str]:
    """The settings that a command line sets, as fields of RunConfig."""
    return {word.lstrip("-").partition("=")[0].replace("-", "_") for word in words if re.match(r"--?[A-Za-z]", word)}


def _word_problems(word: str) -> list[str]:
    if variable := re.search(r"\$\{envvar:([^}]*)\}", word):
        return _variable_problems(variable[1])
    if word in _REFUSED:
        return [f"command: harness/run.py does not support {word}: {_REFUSED[word]}. Use ${{args}}."]
    macros = re.findall(r"\$\{[^}]*\}", word)
    unknown = [macro for macro in macros if macro not in _MACROS]
    if unknown:
        advice = did_you_mean(unknown[0], _MACROS, f"Macros are {', '.join(_MACROS)} and ${{envvar:NAME}}.")
        return [f"command: {unknown[0]} is not a macro of W&B; its agent would drop it. {advice}"]
    if macros and word != macros[0]:
        return [f"command: W&B does not replace {macros[0]} within a word: {word!r}. Make it a separate item."]
    return [_split_problem(word)] if re.match(r"--[\w-]+\s", word) else []


def _split_problem(word: str) -> str:
    items = ", ".join(f"`- {part}`" for part in word.split())
    return f"command: {word!r} is passed on as one word. Make it several items: {items}."


def _variable_problems(name: str) -> list[str]:
    if not re.fullmatch(r"[A-Z0-9_]+", name):
        return [f"command: ${{envvar:{name}}}: the name may have only capital letters, digits and '_'."]
    if name not in os.environ:
        return [f"command: ${{envvar:{name}}}: this environment variable is not set. Set {name}."]
    return []


def _order_problems(words: Sequence[str]) -> list[str]:
    if words.count("${program}") != 1:
        return ["command must have ${program} exactly once: W&B replaces it by harness/run.py."]
    before, after = words[: words.index("${program}")], words[words.index("${program}") + 1 :]
    problems = [
        _split_problem(word) for word in before if " " in word and not word.startswith("-") and not Path(word).exists()
    ]
    problems += [
        f"command: {macro} is part of the launcher. Put it before ${{program}}."
        for macro in ("${env}", "${interpreter}")
        if macro in after
    ]
    if any(macro in before for macro in _SETTINGS):
        problems.append("command: the settings must come after ${program}; before it, the launcher would get them.")
    elif sum(after.count(macro) for macro in _SETTINGS) != 1:
        problems.append(f"command must have one of {', '.join(_SETTINGS)}: the settings of the trial.")
    return problems
