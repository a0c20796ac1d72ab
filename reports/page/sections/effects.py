"""What the settings did: each by itself, together, and how much of it they explain."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from reports.collection import Collection
from reports.importance import Importance, importance
from reports.page.charts import LINES, Chart, Scale, chart, text, words
from reports.page.heatmap import heat_map
from reports.page.section import Section
from reports.page.site import Site
from reports.runs import shown
from reports.stats.leaderboard import Row

# Of a setting with at most so many values, the mean of each is drawn.
MOST_MEANS = 12

# Settings that get a chart of their own, and axes of the parallel coordinates.
MOST_SETTINGS = 8

# From so many runs on, what a setting seems to do is more than anecdote.
FEW = 30


def section(collection: Collection, site: Site) -> Section | None:
    rows, board = collection.board.finished, collection.board
    # A setting of older runs alone says nothing of the others.
    names = [
        name
        for name in board.settings
        if all(name in row.settings for row in rows) and len({json.dumps(row.settings[name]) for row in rows}) > 1
    ]
    if len(rows) < 2 or not names:
        return None
    metric = collection.metric
    named = names[:MOST_SETTINGS]
    found = importance(collection)
    context: dict[str, Any] = {
        "n": len(rows),
        "few": len(rows) < FEW,
        "metric": metric,
        "left_out": [shown(name) for name in names[MOST_SETTINGS:]],
        "parallel": _parallel(site, rows, named, metric) if len(rows) > 2 else None,
        "heat": heat_map(site, collection, names),
        "single": [_single(site, collection, name, number) for number, name in enumerate(named)],
        "importance": _importance(site, found) if isinstance(found, Importance) else None,
        "no_importance": found if isinstance(found, str) else None,
        "importance_of": found if isinstance(found, Importance) else None,
    }
    return Section("effects", "What mattered", "effects.html.j2", context)


def _parallel(site: Site, rows: Sequence[Row], names: Sequence[str], metric: str) -> Chart:
    values = [row.metric or 0.0 for row in rows]
    dimensions = []
    for name in names:
        scale = Scale.of([row.settings[name] for row in rows])
        dimensions.append(
            {
                "label": text(words(name)),
                "values": scale.places,
                "tickvals": list(scale.ticks),
                "ticktext": list(scale.ticks.values()),
            }
        )
    dimensions.append({"label": text(metric), "values": values, "tickformat": ".2f"})
    if all(row.run.metric("test/f1") is not None for row in rows):
        tested = [row.run.metric("test/f1") for row in rows]
        dimensions.append({"label": "test F1", "values": tested, "tickformat": ".2f"})
    trace = {
        "type": "parcoords",
        "dimensions": dimensions,
        "line": {"color": values, "colorscale": LINES, "cmin": min(values), "cmax": max(values)},
        "labelfont": {"size": 13, "shadow": "none"},
        "tickfont": {"color": "var(--soft)", "shadow": "none"},
        # The bounds are among the ticks.
        "rangefont": {"color": "rgba(0,0,0,0)", "shadow": "none"},
        "unselected": {"line": {"opacity": 0.06}},
    }
    alt = (
        f"Parallel coordinates of {len(rows)} finished runs: one line for each, through its "
        f"{', '.join(map(words, names))} and its scores; the higher its {metric}, the stronger its colour. The "
        "leaderboard has the same numbers."
    )
    margin = {"l": 60, "r": 60, "t": 56, "b": 24}
    return chart(site, "effects-parallel", [trace], {"margin": margin}, alt=alt, height=340)


def _single(site: Site, collection: Collection, name: str, number: int) -> Chart:
    """The score of every run against one setting, and the mean of each value where there are few."""
    rows, metric = collection.board.finished, collection.metric
    scale = Scale.of([row.settings[name] for row in rows], most_ticks=6)
    scores = [row.metric or 0.0 for row in rows]
    # Beside each other, not on top: by their place in the order.
    spread = (max(scale.places) - min(scale.places)) or 1.0
    few = len(set(scale.places)) <= MOST_MEANS
    nudge = 0.05 * spread / max(len(set(scale.places)) - 1, 1) if few else 0.0
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [place + nudge * (index % 5 - 2) for index, place in enumerate(scale.places)],
            "y": scores,
            "text": [text(collection.label(row.run)) for row in rows],
            "hovertemplate": f"%{{text}}<br>{text(metric)} %{{y:.4f}}<extra></extra>",
            "marker": {
                "size": 8,
                "color": "var(--run-1)",
                "opacity": 0.75,
                "line": {"width": 1, "color": "var(--paper)"},
            },
        }
    ]
    means: dict[float, float] = {}
    if few:
        for place in scale.places:
            means[place] = float(np.mean([y for x, y in zip(scale.places, scores, strict=True) if x == place]))
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": list(means),
                "y": list(means.values()),
                "hovertemplate": "mean %{y:.4f}<extra></extra>",
                "marker": {"symbol": "line-ew", "size": 30, "line": {"width": 2.5, "color": "var(--ink)"}},
            }
        )
    layout = {
        "xaxis": {
            "tickvals": list(scale.ticks),
            "ticktext": list(map(text, scale.ticks.values())),
            "title": {"text": f"{text(words(name))}{' (log scale)' * (scale.kind == 'log')}"},
            "range": [min(scale.places) - 0.25 * spread, max(scale.places) + 0.25 * spread],
            "showgrid": False,
            "automargin": True,
            "tickangle": 0 if sum(map(len, scale.ticks.values())) < 30 else -30,
        },
        # From the same ground to the same height in all of them.
        "yaxis": {"range": [-0.04 * max(scores), 1.08 * max(scores)]} if min(scores) >= 0 < max(scores) else {},
        "showlegend": False,
        "margin": {"l": 40, "r": 8, "t": 8, "b": 44},
        "hovermode": "closest",
    }
    said = "; ".join(f"{tick}: {means[place]:.3f}" for place, tick in scale.ticks.items() if place in means)
    alt = f"{metric} of {len(rows)} runs against {words(name)}.{' Means: ' * bool(said)}{said}"
    return chart(site, f"effects-setting-{number}", traces, layout, alt=alt, height=220)


def _importance(site: Site, found: Importance) -> Chart:
    names, shares = [words(name) for name in found.shares], list(found.shares.values())
    trace = {
        "type": "bar",
        "orientation": "h",
        "y": list(map(text, names[::-1])),
        "x": shares[::-1],
        "text": [f"{share:.2f}" for share in shares[::-1]],
        "textposition": "outside",
        "cliponaxis": False,
        "marker": {"color": "var(--run-1)"},
        "hovertemplate": "%{y}: %{x:.3f}<extra></extra>",
    }
    layout = {
        "xaxis": {"range": [0, 1], "title": {"text": "share"}},
        "yaxis": {"showgrid": False, "automargin": True},
        "margin": {"l": 90, "r": 40, "t": 8, "b": 44},
    }
    alt = "Importance of settings: " + ", ".join(f"{n} {s:.2f}" for n, s in zip(names, shares, strict=True)) + "."
    return chart(site, "effects-importance", [trace], layout, alt=alt, height=70 + 34 * len(names))
