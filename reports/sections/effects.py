"""What the settings did: each by itself, together, and how much of it they explain."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from reports import columns
from reports.charts import RAMP, Chart, Scale, chart, text
from reports.importance import Importance, importance
from reports.leaderboard import Row
from reports.runs import shown
from reports.section import Collection, Section
from reports.site import Site

# The axes of the heat map where they vary, in this order; then whatever else does.
AXES = ("lr", "batch_size", "augment")

# Values that an axis of the heat map takes at most, and panels beside each other.
MOST_LEVELS = 12
MOST_PANELS = 8

# Settings that get a chart of their own, and axes of the parallel coordinates.
MOST_SETTINGS = 8

# From so many runs on, what a setting seems to do is more than anecdote.
FEW = 30


def section(collection: Collection, site: Site) -> Section | None:
    rows, board = collection.board.finished, collection.board
    # A setting of older runs alone says nothing of the others.
    names = [name for name in board.settings if len(_levels(rows, name)) > 1 and all(name in r.settings for r in rows)]
    if len(rows) < 2 or not names:
        return None
    metric = shown(board.metric)
    named = names[:MOST_SETTINGS]
    found = importance(collection)
    context: dict[str, Any] = {
        "n": len(rows),
        "few": len(rows) < FEW,
        "metric": metric,
        "left_out": [shown(name) for name in names[MOST_SETTINGS:]],
        "parallel": _parallel(site, rows, named, metric) if len(rows) > 2 else None,
        "heat": _heat(site, rows, names, metric),
        "single": [_single(site, collection, name, metric) for name in named],
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
                "label": text(_words(name)),
                "values": scale.places,
                "tickvals": list(scale.ticks),
                "ticktext": list(scale.ticks.values()),
            }
        )
    dimensions.append({"label": text(metric), "values": values})
    if all(row.run.metric("test/f1") is not None for row in rows):
        dimensions.append({"label": "test F1", "values": [row.run.metric("test/f1") for row in rows]})
    trace = {
        "type": "parcoords",
        "dimensions": dimensions,
        "line": {"color": values, "colorscale": RAMP, "cmin": min(values), "cmax": max(values)},
        "labelfont": {"size": 13},
        "unselected": {"line": {"opacity": 0.06}},
    }
    alt = (
        f"Parallel coordinates of {len(rows)} finished runs: one line for each, through its "
        f"{', '.join(map(_words, names))} and its scores; the higher its {metric}, the stronger its colour. The leaderboard has the same numbers."
    )
    margin = {"l": 60, "r": 60, "t": 56, "b": 24}
    return chart(site, "effects-parallel", [trace], {"margin": margin}, alt=alt, height=340)


def _heat(site: Site, rows: Sequence[Row], names: Sequence[str], metric: str) -> dict[str, Any] | None:
    """Mean score and number of runs for each pair of values of two settings, a panel for each value of a third."""
    suitable = [name for name in names if len(_levels(rows, name)) <= MOST_LEVELS]
    axes = sorted(suitable, key=lambda name: AXES.index(name) if name in AXES else len(AXES))
    if len(axes) < 2:
        return None
    x, y = axes[:2]
    panel = axes[2] if len(axes) > 2 and len(_levels(rows, axes[2])) <= MOST_PANELS else None
    used = [x, y, *([panel] if panel else [])]
    columns_, lines = _levels(rows, x), _levels(rows, y)
    panels = _levels(rows, panel) if panel else [""]
    texts = {name: _spelled(rows, name) for name in used}
    scores: dict[tuple[str, ...], list[float]] = {}
    for number, row in enumerate(rows):
        scores.setdefault(tuple(texts[name][number] for name in used), []).append(row.metric or 0.0)
    means = {cell: float(np.mean(found)) for cell, found in scores.items()}
    low, high = min(means.values()), max(means.values())
    charts = []
    for index, one in enumerate(panels):
        cells = [[(column, line, *([one] if panel else [])) for column in columns_] for line in lines]
        trace = {
            "type": "heatmap",
            "x": list(map(text, columns_)),
            "y": list(map(text, lines)),
            "z": [[means.get(cell) for cell in line] for line in cells],
            "text": [
                [f"<b>{means[cell]:.3f}</b><br>n = {len(scores[cell])}" if cell in means else "" for cell in line]
                for line in cells
            ],
            "texttemplate": "%{text}",
            "hovertemplate": f"{text(_words(x))} %{{x}}, {text(_words(y))} %{{y}}<br>%{{text}}<extra></extra>",
            "colorscale": RAMP,
            "zmin": low,
            "zmax": high if high > low else low + 1e-9,
            "showscale": False,
            "xgap": 2,
            "ygap": 2,
        }
        title = f"{_words(panel)} {one}" if panel else ""
        layout = {
            "xaxis": {"title": {"text": text(_words(x))}, "type": "category", "showgrid": False, "ticks": ""},
            "yaxis": {"title": {"text": text(_words(y))}, "type": "category", "showgrid": False, "ticks": ""},
            "margin": {"l": 70, "r": 8, "t": 8, "b": 48},
        }
        said = "; ".join(
            f"{_words(x)} {column}, {_words(y)} {line}: {means[cell]:.3f} (n = {len(scores[cell])})"
            for line, column in product(lines, columns_)
            if (cell := (column, line, *([one] if panel else []))) in means
        )
        alt = f"Mean {metric}{', ' * bool(title)}{title}. {said}."
        height = 70 + 56 * len(lines)
        charts.append(chart(site, f"effects-heat-{index}", [trace], layout, alt=alt, height=height, title=title))
    rest = [_words(name) for name in names if name not in used]
    return {"charts": charts, "axes": [_words(name) for name in used], "rest": rest}


def _single(site: Site, collection: Collection, name: str, metric: str) -> Chart:
    """The score of every run against one setting, and the mean of each value where there are few."""
    rows = collection.board.finished
    scale = Scale.of([row.settings[name] for row in rows], most_ticks=6)
    scores = [row.metric or 0.0 for row in rows]
    # Beside each other, not on top: by their place in the order.
    spread = (max(scale.places) - min(scale.places)) or 1.0
    few = len(set(scale.places)) <= MOST_LEVELS
    nudge = 0.05 * spread / max(len(set(scale.places)) - 1, 1) if few else 0.0
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [place + nudge * ((number % 5) - 2) for number, place in enumerate(scale.places)],
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
    means = {
        place: float(np.mean([s for p, s in zip(scale.places, scores, strict=True) if p == place]))
        for place in scale.places
    }
    if few:
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
            "title": {"text": f"{text(_words(name))}{' (log scale)' * (scale.kind == 'log')}"},
            "range": [min(scale.places) - 0.25 * spread, max(scale.places) + 0.25 * spread],
            "showgrid": False,
        },
        "yaxis": {"rangemode": "tozero"},
        "showlegend": False,
        "margin": {"l": 40, "r": 8, "t": 8, "b": 44},
        "hovermode": "closest",
    }
    said = (
        "; ".join(f"{text}: {means[place]:.3f}" for place, text in scale.ticks.items() if place in means) if few else ""
    )
    alt = f"{metric} of {len(rows)} runs against {_words(name)}.{' Means: ' * bool(said)}{said}"
    return chart(site, f"effects-by-{_slug(name)}", traces, layout, alt=alt, height=220)


def _importance(site: Site, found: Importance) -> Chart:
    names, shares = [_words(name) for name in found.shares], list(found.shares.values())
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


def _levels(rows: Sequence[Row], name: str) -> list[str]:
    """The values of a setting as they are spelled, in order."""
    values = [row.settings.get(name, "?") for row in rows]
    texts = columns.spelled(values)

    def order(item: tuple[Any, str]) -> tuple[bool, Any]:
        value, text = item
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return (not is_number, value if is_number else text)

    return list(dict.fromkeys(text for _, text in sorted(zip(values, texts, strict=True), key=order)))


def _spelled(rows: Sequence[Row], name: str) -> tuple[str, ...]:
    return columns.spelled([row.settings.get(name, "?") for row in rows])


def _words(name: str) -> str:
    return shown(name).replace("_", " ")


def _slug(name: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)
