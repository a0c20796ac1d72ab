"""`predictions.csv` and `per_class.csv` of a run folder: their columns, and reading them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.runs.reading import content_of

PREDICTIONS_FILE, CLASSES_FILE = "predictions.csv", "per_class.csv"
PREDICTION_COLUMNS = ("file", "label", "prediction", "probability", "label_probability")
# In predictions.csv, after PREDICTION_COLUMNS: the most probable classes. Files of earlier versions do not have them.
TOP_CLASSES = 5
TOP_COLUMNS = tuple(f"{what}_{rank}" for rank in range(1, TOP_CLASSES + 1) for what in ("class", "probability"))
CLASS_COLUMNS = ("class", "precision", "recall", "f1", "support")


@dataclass(frozen=True, eq=False)
class PredictionTable:
    """Predictions of a run's best checkpoint for N test images; empty, with the reason in `problem`, if unknown."""

    files: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()  # of the training set, in its order
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # (N,) int64, into `classes`
    predicted: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # (N,) int64, into `classes`
    probabilities: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (N,) float64, of the predicted class
    label_probabilities: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (N,) float64, of the true class
    problem: str = ""

    def __len__(self) -> int:
        return len(self.files)


def read_predictions(run_folder: Path) -> PredictionTable:
    """The predictions of a run; a problem is returned, not raised."""
    try:
        classes = tuple(name for (name,) in _columns(run_folder / CLASSES_FILE, ("class",)))
        return table_of(classes, _columns(run_folder / PREDICTIONS_FILE, PREDICTION_COLUMNS))
    except FileNotFoundError as error:
        return PredictionTable(problem=f"{Path(error.filename).name} is missing")
    except OSError as error:
        return PredictionTable(problem=f"{Path(error.filename).name} cannot be read ({error.strerror})")
    except ValueError as error:
        return PredictionTable(problem=str(error))


def table_of(
    classes: tuple[str, ...],
    rows: Sequence[Sequence[Any]],
    table_names: tuple[str, str] = (PREDICTIONS_FILE, CLASSES_FILE),
) -> PredictionTable:
    """The predictions in rows of PREDICTION_COLUMNS. Raises ValueError by the names of the two tables."""
    table, class_table = table_names
    index = {name: number for number, name in enumerate(classes)}
    if not rows:
        raise ValueError(f"{table} is empty")
    if len(index) < len(classes):
        raise ValueError(f"{class_table} names a class twice")
    files, truth, guesses, *probabilities = zip(*rows, strict=True)
    if len(set(files)) < len(files):
        raise ValueError(f"{table} names an image twice")
    if unknown := sorted({*truth, *guesses} - set(index)):
        raise ValueError(f"{table} names a class that {class_table} does not: {unknown[0]!r}")
    labels, predicted = (np.array([index[name] for name in names], np.int64) for names in (truth, guesses))
    try:
        of_prediction, of_truth = (np.array(column, np.float64) for column in probabilities)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{table} is damaged ({error})") from error
    return PredictionTable(files, classes, labels, predicted, of_prediction, of_truth)


def _columns(path: Path, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """Those columns of a CSV file."""
    try:
        rows = list(csv.reader(io.StringIO(content_of(path).decode("utf-8"), newline=""), strict=True))
        positions = [rows[0].index(column) for column in columns]
        return [tuple(row[position] for position in positions) for row in rows[1:]]
    except (ValueError, IndexError, csv.Error) as error:
        raise ValueError(f"{path.name} is damaged ({error})") from error
