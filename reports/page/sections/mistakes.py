"""The mistakes of each run; the best run's are shown first."""

from __future__ import annotations

import numpy as np

from harness.runs.confidence_bins import confidence_bins
from harness.runs.predictions import PredictionTable
from harness.runs.rules import printable
from reports.collection import Collection
from reports.page.charts import chart
from reports.page.section import Section
from reports.page.site import Site
from reports.stats.mistakes import mistakes
from reports.values import rounded


def section(collection: Collection, site: Site) -> Section | None:
    keys: list[str] = []
    missing: dict[str, list[str]] = {}  # reason -> labels of runs without usable predictions
    for row in collection.rows:
        run, key, label = row.run, collection.key(row.run), collection.label(row.run)
        if not run.predictions.problem:
            bins = {"reliability": _reliability(run.predictions)}
            site.data(f"mistakes-{key}", {**mistakes(run.predictions), **bins})
            keys.append(key)
        elif run.finished:
            missing.setdefault(printable(run.predictions.problem), []).append(label)
    alt = (
        "Confusion matrix of the chosen run. The list of top confusions above has its largest entries, the table below "
        "every class."
    )
    matrix = chart(site, "confusion", [], {}, alt=alt, height=400)
    about = "Share of right predictions by their probability, of the chosen run, with 95 % intervals."
    diagram = chart(site, "reliability", [], {}, alt=about, height=320, width=520, title="Reliability")
    # mistakes.js fills both in.
    return Section(
        "mistakes",
        "mistakes.html.j2",
        {"runs": keys, "missing": missing, "matrix": matrix, "reliability": diagram},
        scripts=(
            "image_tiles.js",
            "image_view.js",
            "gallery_cards.js",
            "gallery.js",
            "reliability.js",
            "mistakes.js",
        ),
        styles=("gallery.css", "mistakes.css"),
    )


def _reliability(predictions: PredictionTable) -> list[tuple[float, float, float, float, int]]:
    """Of each bin of confidence: mean confidence, share that is right and its 95 % interval, images."""
    known = np.isfinite(predictions.probabilities)
    correct = (predictions.labels == predictions.predicted)[known]
    return [
        (rounded(one.confidence, 4), rounded(one.accuracy, 4), round(one.low, 4), round(one.high, 4), one.n)
        for one in confidence_bins(predictions.probabilities[known], correct)
    ]
