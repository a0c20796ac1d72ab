"""The site file: what every job of this user needs on this cluster, such as modules and an environment."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, printable

SITE_FILE = Path("~/.config/vit-harness/slurm.toml")

EXAMPLE = 'modules = ["cuda/12.4"], lines = ["source ~/venv/bin/activate"], sbatch = ["--mem=32G"]'


@dataclass(frozen=True)
class Site:
    modules: tuple[str, ...] = ()  # names for `module load`
    lines: tuple[str, ...] = ()  # of the batch script, before its commands; copied as they are
    sbatch: tuple[str, ...] = ()  # further options, such as --mem=32G


def read_site(path: Path = SITE_FILE) -> Site:
    """The site file; without one, an empty Site. Raises ConfigError with all problems."""
    path = path.expanduser()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Site()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{printable(path)} cannot be read: {error}. Example: {EXAMPLE}.") from error
    names = tuple(Site.__dataclass_fields__)
    problems = [f"`{printable(key)}` is not a key; keys are {', '.join(names)}" for key in content if key not in names]
    for name in names:
        problems += _entry_problems(name, content.get(name, []))
    if problems:
        raise ConfigError(f"{printable(path)}: {problem}. Example: {EXAMPLE}." for problem in problems)
    return Site(**{name: tuple(content.get(name, ())) for name in names})


def _entry_problems(name: str, entries: Any) -> list[str]:
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        return [f"`{name}` must be a list of texts"]
    if name == "lines":
        return []
    if broken := [entry for entry in entries if not entry.isprintable()]:
        return [f"`{name}` contains {printable(broken[0])!r}; each entry must be one line of text"]
    if name == "sbatch" and (options := [entry for entry in entries if not entry.startswith("-")]):
        return [f"`sbatch` contains {options[0]!r}; each entry must be an option of sbatch"]
    return []
