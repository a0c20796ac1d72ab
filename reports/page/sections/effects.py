"""Effects of the hyperparameters on the score: each one alone, several together, and their importance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.runs.rules import printable
from reports import columns
from reports.collection import Collection
from reports.columns import readable
from reports.importance import Importance, importance
from reports.page.charts import LINES, Chart, Scale, chart, escaped
from reports.page.heatmap import heat_map
from reports.page.section import Section
from reports.page.site import Site
from reports.stats.leaderboard import SettingRow

# A setting with at most so many values gets a mean per value.
MOST_MEANS = 12

# So many settings get a chart each and an axis of the parallel coordinates.
MOST_SETTINGS = 8

# With fewer runs the page warns that effects may be chance.
FEW = 30


def section(collection: Collection, site: Site) -> Section | None:
    rows, board = collection.board.ranked, collection.board
    # Hyperparameters that some of the runs lack, such as those of an older version, cannot be compared.
    names = [
        name
        for name in board.settings
        if all(name in row.settings for row in rows) and len({json.dumps(row.settings[name]) for row in rows}) > 1
    ]
    if len(rows) < 2 or not names:
        return None
    metric = collection.metric
    drawn = names[:MOST_SETTINGS]
    result = importance(collection)
    context: dict[str, Any] = {
        "n": len(rows),
        "unit": f"{board.unit}s",
        "few": len(rows) < FEW,
        "metric": metric,
        "left_out": [printable(name) for name in names[MOST_SETTINGS:]],
        "parallel": _parallel(site, collection, drawn) if len(rows) > 2 else None,
        "heat": heat_map(site, collection, names),
        "single": [_single(site, collection, name, number) for number, name in enumerate(drawn)],
        "importance": _importance(site, result) if isinstance(result, Importance) else None,
        "no_importance": result if isinstance(result, str) else None,
        "importance_of": result if isinstance(result, Importance) else None,
    }
    return Section("effects", "effects.html.j2", context)


def _parallel(site: Site, collection: Collection, names: Sequence[str]) -> Chart:
    rows, metric = collection.board.ranked, collection.metric
    values = [row.setting.score.mean or 0.0 for row in rows]
    dimensions = []
    for name in names:
        scale = Scale.of([row.settings[name] for row in rows])
        dimensions.append(
            {
                "label": escaped(readable(name)),
                "values": scale.places,
                "tickvals": list(scale.ticks),
                "ticktext": list(scale.ticks.values()),
            }
        )
    dimensions.append({"label": escaped(metric), "values": values, "tickformat": ".2f"})
    if all(row.setting.test_f1.mean is not None for row in rows):
        test_scores = [row.setting.test_f1.mean for row in rows]
        dimensions.append({"label": "test F1", "values": test_scores, "tickformat": ".2f"})
    trace = {
        "type": "parcoords",
        "dimensions": dimensions,
        "customdata": [collection.setting_key(row) for row in rows],
        "line": {"color": values, "colorscale": LINES, "cmin": min(values), "cmax": max(values)},
        "labelfont": {"size": 13, "shadow": "none"},
        "tickfont": {"color": "var(--soft)", "shadow": "none"},
        # Hidden: the ticks include both ends.
        "rangefont": {"color": "rgba(0,0,0,0)", "shadow": "none"},
        "unselected": {"line": {"opacity": 0.06}},
    }
    unit = collection.board.unit
    alt = (
        f"Parallel coordinates of {len(rows)} finished {unit}s: one line per {unit}, through its "
        f"{', '.join(map(readable, names))} and its scores; the higher its {metric}, the stronger its colour. The "
        "leaderboard has the same numbers."
    )
    margin = {"l": 60, "r": 60, "t": 56, "b": 24}
    return chart(site, "effects-parallel", [trace], {"margin": margin}, alt=alt, height=340)


def _single(site: Site, collection: Collection, name: str, number: int) -> Chart:
    """The score of every setting by one hyperparameter, with the mean of each value if there are few values."""
    rows, metric = collection.board.ranked, collection.metric
    scale = Scale.of([row.settings[name] for row in rows], most_ticks=6)
    scores = [row.setting.score.mean or 0.0 for row in rows]
    labels = [collection.setting_label(row) + _seeds(row) for row in rows]
    # Points of the same value are moved sideways, so that they do not cover each other.
    spread = (max(scale.places) - min(scale.places)) or 1.0
    few = len(set(scale.places)) <= MOST_MEANS
    nudge = 0.05 * spread / max(len(set(scale.places)) - 1, 1) if few else 0.0
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [place + nudge * (index % 5 - 2) for index, place in enumerate(scale.places)],
            "y": scores,
            "text": list(map(escaped, labels)),
            "customdata": [collection.setting_key(row) for row in rows],
            "hovertemplate": f"%{{text}}<br>{escaped(metric)} %{{y:.4f}}<extra></extra>",
            "marker": {
                "size": 8,
                "color": "var(--run-1)",
                "opacity": 0.75,
                "line": {"width": 1, "color": "var(--paper)"},
            },
        }
    ]
    if collection.board.repeated:
        deviations = [row.setting.score.sd or 0.0 for row in rows]
        traces[0]["error_y"] = {"type": "data", "array": deviations, "thickness": 1, "width": 3, "color": "var(--soft)"}
    means: dict[float, float] = {}
    if few:
        for place in scale.places:
            means[place] = float(np.mean([y for x, y in zip(scale.places, scores, strict=True) if x == place]))
        traces.append(_mean_bars(means))
    layout = {
        "xaxis": {
            "tickvals": list(scale.ticks),
            "ticktext": list(map(escaped, scale.ticks.values())),
            "title": {"text": f"{escaped(readable(name))}{' (log scale)' * (scale.kind == 'log')}"},
            "range": [min(scale.places) - 0.25 * spread, max(scale.places) + 0.25 * spread],
            "showgrid": False,
            "automargin": True,
            "tickangle": 0 if sum(map(len, scale.ticks.values())) < 30 else -30,
        },
        # The same range in the charts of all settings.
        "yaxis": {"range": [-0.04 * max(scores), 1.08 * max(scores)]} if min(scores) >= 0 < max(scores) else {},
        "showlegend": False,
        "margin": {"l": 40, "r": 8, "t": 8, "b": 44},
        "hovermode": "closest",
    }
    means_text = "; ".join(
        f"{tick}: {columns.number(means[place], 3)}" for place, tick in scale.ticks.items() if place in means
    )
    about = f"{metric} of {len(rows)} {collection.board.unit}s against {readable(name)}."
    alt = f"{about} Means: {means_text}" if means_text else about
    return chart(site, f"effects-setting-{number}", traces, layout, alt=alt, height=220)


def _mean_bars(means: dict[float, float]) -> dict[str, Any]:
    """Marks for the mean at each position."""
    size = 30 if len(means) <= 5 else 12  # px: they must not run together
    return {
        "type": "scatter",
        "mode": "markers",
        "x": list(means),
        "y": list(means.values()),
        "hovertemplate": "mean %{y:.4f}<extra></extra>",
        "marker": {"symbol": "line-ew", "size": size, "line": {"width": 2.5, "color": "var(--ink)"}},
    }


def _seeds(row: SettingRow) -> str:
    score = row.setting.score
    return f" (mean of {score.n} seeds, sd {score.sd:.4f})" if score.n > 1 else ""


def _importance(site: Site, result: Importance) -> Chart:
    names, shares = [readable(name) for name in result.shares], list(result.shares.values())
    trace = {
        "type": "bar",
        "orientation": "h",
        "y": list(map(escaped, names[::-1])),
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
