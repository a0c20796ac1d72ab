"""Training curves of all settings: losses and validation F1, of several seeds their mean and range."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from harness.runs.metric_table import BY_KEY
from reports import columns
from reports.collection import Collection, SettingValue, in_order
from reports.page.charts import RUN_COLOURS, Chart, by_axes, chart, escaped
from reports.page.curve_layout import curve_layout, cut_at
from reports.page.curve_points import Points, points, run_points, thinned
from reports.page.section import Section
from reports.page.site import Site
from reports.runs import Run
from reports.stats.leaderboard import SettingRow
from reports.stats.setting import SEED
from reports.values import is_number

# Most points of a line: more would not be visible.
MOST_POINTS = 200
MOST_POINTS_IN_ALL = 12_000
MOST_MARKERS = 12  # points of a line that has a marker for each

# With more lines, all but the best run's are thin.
CROWD = 24

# A numeric setting with too many values for a colour each is divided into so many ranges.
RANGES = 4

# States of runs whose training may continue.
UNFINISHED = ("running", "preempted", "unknown")

# Metrics by the names of their charts.
PANELS = {"loss": "train/loss", "val-loss": "val/loss", "val-f1": "val/f1"}


@dataclass(frozen=True)
class Line:
    """How one setting is drawn."""

    runs: tuple[Run, ...]  # its seeds
    key: str
    label: str
    diverged: str  # the reason why it counts as diverged, or ""


@dataclass(frozen=True)
class Level:
    """Settings that share a colour."""

    text: str
    colour: str
    runs: tuple[str, ...]  # their keys
    diverged: bool = False


def section(collection: Collection, site: Site) -> Section | None:
    # Settings that have logged anything.
    rows = [
        row
        for row in collection.setting_rows
        if any(points(row.setting.all_runs, key).epochs for key in PANELS.values())
    ]
    if not rows:
        return None
    lines = [
        Line(row.setting.all_runs, collection.setting_key(row), collection.setting_label(row), _diverged_seeds(row))
        for row in rows
    ]
    groups = _groups(collection, rows, lines)
    site.data("curves-groups", {name: [asdict(level) for level in levels] for name, levels in groups.items()})
    most = max(20, min(MOST_POINTS, MOST_POINTS_IN_ALL // len(lines)))
    guess = _guessing([run for line in lines for run in line.runs])
    colours = {key: level.colour for level in next(iter(groups.values())) for key in level.runs}
    guesses = {"loss": guess, "val-loss": guess, "val-f1": math.exp(-guess) if guess else None}  # ln C, and 1 / C
    panels = [_panel(site, name, lines, colours, guesses[name], most) for name in PANELS]
    context: dict[str, Any] = {
        "charts": [panel for panel in panels if panel],
        "lines": lines,
        "most": most,
        "diverged": [line for line in lines if line.diverged],
        "guess": guess,
        "cut": any(_cut(lines, key, guess) is not None for name, key in PANELS.items() if "loss" in name),
        "groups": list(groups),
        "repeated": any(len(line.runs) > 1 for line in lines),
    }
    return Section("curves", "curves.html.j2", context, scripts=("curves.js",))


def _groups(collection: Collection, rows: Sequence[SettingRow], lines: Sequence[Line]) -> dict[str, list[Level]]:
    """What lines can be coloured by: each line if there are few, and each hyperparameter with few values or ranges."""
    groups: dict[str, list[Level]] = {}
    if len(lines) <= RUN_COLOURS:
        groups[collection.board.unit] = [
            Level(line.label, _colour(place), (line.key,), bool(line.diverged)) for place, line in enumerate(lines)
        ]
    for name in by_axes(collection.board.settings):
        values_in_order = in_order([row for row in rows if name in row.settings], name)
        levels = _levels(values_in_order)
        if 2 <= len(levels) <= RUN_COLOURS:
            is_ordered = all(is_number(each.value) for each in values_in_order)
            colours = _steps(len(levels)) if is_ordered else [_colour(place) for place in range(len(levels))]
            groups[columns.readable(name)] = [
                Level(level, colour, tuple(collection.setting_key(each.row) for each in values))
                for colour, (level, values) in zip(colours, levels.items(), strict=True)
            ]
    if not groups:
        first, *others = lines
        groups["place"] = [
            Level("best" if rows[0].place else first.label, _colour(0), (first.key,)),
            Level("others", "var(--other-run)", tuple(line.key for line in others)),
        ]
    return groups


def _levels(values: Sequence[SettingValue]) -> dict[str, list[SettingValue]]:
    """Settings by the value of one hyperparameter, in order; in ranges of equally many if they are many numbers."""
    levels: dict[str, list[SettingValue]] = {}
    for each in values:
        levels.setdefault(each.text, []).append(each)
    if len(levels) <= RUN_COLOURS or not all(is_number(each.value) for each in values):
        return levels
    bounds = np.linspace(0, len(values), RANGES + 1).astype(int).tolist()
    parts = [list(values[start:end]) for start, end in pairwise(bounds)]
    return {f"{part[0].value:.2g} to {part[-1].value:.2g}": part for part in parts}


def _panel(
    site: Site, name: str, lines: Sequence[Line], colours: Mapping[str, str], guess: float | None, most: int
) -> Chart | None:
    """None where no run has logged the metric yet."""
    key = PANELS[name]
    title = BY_KEY[key].caption
    traces: list[dict[str, Any]] = []
    for place, line in enumerate(lines):
        drawn = thinned(points(line.runs, key), most)
        if not drawn.epochs:
            continue
        colour = colours.get(line.key, "var(--other-run)")
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if len(drawn.epochs) <= MOST_MARKERS else "lines",
                "name": escaped(line.label),
                "meta": line.key,
                "x": drawn.epochs,
                "y": drawn.values,
                "line": {
                    "color": colour,
                    "width": 2.8 if place == 0 else 1.6 if len(lines) <= CROWD else 1,
                    "dash": "dot" if line.diverged else "solid",
                },
                "opacity": 1 if place == 0 or len(lines) <= CROWD else 0.5,
                "marker": {"size": 7 if line.diverged else 5, "symbol": "x-thin-open" if line.diverged else "circle"},
                "hovertemplate": f"{escaped(line.label)}<br>epoch %{{x:.2f}}: %{{y:.4g}}<extra></extra>",
            }
        )
        if drawn.low:
            traces.append(_band(line.key, drawn, colour))
    if not traces:
        return None
    is_loss = "loss" in name
    layout = curve_layout(guess, is_loss=is_loss, end=_cut(lines, key, guess) if is_loss else None)
    count = sum(trace.get("fill") is None for trace in traces)
    ends = [f"{line.label} {values[-1]:.4g}" for line in lines[:8] if (values := points(line.runs, key).values)]
    more = f" and {count - len(ends)} more" if count > len(ends) else ""
    unit = "settings (means over seeds)" if any(len(line.runs) > 1 for line in lines) else "runs"
    alt = f"{title} by epoch of {count} {unit}. Last values: {'; '.join(ends)}{more}."
    # The best one is drawn last, on top.
    return chart(site, f"curves-{name}", traces[::-1], layout, alt=alt, height=320, title=title)


def _cut(lines: Sequence[Line], key: str, guess: float | None) -> float | None:
    drawn = [(line, points(line.runs, key)) for line in lines]
    # Of several seeds, the band must be seen up to the highest one.
    kept, diverged = (
        [each.high or each.values for line, each in drawn if bool(line.diverged) is which] for which in (False, True)
    )
    return cut_at(kept, diverged, guess)


def _band(key: str, drawn: Points, colour: str) -> dict[str, Any]:
    """From the lowest to the highest seed."""
    return {
        "type": "scatter",
        "mode": "lines",
        "meta": key,
        "x": [*drawn.epochs, *drawn.epochs[::-1]],
        "y": [*drawn.high, *drawn.low[::-1]],
        "fill": "toself",  # in the colour of the line, half transparent
        "line": {"color": colour, "width": 0},
        "opacity": 0.5,
        "hoverinfo": "skip",
    }


def _diverged_seeds(row: SettingRow) -> str:
    """Why the run of a setting counts as diverged, or which of its seeds do."""
    reasons = [(one, _diverged(one.run)) for one in row.rows]
    if len(reasons) == 1:
        return reasons[0][1]
    return "; ".join(f"seed {columns.value(one.run.config.get(SEED))}: {reason}" for one, reason in reasons if reason)


def _diverged(run: Run) -> str:
    """Why a run counts as diverged: training ended no better than guessing, or with a loss that is not finite.

    A model that gives every class the same probability has cross-entropy ln C, whatever the labels are and however they
    are smoothed or mixed.
    """
    _, losses = run_points(run, "train/loss")
    reason = str(run.summary.get("reason") or "")
    if run.state == "infeasible" and any(word in reason for word in ("became nan", "became inf", "became -inf")):
        return "the loss stopped being finite"
    guess = _guessing([run])
    # An unfinished run may have just begun, when every model guesses.
    if guess is None or len(losses) < 3 or run.state in UNFINISHED:
        return ""
    last = float(np.mean(losses[-max(len(losses) // 5, 1) :]))
    return f"last training loss {last:.3g}, guessing gives {guess:.3g}" if last >= guess else ""


def _guessing(runs: Sequence[Run]) -> float | None:
    """Cross-entropy of equal class probabilities; None unless all runs have the same number of classes."""
    count, *others = (run.part("data").get("classes") for run in runs)
    return math.log(count) if is_number(count) and count > 1 and all(other == count for other in others) else None


def _steps(count: int) -> list[str]:
    """Colours of ordered values, from light to dark: --step-1 to --step-7 of colours.css, as far apart as possible."""
    return [f"var(--step-{1 + round(place * (RUN_COLOURS - 1) / (count - 1))})" for place in range(count)]


def _colour(place: int) -> str:
    return f"var(--run-{place + 1})"
