"""Loss weights of classes: from their numbers of training images, or from a file. C classes."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.config import RunConfig
from harness.errors import ConfigError, printable, summarise
from harness.files import not_a_file

# Of the effective number of images. The paper's range is 0.9 to 0.9999; a class of many more than 1 / (1 - BETA) images
# is not weighted down any further.
BETA = 0.999


def class_weights(config: RunConfig, classes: Sequence[str], labels: np.ndarray) -> np.ndarray | None:
    """The weights (C,) float32 of --class-weights; None without them. ConfigError if a file cannot be used.

    `labels` are those of the training images.
    """
    if config.class_weights == "none":
        return None
    counts = np.bincount(labels, minlength=len(classes))
    if config.class_weights == "balanced":
        weights = balanced_weights(counts)
    elif config.class_weights == "effective":
        weights = effective_weights(counts)
    else:
        weights = read_weights(Path(config.class_weights), classes)
    return weights.astype(np.float32)


def balanced_weights(counts: np.ndarray) -> np.ndarray:
    """n / (C n_c) for counts n_c (C,) of n images, as scikit-learn's class_weight="balanced"; float64."""
    return counts.sum() / (len(counts) * counts)


def effective_weights(counts: np.ndarray) -> np.ndarray:
    """(1 - BETA) / (1 - BETA ** n_c), scaled to a sum of C: inverse effective numbers of images (Cui et al. 2019)."""
    inverse = (1 - BETA) / (1 - BETA**counts)
    return inverse * (len(counts) / inverse.sum())


def read_weights(path: Path, classes: Sequence[str]) -> np.ndarray:
    """The weights (C,) float64 in a CSV file of rows class,weight or a JSON object; ConfigError with all problems."""
    named = f"--class-weights {printable(path)}"
    try:
        if path.exists() and (problem := not_a_file(path)):  # a named pipe would block
            raise ValueError(problem)
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets begin a CSV file with a byte order mark
        entries = _json_entries(text) if path.suffix == ".json" else _csv_entries(text)
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(
            f"{named} cannot be used ({why}). Give balanced, effective, none, a CSV file with a row class,weight for "
            "each class, or a JSON file with an object of classes and weights."
        ) from error
    problems = []
    times = Counter(name for name, _ in entries)
    if unknown := sorted(times.keys() - set(classes)):
        problems.append(f"{named} has classes that the data does not have: {summarise(unknown)}.")
    if missing := [name for name in classes if name not in times]:
        problems.append(f"{named} has no weight for {len(missing)} of {len(classes)} classes: {summarise(missing)}.")
    if repeated := sorted(name for name, count in times.items() if count > 1):
        problems.append(f"{named} has more than one weight for {summarise(repeated)}.")
    if unusable := [f"{name}: {value}" for name, value in entries if _weight(value) is None]:
        problems.append(
            f"{named}: a weight must be a finite number above 0, which these are not: {summarise(unusable)}."
        )
    if problems:
        raise ConfigError(problems)
    weights = dict(entries)
    return np.array([_weight(weights[name]) for name in classes], np.float64)


def _json_entries(text: str) -> list[tuple[str, object]]:
    # Pairs, not a dict, so that a class with two weights is seen.
    entries = json.loads(text, object_pairs_hook=list)
    if not text.lstrip().startswith("{"):
        raise ValueError("it holds no JSON object")
    return entries


def _csv_entries(text: str) -> list[tuple[str, object]]:
    rows = [row for row in csv.reader(text.splitlines()) if row]
    if wrong := next((row for row in rows if len(row) != 2), None):
        raise ValueError(f"a row is {','.join(wrong)!r}")
    entries: list[tuple[str, object]] = [(name.strip(), value.strip()) for name, value in rows]
    return entries[1:] if entries[:1] == [("class", "weight")] else entries


def _weight(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number > 0 else None
