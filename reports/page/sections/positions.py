"""What changed: position embeddings before and after every run, by learning rate; what the heads of two runs do."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.runs.attention_files import HeadStatistics, read_statistics
from harness.runs.reading import UnreadableError
from harness.runs.sprite_files import read_image
from reports.collection import Collection
from reports.columns import value
from reports.page.charts import Chart, chart
from reports.page.gallery_data import chosen
from reports.page.section import Section
from reports.page.site import Site
from reports.runs import Run, shown
from reports.stats import positions
from reports.values import is_number, rounded

# In figures/ of a run, and what they show.
FIGURES = {
    "positions": "Similarity of the position embeddings of all patches, before and after, with numbers and verdict",
    "position_maps": "The class token's similarity with each patch before and after, and how far each patch moved",
}

# Of attention.npz, and what they are.
STATISTICS = {
    "distance": "mean attention distance, pixels",
    "entropy": "entropy of all tokens' attention, nats",
    "class_entropy": "entropy of the class token's attention, nats",
    "patches_on_class": "patches' attention on the class token",
    "class_on_class": "the class token's attention on itself",
}


@dataclass(frozen=True)
class Number:
    """A number before and after, as text, with its range by chance after."""

    before: str
    after: str
    chance: str


@dataclass(frozen=True)
class Line:
    """A run of the table."""

    rate: str
    label: str
    verdict: str
    numbers: tuple[Number, ...]  # locality, decoding, effective rank
    change: str
    chance: str  # of change
    strength: str


def section(collection: Collection, site: Site) -> Section | None:
    runs = sorted((row.run for row in collection.rows), key=lambda run: _rate(run))
    lines: list[Line] = []
    there: list[Run] = []
    rules: dict[str, None] = {}
    without: dict[str, list[str]] = {}
    for run in runs:
        label = collection.label(run)
        try:
            numbers = positions.read(run).numbers
            lines.append(_line(run, label, numbers))
            rules[shown(numbers["rule"])] = None
            there.append(run)
        except FileNotFoundError:
            reason = "positions.npz is missing" if run.finished else f"{shown(run.state)}: not looked yet"
            without.setdefault(reason, []).append(label)
        except ValueError as error:
            without.setdefault(shown(error), []).append(label)
    with_embeddings = set(there)
    heads = _heads(collection, site)
    some = chosen([row.run for row in collection.rows if row.run in with_embeddings], collection.gallery)
    context = {
        "lines": lines,
        "rules": list(rules),
        "without": without,
        "sweep": _sweep_figure(collection, site, there),
        "most": positions.MOST,
        "figures": [figures for run in some if (figures := _figures(collection, site, run))["images"]],
        "words": FIGURES,
        "heads": heads,
        "charts": _charts(site) if heads else [],
    }
    return Section(
        "positions",
        "What changed",
        "positions.html.j2",
        context,
        scripts=("positions.js",),
        styles=("gallery.css", "positions.css"),
    )


def _line(run: Run, label: str, numbers: Mapping[str, Any]) -> Line:
    """ValueError where numbers are missing."""
    try:
        pairs = tuple(
            Number(
                _digits(numbers["before"][name]["value"]),
                _digits(numbers["after"][name]["value"]),
                _span(numbers["after"][name]),
            )
            for name in ("locality", "decoding", "effective_rank")
        )
        change = numbers["change"]
        return Line(
            value(run.config.get("lr")) if math.isfinite(_rate(run)) else "?",
            label,
            shown(numbers["verdict"]),
            pairs,
            _digits(change["value"]),
            _span(change),
            _digits(numbers["strength"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"positions.npz is damaged ({error})") from error


def _sweep_figure(collection: Collection, site: Site, runs: Sequence[Run]) -> str | None:
    """Its address; drawn again only when its runs change, in their embeddings or in how they are called."""
    shown_ones = positions.choose(runs)
    if not shown_ones:
        return None
    about = [(collection.label(run), _stamp(run.path / positions.POSITIONS)) for run in shown_ones]
    stamp = hashlib.sha256(repr([len(runs), *about]).encode(errors="replace")).hexdigest()

    def draw() -> bytes:
        figure = positions.figure(runs)
        assert figure is not None
        content = io.BytesIO()
        figure.savefig(content, format="png")
        return content.getvalue()

    return site.made("figures/positions.png", stamp, draw)


def _figures(collection: Collection, site: Site, run: Run) -> dict[str, Any]:
    """The run's own figures, as they are."""
    key = collection.key(run)
    images = {}
    for name in FIGURES:
        path = run.path / "figures" / f"{name}.png"
        with contextlib.suppress(UnreadableError):
            if path.is_file():
                images[name] = site.made(f"figures/{key}/{name}.png", _stamp(path), functools.partial(read_image, path))
    return {"key": key, "label": collection.label(run), "images": images}


def _heads(collection: Collection, site: Site) -> list[dict[str, str]]:
    """Runs whose heads' statistics are there, the best first."""
    found = []
    for row in collection.rows:
        key, label = collection.key(row.run), collection.label(row.run)
        try:
            seen = read_statistics(row.run.path)
        except UnreadableError:
            continue  # the gallery says why
        site.data(f"heads-{key}", _statistics(seen))
        found.append({"key": key, "label": label})
    return found


def _statistics(seen: HeadStatistics) -> dict[str, Any]:
    return {
        name: [[rounded(cell, 4) for cell in row] for row in seen.values[:, :, place].tolist()]
        for place, name in enumerate(seen.names)
        if name in STATISTICS
    }


def _charts(site: Site) -> list[Chart]:
    """Filled by the page, with the runs that are chosen on it."""
    depth = chart(
        site,
        "heads-depth",
        [],
        {},
        alt="Mean attention distance of every head by layer, of the chosen runs; the heat maps below have the numbers.",
        height=340,
        title="How far each head looks, by layer (pixels)",
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


def _rate(run: Run) -> float:
    """Infinite where there is none, which comes last."""
    rate = run.config.get("lr")
    return float(rate) if is_number(rate) else math.inf


def _stamp(path: Path) -> str:
    about = path.stat()
    return f"{path.name} {about.st_mtime_ns} {about.st_size}"


def _digits(number: float) -> str:
    return f"{number:.3g}" if abs(number) >= 0.001 or number == 0 else f"{number:.1e}"


def _span(measured: Mapping[str, Any]) -> str:
    return f"{_digits(measured['low'])} to {_digits(measured['high'])}"
