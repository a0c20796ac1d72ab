"""What a run gets wrong: which classes it takes for which, how well it knows each, and where it was sure and wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.runs.predictions import PredictionTable
from harness.runs.resampling import confusion_counts, wilson
from harness.runs.rules import printable
from reports.values import rounded

PAIRS, PER_PAIR = 24, 6  # pairs of classes that are shown, and images of each
ERRORS = 60  # the most confident ones


def mistakes(predictions: PredictionTable) -> Mapping[str, Any]:
    """Data for the page's scripts: classes and images are numbers, and `images` has the file names of those shown."""
    labels, predicted = predictions.labels, predictions.predicted
    counts = confusion_counts(labels, predicted, len(predictions.classes))
    wrong = np.flatnonzero(labels != predicted)
    surest = wrong[np.argsort(-_sure(predictions, wrong), kind="stable")]
    pairs = worst_pairs(counts, predictions)
    shown_ones = dict.fromkeys([*surest[:ERRORS].tolist(), *(index for *_, some in pairs for index in some)])
    rows, columns = np.nonzero(counts)
    return {
        "classes": [printable(name) for name in predictions.classes],
        "n": len(predictions),
        "wrong": len(wrong),
        "cells": [rows.tolist(), columns.tolist(), counts[rows, columns].tolist()],
        "perClass": per_class(counts),
        "pairs": pairs,
        "errors": surest[:ERRORS].tolist(),
        "pictures": {
            index: [
                printable(predictions.files[index]),
                int(labels[index]),
                int(predicted[index]),
                rounded(predictions.probabilities[index], 4),
                rounded(predictions.label_probabilities[index], 4),
            ]
            for index in shown_ones
        },
    }


def worst_pairs(counts: np.ndarray, predictions: PredictionTable) -> list[tuple[int, int, int, list[int]]]:
    """Truth, prediction, how often, and images, the surest first; the most frequent pair first.

    Of pairs that are equally frequent, first the one that takes the larger share of its class, then the surer one.
    """
    support = counts.sum(1)
    found: list[tuple[tuple[float, ...], tuple[int, int, int, list[int]]]] = []
    for truth, guess in zip(*np.nonzero(counts - np.diag(np.diag(counts))), strict=True):
        some = np.flatnonzero((predictions.labels == truth) & (predictions.predicted == guess))
        sure = _sure(predictions, some)
        count = int(counts[truth, guess])
        order = (-count, -count / support[truth], -float(sure.mean()), int(truth), int(guess))
        found.append(
            (order, (int(truth), int(guess), count, some[np.argsort(-sure, kind="stable")][:PER_PAIR].tolist()))
        )
    return [pair for _, pair in sorted(found)[:PAIRS]]


def per_class(counts: np.ndarray) -> list[tuple[float, ...]]:
    """Of each class: F1, precision, recall and its 95 % interval; images, how many are right, what it is taken for.

    The last is -1 where it is taken for nothing else. A ratio without a denominator is 0.
    """
    rows = []
    others = counts - np.diag(np.diag(counts))
    for number, row in enumerate(counts):
        right, support, named = int(row[number]), int(row.sum()), int(counts[:, number].sum())
        low, high = wilson(right, support)
        taken = int(others[number].argmax()) if others[number].any() else -1
        numbers = (2 * right / max(support + named, 1), right / max(named, 1), right / max(support, 1), low, high)
        rows.append((*(round(value, 4) for value in numbers), support, right, taken))
    return rows


def _sure(predictions: PredictionTable, some: np.ndarray) -> np.ndarray:
    return np.nan_to_num(predictions.probabilities[some], nan=-1.0)
