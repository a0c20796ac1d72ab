"""Loss and F1 of all runs while they trained, overlaid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reports import caveats
from reports.charts import RUN_COLOURS, Chart, chart, text
from reports.runs import Run
from reports.section import Collection, Section
from reports.site import Site

# Points of one line at most: more cannot be seen, only loaded.
MOST_POINTS = 200
MOST_POINTS_IN_ALL = 12_000

PANELS = {
    "loss": ("train/loss", "Training loss"),
    "val-loss": ("val/loss", "Validation loss"),
    "val-f1": ("val/f1", "Validation macro F1"),
}


@dataclass(frozen=True)
class Line:
    key: str
    label: str
    colour: str
    diverged: str  # why it is said to have; empty if it has not
    state: str


def section(collection: Collection, site: Site) -> Section | None:
    # Those that have logged anything.
    runs = [row.run for row in collection.rows if any(_points(row.run, key)[0] for key, _ in PANELS.values())]
    if not runs:
        return None
    lines = [
        Line(collection.key(run), collection.label(run), _colour(place, len(runs)), _diverged(run), run.state)
        for place, run in enumerate(runs)
    ]
    most = max(20, min(MOST_POINTS, MOST_POINTS_IN_ALL // len(runs)))
    guess = _guessing(runs)
    charts = [_panel(site, name, runs, lines, guess if "loss" in name else None, most) for name in PANELS]
    context: dict[str, Any] = {
        "charts": charts,
        "lines": lines,
        "diverged": [line for line in lines if line.diverged],
        "guess": guess,
        "by_colour": len(runs) <= RUN_COLOURS,
    }
    return Section("curves", "Curves", "curves.html.j2", context, scripts=("curves.js",))


def _panel(site: Site, name: str, runs: Sequence[Run], lines: Sequence[Line], guess: float | None, most: int) -> Chart:
    key, title = PANELS[name]
    traces: list[dict[str, Any]] = []
    for run, line in zip(runs, lines, strict=True):
        epochs, values = _thinned(*_points(run, key), most)
        if not epochs:
            continue
        few = len(epochs) <= 12
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if few else "lines",
                "name": text(line.label),
                "meta": line.key,
                "x": epochs,
                "y": values,
                "line": {"color": line.colour, "width": 1.75, "dash": "dot" if line.diverged else "solid"},
                "marker": {"size": 6, "symbol": "x" if line.diverged else "circle"},
                "hovertemplate": f"{text(line.label)}<br>epoch %{{x:.2f}}: %{{y:.4g}}<extra></extra>",
            }
        )
    # The best run lies on top.
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": "epoch"}, "rangemode": "tozero"},
        "yaxis": {} if "loss" in name else {"range": [0, 1.02]},
        "showlegend": False,
        "hovermode": "closest",
        "margin": {"l": 44, "r": 8, "t": 8, "b": 44},
    }
    if guess is not None:
        layout["shapes"] = [
            {
                "type": "line",
                "xref": "paper",
                "x0": 0,
                "x1": 1,
                "y0": guess,
                "y1": guess,
                "line": {"color": "var(--soft)", "width": 1, "dash": "dash"},
            }
        ]
    ends = [f"{trace['name']} {trace['y'][-1]:.4g}" for trace in traces[:8]]
    more = f" and {len(traces) - 8} more" if len(traces) > 8 else ""
    alt = f"{title} by epoch of {len(traces)} runs. Last values: {'; '.join(ends)}{more}."
    return chart(site, f"curves-{name}", traces[::-1], layout, alt=alt, height=300, title=title)


def _points(run: Run, key: str) -> tuple[list[float], list[float]]:
    """Epochs and finite values of a metric."""
    found = [(row.get("epoch"), row.get(key)) for row in run.rows if key in row]
    kept = [(float(x), float(y)) for x, y in found if _is_finite(x) and _is_finite(y)]
    return [x for x, _ in kept], [y for _, y in kept]


def _thinned(epochs: list[float], values: list[float], most: int) -> tuple[list[float], list[float]]:
    """At most so many points, each the mean of the same number of neighbours."""
    if len(epochs) > most:
        parts = [part for part in np.array_split(np.array([epochs, values]), most, axis=1) if part.size]
        epochs, values = ([float(part[row].mean()) for part in parts] for row in (0, 1))
    return [float(f"{x:.5g}") for x in epochs], [float(f"{y:.5g}") for y in values]


def _diverged(run: Run) -> str:
    """Whether training ended no better than guessing.

    A model that gives every class the same probability has cross-entropy ln C, whatever the labels are and however they
    are smoothed or mixed.
    """
    _, losses = _points(run, "train/loss")
    reason = str(run.summary.get("reason") or "")
    if run.state == "infeasible" and any(word in reason for word in ("became nan", "became inf", "became -inf")):
        return "the loss stopped being finite"
    guess = _guessing([run])
    if guess is None or len(losses) < 3:
        return ""
    last = float(np.mean(losses[-max(len(losses) // 5, 1) :]))
    return f"last training loss {last:.3g}, guessing gives {guess:.3g}" if last >= guess else ""


def _guessing(runs: Sequence[Run]) -> float | None:
    """Cross-entropy of equal probabilities, where all runs have the same number of classes."""
    counts = {caveats.part(run, "data").get("classes") for run in runs}
    count = counts.pop() if len(counts) == 1 else None
    return math.log(count) if isinstance(count, int) and count > 1 else None


def _colour(place: int, count: int) -> str:
    if count <= RUN_COLOURS:
        return f"var(--run-{place + 1})"
    return "var(--run-1)" if place == 0 else "var(--other-run)"


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
