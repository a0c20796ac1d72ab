"""Position embeddings before and after every run, by learning rate; their maps and attention heads of two runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from harness.runs.attention_files import HeadStatistics, read_statistics
from harness.runs.reading import UnreadableError
from harness.runs.rules import printable
from reports.collection import Collection
from reports.columns import value
from reports.page.charts import Chart, chart
from reports.page.gallery_data import best_and_worst
from reports.page.position_maps import write_position_maps
from reports.page.section import Section
from reports.page.site import Site
from reports.runs import Run
from reports.stats import positions
from reports.values import rounded

# Titles of the head statistics in attention.npz.
STATISTICS = {
    "distance": "mean attention distance, pixels",
    "entropy": "entropy of all tokens' attention, nats",
    "class_entropy": "entropy of the class token's attention, nats",
    "patches_on_class": "patches' attention on the class token",
    "class_on_class": "the class token's attention on itself",
}


def section(collection: Collection, site: Site) -> Section | None:
    runs = [row.run for row in collection.rows]
    runs.sort(key=lambda run: math.inf if run.learning_rate is None else run.learning_rate)
    lines: dict[Run, dict[str, Any]] = {}
    rules: dict[str, None] = {}  # of the verdicts; runs of other versions may have others
    missing: dict[str, list[str]] = {}  # reason -> labels of runs
    for run in runs:
        label = collection.label(run)
        try:
            numbers = positions.read(run).numbers
            lines[run] = _line(run, label, numbers)
            rules[printable(numbers["rule"])] = None
        except FileNotFoundError:
            reason = "positions.npz is missing" if run.finished else f"{printable(run.state)}, not measured yet"
            missing.setdefault(reason, []).append(label)
        except ValueError as error:
            missing.setdefault(printable(error), []).append(label)
    # Of several seeds, the maps of all settings show the best one.
    bests = {row.setting.best for row in collection.setting_rows}
    by_rate = positions.choose([run for run in lines if run in bests])
    drawn = best_and_worst([row.run for row in collection.rows if row.run in lines], collection.gallery)
    explored = list(dict.fromkeys([*drawn, *by_rate]))
    for run in explored:
        write_position_maps(site, collection.key(run), run)
    heads = _heads(collection, site)
    context = {
        "lines": list(lines.values()),
        "rules": list(rules),
        "missing": missing,
        "sweep": [{"key": collection.key(run), "line": lines[run]} for run in by_rate],
        "settings": len(bests & lines.keys()),
        "maps": [collection.key(run) for run in explored],
        "best_and_worst": len(drawn),
        "heads": heads,
        "charts": _charts(site) if heads else [],
    }
    return Section(
        "positions",
        "positions.html.j2",
        context,
        scripts=("head_charts.js", "position_maps.js", "positions.js"),
        styles=("gallery.css", "positions.css"),
    )


def _line(run: Run, label: str, numbers: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table. Raises ValueError where numbers are missing or damaged."""
    try:
        before, after, change = (numbers[name] for name in ("before", "after", "change"))
        return {
            "rate": value(run.config.get("lr")) if run.learning_rate is not None else "?",
            "label": label,
            "verdict": printable(numbers["verdict"]),
            "numbers": [
                {
                    "before": _digits(before[name]["value"]),
                    "after": _digits(after[name]["value"]),
                    "chance": _span(after[name]),
                }
                for name in ("locality", "decoding", "effective_rank")
            ],
            "change": _digits(change["value"]),
            "chance": _span(change),
            "strength": _digits(numbers["strength"]),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"positions.npz is damaged ({error})") from error


def _heads(collection: Collection, site: Site) -> list[dict[str, str]]:
    """Write the head statistics of every run that has them; returns key and label of these runs, the best first."""
    runs = []
    for row in collection.rows:
        key, label = collection.key(row.run), collection.label(row.run)
        try:
            statistics = read_statistics(row.run.path)
        except UnreadableError:
            continue  # the gallery gives the reason
        site.data(f"heads-{key}", _by_name(statistics))
        runs.append({"key": key, "label": label})
    return runs


def _by_name(statistics: HeadStatistics) -> dict[str, Any]:
    """Rows of values (L, H) for each statistic."""
    return {
        name: [[rounded(cell, 4) for cell in row] for row in statistics.values[:, :, place].tolist()]
        for place, name in enumerate(statistics.names)
        if name in STATISTICS
    }


def _charts(site: Site) -> list[Chart]:
    """Charts without data, which positions.js fills in for the chosen runs."""
    depth = chart(
        site,
        "heads-depth",
        [],
        {},
        alt="Mean attention distance of every head by layer, of the chosen runs; the heat maps below have the numbers.",
        height=340,
        title="Mean attention distance of each head, by layer (pixels)",
    )
    heat = [
        chart(
            site,
            f"heads-{name}",
            [],
            {},
            alt=f"By layer and head, for the chosen runs: {title}.",
            height=300,
            title=title,
        )
        for name, title in STATISTICS.items()
    ]
    return [depth, *heat]


def _digits(number: float) -> str:
    return f"{number:.3g}" if abs(number) >= 0.001 or number == 0 else f"{number:.1e}"


def _span(measured: Mapping[str, Any]) -> str:
    return f"{_digits(measured['low'])} to {_digits(measured['high'])}"
