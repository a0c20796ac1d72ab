"""Predictions as text, JSON or a table of `harness predict`."""

from __future__ import annotations

import csv
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click

from harness.errors import HarnessError, printable
from harness.prediction import Prediction
from harness.training.metrics import write_csv


def print_text(classes: Sequence[str], predictions: Iterable[Prediction], top: int) -> None:
    """A line for each image, with its most probable classes."""
    for prediction in predictions:
        best = ", ".join(f"{printable(classes[index])} {value:.1%}" for index, value in prediction.top(top))
        click.echo(f"{printable(prediction.path)}: {best}")


def print_json(classes: Sequence[str], predictions: Iterable[Prediction]) -> None:
    """A JSON list, printed as the predictions arrive."""
    separator = "["
    for prediction in predictions:
        [(index, probability)] = prediction.top(1)
        entry = {
            "file": str(prediction.path),
            "prediction": classes[index],
            "probability": probability,
            "probabilities": dict(zip(classes, prediction.probabilities.tolist(), strict=True)),
        }
        click.echo(separator + json.dumps(entry))
        separator = ","
    click.echo("[]" if separator == "[" else "]")


def write_table(path: Path, classes: Sequence[str], predictions: Iterable[Prediction]) -> None:
    """A CSV file with a row for each image; `-` is standard output, where a terminal gets no control characters."""
    columns = ["file", "prediction", "probability", *(f"probability/{name}" for name in classes)]
    if path.exists() and not path.is_file():
        raise HarnessError(f"--csv {printable(path)} is not a file; give a file name, or - for standard output.")
    rows = _rows(classes, predictions)
    if str(path) == "-":
        writer = csv.writer(sys.stdout)
        for row in itertools.chain([columns], rows):
            writer.writerow(map(printable, row) if sys.stdout.isatty() else row)
        return
    try:
        write_csv(path, columns, rows)
    except OSError as error:
        raise HarnessError(f"--csv {printable(path)} cannot be written ({error.strerror}).") from error


def _rows(classes: Sequence[str], predictions: Iterable[Prediction]) -> Iterator[list[str]]:
    for prediction in predictions:
        [(index, probability)] = prediction.top(1)
        values = [f"{value:.6g}" for value in prediction.probabilities]
        yield [_valid_text(prediction.path), classes[index], f"{probability:.6g}", *values]


def _valid_text(path: Path) -> str:
    """The path; bytes that are not UTF-8 are escaped, because no table can hold them."""
    return str(path).encode("utf-8", "backslashreplace").decode()
