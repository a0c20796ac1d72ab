"""Whether runs were tested on the same images, and their predictions in one order."""

from __future__ import annotations

import numpy as np

from reports.runs import Run


def obstacle(best: Run, other: Run) -> str:
    """Why two runs cannot be compared image by image; empty when they can."""
    of_best, of_other = best.predictions, other.predictions
    if of_best.problem:
        return f"the best run's predictions cannot be used: {of_best.problem}"
    if of_other.problem:
        return f"its predictions cannot be used: {of_other.problem}"
    if set(of_best.classes) != set(of_other.classes):
        return "it was trained on other classes than the best run"
    fingerprints = [fingerprint(run) for run in (best, other)]
    if None not in fingerprints and fingerprints[0] != fingerprints[1]:
        return "its data set is not the best run's (manifest.json: fingerprint)"
    labels_of_best, labels_of_other = (
        {file: table.classes[label] for file, label in zip(table.files, table.labels, strict=True)}
        for table in (of_best, of_other)
    )
    if labels_of_best == labels_of_other:
        return ""
    common = len(labels_of_best.items() & labels_of_other.items())
    return (
        f"it was tested on other images: {common} of its {len(labels_of_other)} are among the {len(labels_of_best)} of "
        "the best run"
    )


def aligned(best: Run, other: Run) -> np.ndarray:
    """(N,) predictions of the other run, in the order of the best run's images and by its class indices."""
    classes = {name: index for index, name in enumerate(best.predictions.classes)}
    index = np.array([classes[name] for name in other.predictions.classes])
    row = {file: number for number, file in enumerate(other.predictions.files)}
    return index[other.predictions.predicted[[row[file] for file in best.predictions.files]]]


def fingerprint(run: Run) -> str | None:
    """Of the images and their labels; None if the manifest has none."""
    return run.part("data").get("fingerprint")
