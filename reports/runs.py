"""A run as its folder tells it: finished or not, whole or damaged, of this version or another."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

# Where runs of the same settings are set aside.
SET_ASIDE = ".replaced"

# What reading a damaged npz file may raise.
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

PREDICTION_COLUMNS = ("file", "label", "prediction", "probability", "label_probability")


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a run's best checkpoint said of N test images; empty, with the reason in `problem`, if that is unknown."""

    files: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()  # of the training set, in its order
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # (N,) int64, into `classes`
    predicted: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # (N,) int64, into `classes`
    probabilities: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (N,) float64, of the predicted class
    label_probabilities: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (N,) float64, of the true class
    problem: str = ""

    def __len__(self) -> int:
        return len(self.files)


@dataclass(frozen=True, eq=False)
class Run:
    """One run folder. What is missing or damaged is empty here, and said in `problems`."""

    path: Path
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    manifest: Mapping[str, Any]
    problems: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def state(self) -> str:
        """running, finished, failed, preempted, stopped, infeasible; "unknown" when the folder does not say."""
        state = self.summary.get("state")
        return state if isinstance(state, str) and state else "unknown"

    @property
    def finished(self) -> bool:
        return self.state == "finished"

    def metric(self, key: str) -> float | None:
        """A metric by its key: of the summary, such as `best/val_f1`, else the newest in `rows`, such as `val/f1`.

        None unless it is a finite number.
        """
        value = self.summary.get(key)
        if value is None:
            value = next((row[key] for row in reversed(self.rows) if key in row), None)
        return finite_number(value)

    @cached_property
    def rows(self) -> tuple[Mapping[str, Any], ...]:
        """`metrics.jsonl`, row by row; lines that are no JSON object, such as one cut off by a crash, are left out."""
        with contextlib.suppress(OSError):
            lines = content_of(self.path / "metrics.jsonl").splitlines()
            return tuple(row for row in map(_json, lines) if isinstance(row, dict))
        return ()

    @cached_property
    def predictions(self) -> Predictions:
        """`predictions.csv`, with the classes of `per_class.csv`; read when first asked for."""
        try:
            return _predictions(self.path)
        except FileNotFoundError as error:
            return Predictions(problem=f"{Path(error.filename).name} is missing")
        except (OSError, ValueError, csv.Error) as error:
            return Predictions(problem=str(error))


def finite_number(value: Any) -> float | None:
    """The value, if it is a number that JSON has and that a float holds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    with contextlib.suppress(OverflowError):
        return float(value) if math.isfinite(value) else None
    return None


def read_run(path: str | Path) -> Run:
    """The run of a folder; whatever state it is in, no exception."""
    path = Path(path)
    problems: list[str] = []

    def read(name: str) -> dict[str, Any]:
        try:
            content = _json(content_of(path / name))
        except FileNotFoundError:
            problems.append(f"{name} is missing")
            return {}
        except OSError as error:
            problems.append(f"{name} cannot be read: {error.strerror}")
            return {}
        if not isinstance(content, dict):
            problems.append(f"{name} is damaged")
            return {}
        return content

    config, manifest, summary = (read(name) for name in ("config.json", "manifest.json", "summary.json"))
    return Run(path, config, summary, manifest, tuple(problems))


def read_runs(folder: str | Path) -> list[Run]:
    """Every run in a folder or below it, by path; runs that were set aside are left out."""
    return [read_run(path) for path in sorted(_run_folders(Path(folder)))]


def shown(text: object) -> str:
    """Text from a file or a path, fit for a terminal: no control characters, no line breaks, no broken encoding."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode()
        for letter in str(text)
    )


def _run_folders(folder: Path) -> Iterator[Path]:
    for path, folders, files in os.walk(folder):
        if "config.json" in files:
            yield Path(path)
            folders.clear()
        folders[:] = [name for name in folders if name != SET_ASIDE]


def content_of(path: Path) -> bytes:
    """Content of a regular file: a named pipe in its place would keep us waiting."""
    if path.exists() and not path.is_file():
        raise FileNotFoundError(2, "not a file", str(path))
    return path.read_bytes()


def _json(content: bytes) -> Any:
    """The value; None where it is damaged."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _table(path: Path, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """Those columns of a CSV file."""
    try:
        rows = list(csv.reader(io.StringIO(content_of(path).decode("utf-8"), newline=""), strict=True))
        positions = [rows[0].index(column) for column in columns]
        return [tuple(row[position] for position in positions) for row in rows[1:]]
    except (ValueError, IndexError, csv.Error) as error:
        raise ValueError(f"{path.name} is damaged ({error})") from error


def _predictions(path: Path) -> Predictions:
    classes = tuple(name for (name,) in _table(path / "per_class.csv", ("class",)))
    return predictions_of(classes, _table(path / "predictions.csv", PREDICTION_COLUMNS))


def predictions_of(
    classes: tuple[str, ...],
    rows: Sequence[Sequence[Any]],
    named: tuple[str, str] = ("predictions.csv", "per_class.csv"),
) -> Predictions:
    """The predictions in rows of PREDICTION_COLUMNS. Raises ValueError by the names of the two tables."""
    table, table_of_classes = named
    index = {name: number for number, name in enumerate(classes)}
    if not rows:
        raise ValueError(f"{table} is empty")
    if len(index) < len(classes):
        raise ValueError(f"{table_of_classes} names a class twice")
    files, truth, guesses, *probabilities = zip(*rows, strict=True)
    if len(set(files)) < len(files):
        raise ValueError(f"{table} names an image twice")
    if unknown := sorted({*truth, *guesses} - set(index)):
        raise ValueError(f"{table} names a class that {table_of_classes} does not: {unknown[0]!r}")
    labels, predicted = (np.array([index[name] for name in names], np.int64) for names in (truth, guesses))
    try:
        of_prediction, of_truth = (np.array(column, np.float64) for column in probabilities)
    except ValueError as error:
        raise ValueError(f"{table} is damaged ({error})") from error
    return Predictions(files, classes, labels, predicted, of_prediction, of_truth)
