"""Reads the JSON files and metrics rows of a run folder; checks types as well as syntax.

Files may be damaged or come from anywhere. Every problem is one sentence. Standard library and numpy only.
"""

from __future__ import annotations

import errno
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.runs.rules import SET_ASIDE, is_number

# What to do about a damaged file: in the run that resumes from it, and in commands that use the run.
START_OVER = "Give the same command with --fresh to start over."
ANOTHER_RUN = "Train this run again with --fresh, or give another run folder."
EXPLAIN_AGAIN = "Run `harness explain` without --redraw to make it."

# What numpy raises for a damaged npz file.
DAMAGE = (
    ValueError,
    LookupError,
    TypeError,
    OSError,
    EOFError,
    MemoryError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)

# Types of the entries that the code uses; null and a missing entry are allowed, unknown entries are kept.
TYPES: Mapping[str, Mapping[str, type]] = {
    "config.json": {},
    "summary.json": {"state": str, "reason": str, "error": str, "positions/verdict": str},
    "manifest.json": {
        "data": dict,
        "weights": dict,
        "git": dict,
        "hardware": dict,
        "versions": dict,
        "problems": dict,
        "arguments": list,
        "notes": list,
        "ignored_files": dict,
        "earlier_starts": list,
        "started": str,
        "command": str,
        "wandb_run_id": str,
        "checkpoint": str,
    },
}
_NAMES = {dict: "an object", list: "a list", str: "text", int: "a number", float: "a number", bool: "true or false"}


class UnreadableError(HarnessError):
    """A file of a run folder that cannot be used. `reason` is short and names the file without its folder."""

    def __init__(self, path: Path, what: str, remedy: str = START_OVER) -> None:
        self.reason = f"{path.name} {what}"
        super().__init__(f"{path} {what}. {remedy}")


def content_of(path: Path) -> bytes:
    """Content of a regular file. Raises FileNotFoundError for a named pipe, which would block; OSError for a link."""
    if path.is_symlink():
        raise OSError(errno.ELOOP, "it is a symbolic link, which is not followed", str(path))
    if path.exists() and not path.is_file():
        raise FileNotFoundError(2, "not a file", str(path))
    return path.read_bytes()


def refuse_links(path: Path, run_folder: Path) -> None:
    """Raises UnreadableError if the path, which is in the run folder, leads through a symbolic link.

    A run folder may come from anywhere; its links must not lead to other files of the user.
    """
    while path != run_folder and path != path.parent:
        if path.is_symlink():
            raise UnreadableError(path, "is a symbolic link, which is not followed", ANOTHER_RUN)
        path = path.parent


def parse_json(content: bytes | str) -> Any:
    """The value. Raises ValueError for wrong syntax, text that is not UTF-8 and nesting that is too deep."""
    try:
        # json.loads would guess UTF-16 for some bytes.
        return json.loads(content.decode() if isinstance(content, bytes) else content)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def kind_of(value: object) -> str:
    """What a JSON value is, in words."""
    return "null" if value is None else _NAMES.get(type(value), type(value).__name__)


def read_object(path: Path, remedy: str = START_OVER) -> dict[str, Any]:
    """The JSON object in a file. Raises FileNotFoundError, and UnreadableError for anything else."""
    try:
        value = parse_json(content_of(path))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnreadableError(path, f"cannot be read ({error.strerror})", remedy) from error
    except ValueError as error:
        raise UnreadableError(path, f"is damaged ({error})", remedy) from error
    if not isinstance(value, dict):
        raise UnreadableError(path, f"is damaged (it holds {kind_of(value)} instead of an object)", remedy)
    return value


def wrong_entries(name: str, values: Mapping[str, Any]) -> dict[str, str]:
    """Entries of config.json, manifest.json or summary.json with a wrong type, each with what is wrong."""
    return {
        key: f"is damaged ({key} is {kind_of(values[key])} instead of {_NAMES[expected]})"
        for key, expected in TYPES.get(name, {}).items()
        if values.get(key) is not None and not isinstance(values[key], expected)
    }


def read_checked_object(path: Path, remedy: str = START_OVER) -> dict[str, Any]:
    """As `read_object`, with the types of its entries checked."""
    values = read_object(path, remedy)
    for what in wrong_entries(path.name, values).values():
        raise UnreadableError(path, what, remedy)
    return values


def parse_row(line: bytes | str) -> dict[str, Any]:
    """A row of metrics.jsonl: an object of numbers with a step, and an epoch if it is a validation.

    Raises json.JSONDecodeError for a line that a crash cut off, ValueError for any other problem.
    """
    row = parse_json(line)
    if not isinstance(row, dict):
        raise ValueError(f"a row is {kind_of(row)} instead of an object")
    required = ("step", "epoch") if any(key.startswith("val/") for key in row) else ("step",)
    for key in required:
        if key not in row:
            raise ValueError(f"a row has no {key}")
    for key, value in row.items():
        if not is_number(value) and not (value is None and key not in ("step", "epoch")):
            raise ValueError(f"{key} of a row is {kind_of(value)} instead of a number")
    return row


def read_rows(path: Path) -> tuple[list[dict[str, Any]], str]:
    """Rows of metrics.jsonl and the first problem in it; a line that a crash cut off is left out without one."""
    try:
        lines = content_of(path).splitlines()
    except FileNotFoundError:
        return [], ""
    except OSError as error:
        return [], f"cannot be read ({error.strerror})"
    rows, problem = [], ""
    for line in lines:
        try:
            rows.append(parse_row(line))
        except json.JSONDecodeError:
            continue
        except ValueError as error:
            problem = problem or f"is damaged ({error})"
    return rows, problem


def run_folders(folder: Path) -> Iterator[Path]:
    """Every run folder in a folder or below it, without runs that were set aside."""
    for path, folders, files in os.walk(folder):
        if "config.json" in files:
            yield Path(path)
            folders.clear()
        folders[:] = [name for name in folders if name != SET_ASIDE]
