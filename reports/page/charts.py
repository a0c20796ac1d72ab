"""Charts of the page as Plotly figures; charts.js fills in the colours of the light or dark theme.

A colour `var(--name)` is the one of that name in colours.css.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.runs.rules import printable
from reports import columns
from reports.page.site import Site
from reports.values import is_number

# From low to high: one hue of changing lightness, so that it is readable without colour vision.
RAMP = ((0.0, "var(--ramp-low)"), (0.5, "var(--ramp-middle)"), (1.0, "var(--ramp-high)"))

# The same for lines: they are thin, so the low end is stronger.
LINES = ((0.0, "var(--ramp-faint)"), *RAMP[1:])

# Colours for runs in colours.css: --run-1 to --run-7 (Okabe and Ito, adapted).
RUN_COLOURS = 7

# Settings that come first in charts, if they vary.
AXES = ("lr", "batch_size", "augment")

# A numeric setting gets a logarithmic axis if its largest value is at least so many times the smallest.
LOGARITHMIC_FROM = 20


@dataclass(frozen=True)
class Chart:
    name: str  # of its file in data/
    alt: str  # what it shows, for screen readers
    height: int  # px
    width: int | None = None  # the largest, px
    title: str = ""


def chart(
    site: Site,
    name: str,
    traces: Sequence[Mapping[str, Any]],
    layout: Mapping[str, Any],
    *,
    alt: str,
    height: int = 300,
    width: int | None = None,
    title: str = "",
) -> Chart:
    site.data(name, {"data": traces, "layout": layout})
    return Chart(name, alt, height, width, title)


@dataclass(frozen=True)
class Scale:
    """Positions of the values of one setting on an axis: the numbers, their logarithms, or category numbers."""

    kind: str  # linear, log or categories
    places: tuple[float, ...]  # a position per value
    ticks: Mapping[float, str]  # position -> text

    @classmethod
    def of(cls, values: Sequence[Any], *, most_ticks: int = 8) -> Scale:
        texts = columns.spelled(values)
        if all(map(is_number, values)):
            is_log = min(values) > 0 and max(values) / min(values) >= LOGARITHMIC_FROM
            places = tuple(math.log10(value) if is_log else float(value) for value in values)
            ticks = dict(sorted(zip(places, texts, strict=True)))
            if len(ticks) > most_ticks:
                ticks = dict(_round_ticks(min(places), max(places), is_log))
            return cls("log" if is_log else "linear", places, ticks)
        levels = sorted(set(texts))
        return cls(
            "categories", tuple(float(levels.index(text)) for text in texts), dict(enumerate(map(shortened, levels)))
        )


def escaped(value: object) -> str:
    """Text from a run, escaped for Plotly, which reads tags and entities."""
    return printable(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def by_axes(names: Iterable[str]) -> list[str]:
    """Names of settings, those in AXES first."""
    return sorted(names, key=lambda name: AXES.index(name) if name in AXES else len(AXES))


def shortened(text: str) -> str:
    """A text that fits on an axis: shortened to 18 characters."""
    return text if len(text) <= 18 else f"{text[:17]}…"


def _round_ticks(low: float, high: float, is_log: bool) -> list[tuple[float, str]]:
    if is_log:
        places = [float(power) for power in range(math.ceil(low - 0.05), math.floor(high + 0.05) + 1)]
        return [(place, f"{10**place:g}") for place in places]
    step = 10 ** math.floor(math.log10((high - low) / 2))
    step *= 2 if (high - low) / step > 6 else 1
    first = math.ceil(low / step)
    return [(number * step, f"{number * step:g}") for number in range(first, math.floor(high / step) + 1)]
