"""Heat maps of the mean score of each combination of two or three hyperparameters, with the number of settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reports.collection import Collection, in_order
from reports.columns import number, readable, spelled_settings
from reports.page.charts import RAMP, Chart, by_axes, chart, escaped, shortened
from reports.page.site import Site
from reports.stats.leaderboard import SettingRow
from reports.stats.setting import Pooled

# Most values of an axis, and most panels.
MOST_LEVELS = 12
MOST_PANELS = 8

Cell = tuple[str, ...]  # the values of its settings as text


@dataclass(frozen=True)
class HeatMap:
    charts: tuple[Chart, ...]  # one per value of the third setting; a single one without a third setting
    axes: tuple[str, ...]  # names of the settings
    averaged: tuple[str, ...]  # names of the settings that vary within a cell


def heat_map(site: Site, collection: Collection, names: Sequence[str]) -> HeatMap | None:
    """Of the hyperparameters `names`, which every ranked setting has; None unless two have few enough values."""
    # With the unfinished ones: their state explains an empty cell.
    rows = list(collection.setting_rows)
    axes = [name for name in by_axes(names) if len(_levels(rows, name)) <= MOST_LEVELS][:3]
    if len(axes) > 2 and len(_levels(rows, axes[2])) > MOST_PANELS:
        axes.pop()
    if len(axes) < 2:
        return None
    # Runs of other versions may lack a setting. Values get as few digits as tell apart those that are drawn.
    rows = [row for row in rows if all(name in row.settings for name in axes)]
    levels = {name: _levels(rows, name) for name in axes}
    cells: dict[Cell, list[SettingRow]] = {}
    for row, texts in zip(rows, spelled_settings(axes, [row.settings for row in rows]), strict=True):
        cells.setdefault(tuple(texts.values()), []).append(row)
    scores = {cell: [row.setting.score for row in members if row.place] for cell, members in cells.items()}
    means = {cell: float(np.mean([score.mean for score in of_cell])) for cell, of_cell in scores.items() if of_cell}
    keys = {cell: " ".join(map(collection.setting_key, members)) for cell, members in cells.items()}
    charts = []
    for index, panel in enumerate([(level,) for level in levels[axes[2]]] if len(axes) > 2 else [()]):
        title = f"{readable(axes[2])} {panel[0]}" if panel else ""
        grid = [[(x, y, *panel) for x in levels[axes[0]]] for y in levels[axes[1]]]
        descriptions = [
            f"{readable(axes[0])} {cell[0]}, {readable(axes[1])} {cell[1]}: "
            f"{number(means[cell], 3)} ({_count(scores[cell])})"
            for line in grid
            for cell in line
            if cell in means
        ]
        charts.append(
            chart(
                site,
                f"effects-heat-{index}",
                [
                    _trace(grid, means, scores, axes)
                    | {"customdata": [[keys.get(cell, "") for cell in line] for line in grid]}
                ],
                _layout(grid, means, cells, axes),
                alt=f"Mean {collection.metric}{f', {title}' if title else ''}. {'; '.join(descriptions)}.",
                height=70 + 56 * len(grid),
                width=90 + 150 * len(grid[0]),
                title=title,
            )
        )
    averaged = tuple(readable(name) for name in names if name not in axes)
    return HeatMap(tuple(charts), tuple(map(readable, axes)), averaged)


def _count(scores: Sequence[Pooled]) -> str:
    """How many scores a mean is of: settings, or the seeds of the only one, with their standard deviation."""
    if len(scores) == 1 and scores[0].n > 1:
        return f"sd {scores[0].sd:.3f}, n = {scores[0].n} seeds"
    seeds = sum(score.n for score in scores)
    return f"n = {len(scores)}" + (f" settings, {seeds} runs" if seeds > len(scores) else "")


def _levels(rows: Sequence[SettingRow], name: str) -> list[str]:
    """The values of a setting as text, in order, of the rows that have it."""
    return list(
        dict.fromkeys(setting.text for setting in in_order([row for row in rows if name in row.settings], name))
    )


def _trace(
    grid: Sequence[Sequence[Cell]],
    means: dict[Cell, float],
    scores: dict[Cell, list[Pooled]],
    axes: Sequence[str],
) -> dict[str, Any]:
    x_title, y_title = (escaped(readable(name)) for name in axes[:2])
    # All panels have the same colour scale.
    low, high = min(means.values()), max(means.values())
    return {
        "type": "heatmap",
        "x": [escaped(cell[0]) for cell in grid[0]],
        "y": [escaped(line[0][1]) for line in grid],
        "z": [[means.get(cell) for cell in line] for line in grid],
        "text": [
            [f"<b>{number(means[cell], 3)}</b><br>{_count(scores[cell])}" if cell in means else "" for cell in line]
            for line in grid
        ],
        "texttemplate": "%{text}",
        "hovertemplate": f"{x_title} %{{x}}, {y_title} %{{y}}<br>%{{text}}<extra></extra>",
        "colorscale": RAMP,
        "zmin": low,
        "zmax": high if high > low else low + 1e-9,
        "showscale": False,
        "xgap": 2,
        "ygap": 2,
    }


def _layout(
    grid: Sequence[Sequence[Cell]], means: dict[Cell, float], cells: dict[Cell, list[SettingRow]], axes: Sequence[str]
) -> dict[str, Any]:

    def ticks(levels: Sequence[str]) -> dict[str, Any]:
        # By category: Plotly would take the position 1 for the category "1", if there is one.
        return {"tickvals": list(map(escaped, levels)), "ticktext": [escaped(shortened(level)) for level in levels]}

    axis = {"type": "category", "showgrid": False, "ticks": "", "automargin": True}
    unfinished = [
        (column, row, cells[cell])
        for row, line in enumerate(grid)
        for column, cell in enumerate(line)
        if cell in cells and cell not in means
    ]
    return {
        "xaxis": {"title": {"text": escaped(readable(axes[0]))}} | axis | ticks([cell[0] for cell in grid[0]]),
        "yaxis": {"title": {"text": escaped(readable(axes[1]))}} | axis | ticks([line[0][1] for line in grid]),
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "annotations": [
            {
                # By position: Plotly would read a category such as "64" as a position.
                "x": column,
                "y": row,
                "text": escaped(members[0].rows[0].run.state),
                "showarrow": False,
                "font": {"color": "var(--soft)"},
            }
            for column, row, members in unfinished
        ],
    }
