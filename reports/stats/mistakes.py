"""The mistakes of a run: confusions, scores of each class, and the most confident errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.runs.confusion_counts import Confusion, confusion_of
from harness.runs.predictions import PredictionTable
from harness.runs.resampling import wilson
from harness.runs.rules import printable
from reports.values import rounded

PAIRS, PER_PAIR = 24, 6  # pairs of classes that are shown, and images of each
ERRORS = 60  # most confident errors that are shown


def mistakes(predictions: PredictionTable) -> Mapping[str, Any]:
    """Data for the page's scripts. Classes and images are numbers; each image that is shown is described once."""
    labels, predicted = predictions.labels, predictions.predicted
    confusion = confusion_of(labels, predicted, len(predictions.classes))
    wrong = np.flatnonzero(labels != predicted)
    errors = wrong[np.argsort(-_confidence(predictions, wrong), kind="stable")][:ERRORS].tolist()
    pairs = top_confusions(confusion, predictions)
    images = dict.fromkeys([*errors, *(index for *_, of_pair in pairs for index in of_pair)])
    return {
        "classes": [printable(name) for name in predictions.classes],
        "n": len(predictions),
        "wrong": len(wrong),
        "cells": [confusion.truth.tolist(), confusion.predicted.tolist(), confusion.count.tolist()],
        "perClass": per_class(confusion),
        "pairs": pairs,
        "errors": errors,
        "pictures": {
            index: [
                printable(predictions.files[index]),
                int(labels[index]),
                int(predicted[index]),
                rounded(predictions.probabilities[index], 4),
                rounded(predictions.label_probabilities[index], 4),
            ]
            for index in images
        },
    }


def top_confusions(confusion: Confusion, predictions: PredictionTable) -> list[tuple[int, int, int, list[int]]]:
    """Pairs of classes, most frequent first: truth, prediction, count, and images, most confident first.

    Of equally frequent pairs, the one with the larger share of its class comes first, then the more confident one.
    """
    support, errors = confusion.support, confusion.errors()
    pairs: list[tuple[tuple[float, ...], tuple[int, int, int, list[int]]]] = []
    for truth, guess, count in zip(
        *(of.tolist() for of in (errors.truth, errors.predicted, errors.count)), strict=True
    ):
        images = np.flatnonzero((predictions.labels == truth) & (predictions.predicted == guess))
        confidence = _confidence(predictions, images)
        order = (-count, -count / support[truth], -float(confidence.mean()), truth, guess)
        examples = images[np.argsort(-confidence, kind="stable")][:PER_PAIR].tolist()
        pairs.append((order, (truth, guess, count, examples)))
    return [pair for _, pair in sorted(pairs)[:PAIRS]]


def per_class(confusion: Confusion) -> list[tuple[float, ...]]:
    """Of each class: F1, precision, recall and its 95 % interval, images, right predictions, most frequent confusion.

    The last is -1 if all predictions are right. A ratio without a denominator is 0.
    """
    rows, errors = [], confusion.errors()
    confused = np.full(confusion.num_classes, -1)
    order = np.argsort(-errors.count, kind="stable")
    truths, firsts = np.unique(errors.truth[order], return_index=True)
    confused[truths] = errors.predicted[order][firsts]
    columns = (confusion.hits, confusion.support, confusion.predictions, confused)
    for right, support, named, confused_with in zip(*(column.tolist() for column in columns), strict=True):
        low, high = wilson(right, support)
        numbers = (2 * right / max(support + named, 1), right / max(named, 1), right / max(support, 1), low, high)
        rows.append((*(round(value, 4) for value in numbers), support, right, confused_with))
    return rows


def _confidence(predictions: PredictionTable, images: np.ndarray) -> np.ndarray:
    return np.nan_to_num(predictions.probabilities[images], nan=-1.0)
