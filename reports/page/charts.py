"""Charts of the page, as specifications for Plotly; what they look like in light and dark is decided in the browser.

Colours that depend on the theme are given as `var(--name)`, a colour of report.css.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports import columns
from reports.page.site import Site
from reports.runs import shown
from reports.values import is_number

# From low to high; one hue, so that it reads without colour, and darker or lighter with the theme.
RAMP = ((0.0, "var(--ramp-low)"), (0.5, "var(--ramp-middle)"), (1.0, "var(--ramp-high)"))

# The same for lines, which are thin and must not vanish at its low end.
LINES = ((0.0, "var(--ramp-faint)"), *RAMP[1:])

# Okabe and Ito's colours, as far as they can be told from paper and ink: --run-1 to --run-7.
RUN_COLOURS = 7

# What charts of settings begin with, where these vary.
AXES = ("lr", "batch_size", "augment")

# A numeric setting whose values span more than this factor is drawn on a logarithmic axis.
LOGARITHMIC_FROM = 20


@dataclass(frozen=True)
class Chart:
    name: str  # of its data
    alt: str  # what it shows, for those who do not see it
    height: int  # px
    width: int | None = None  # px at most
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
    """Where the values of one setting stand on an axis: as numbers, their logarithms, or one place for each."""

    kind: str  # linear, log or categories
    places: tuple[float, ...]  # of the values, in their order
    ticks: Mapping[float, str]  # place -> text

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
            "categories", tuple(float(levels.index(text)) for text in texts), dict(enumerate(map(short, levels)))
        )


def text(value: object) -> str:
    """Text from a file or a path for a place where Plotly reads tags and entities."""
    return shown(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def words(name: str) -> str:
    """The name of a setting where people read."""
    return shown(name).replace("_", " ")


def short(text: str, most: int = 18) -> str:
    """The beginning of a value that would take too much room on an axis."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _round_ticks(low: float, high: float, is_log: bool) -> list[tuple[float, str]]:
    if is_log:
        places = [float(power) for power in range(math.ceil(low - 0.05), math.floor(high + 0.05) + 1)]
        return [(place, f"{10**place:.0e}") for place in places]
    step = 10 ** math.floor(math.log10((high - low) / 2))
    step *= 2 if (high - low) / step > 6 else 1
    first = math.ceil(low / step)
    return [(number * step, f"{number * step:g}") for number in range(first, math.floor(high / step) + 1)]
