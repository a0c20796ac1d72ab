"""The test images of runs and all their maps, put where a page finds them: photographs once, maps of each run.

Written for a run: `data/gallery-<key>.js` (predictions, and where each map's scale ends) and sheets of maps on two
scales (`atlas`). For all runs that looked at the same images: `data/pictures-<hash>.js` (files, classes, labels), and
the photographs. A page loads a run's when it is chosen, and sheets when they come into view.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.runs.attention_files import Attention, Maps, read_attention, read_maps
from harness.runs.reading import UnreadableError
from harness.runs.rules import AGGREGATES
from harness.runs.sprite_files import Sprites, read_image, read_sprites
from reports.collection import Collection
from reports.page import map_sheets
from reports.page.site import Site
from reports.runs import Run, shown
from reports.values import rounded

LAYOUT = 1  # of what is written here; another number, or other colours, draw everything anew
LAST = 4  # of the runs whose images are shown, the worst ones


@dataclass(frozen=True)
class Shown:
    """A run whose images the page has."""

    key: str
    label: str
    note: str  # what is missing all the same, or ""
    remedy: str  # the command that brings it, or ""


@dataclass(frozen=True)
class Album:
    runs: tuple[Shown, ...]  # the best first
    without: tuple[tuple[str, tuple[str, ...]], ...]  # why runs are not there, and their labels
    beyond: int  # runs that could be there, had more been asked for


def chosen(candidates: Sequence[Run], most: int | None) -> list[Run]:
    """At most that many of the runs, which come best first: the best, and as the others the worst."""
    if most is None or len(candidates) <= most:
        return list(candidates)
    last = min(LAST, most // 2)
    return [*candidates[: most - last], *candidates[len(candidates) - last :]]


def make_album(collection: Collection, site: Site) -> Album:
    """Write what there is to see of up to `collection.gallery` runs."""
    looked: dict[Run, Attention] = {}
    without: dict[str, list[str]] = {}
    for row in collection.rows:
        try:
            looked[row.run] = read_attention(row.run.path)
        except UnreadableError as error:
            without.setdefault(_reason(row.run, error), []).append(collection.label(row.run))
    there = []
    some = chosen(list(looked), collection.gallery)
    for run in some:
        key = collection.key(run)
        try:
            note, remedy = write(site, key, run, looked[run])
            there.append(Shown(key, collection.label(run), note, remedy))
        except UnreadableError as error:
            without.setdefault(_reason(run, error), []).append(collection.label(run))
    reasons = tuple((reason, tuple(labels)) for reason, labels in without.items())
    return Album(tuple(there), reasons, len(looked) - len(some))


def write(site: Site, key: str, run: Run, attention: Attention) -> tuple[str, str]:
    """Everything of one run; returns what is missing all the same, and the command for it. Raises UnreadableError."""
    note, remedy, sprites = "", "", None
    try:
        sprites = read_sprites(run.path, len(attention))
        if len(sprites.pictures) < len(attention):
            note = f"{len(sprites.pictures)} of {len(attention)} images are there, the others are maps alone"
    except UnreadableError as error:
        note, remedy = f"{error.reason}: maps alone", "harness explain RUN --redraw"
    pictures = _write_pictures(site, attention, sprites)
    drawn_as = f"{map_sheets.COLOURS} {map_sheets.LEVELS} {map_sheets.SHARED} {map_sheets.PER_SHEET}"
    stamp = f"{LAYOUT} {drawn_as} {attention.stamp}"
    read = functools.cache(lambda: read_maps(attention))  # not at all, if nothing has to be drawn
    levels = functools.cache(lambda shared: map_sheets.quantised(read(), shared=shared))

    def draw(shared: bool, first: int) -> bytes:
        return map_sheets.sheet(levels(shared)[first : first + map_sheets.PER_SHEET], read().side)

    sheets = {
        name: [
            site.made(f"maps/{key}/{name}-{number:03}.png", stamp, functools.partial(draw, name == "shared", first))
            for number, first in enumerate(range(0, len(attention), map_sheets.PER_SHEET))
        ]
        for name in ("own", "shared")
    }
    site.made_data(
        f"gallery-{key}", f"{stamp} {pictures}", lambda: _about(attention, read(), levels(False), pictures, sheets)
    )
    return note, remedy


def _write_pictures(site: Site, attention: Attention, sprites: Sprites | None) -> str:
    """What is the same for all runs that looked at these images; returns its name."""
    value: dict[str, Any] = {
        "files": [shown(file) for file in attention.files],
        "classes": [shown(name) for name in attention.classes],
        "labels": attention.labels.tolist(),
    }
    if sprites:
        folder = hashlib.sha256(f"{LAYOUT} {sprites.layout} {sprites.pixels}".encode()).hexdigest()[:12]
        value["sheets"] = [
            site.made(
                f"pictures/{folder}/{number:03}.jpg",
                sprites.pixels,
                functools.partial(read_image, sprites.folder / name),
            )
            for number, name in enumerate(sprites.sheets)
        ]
        places = [-1] * len(attention)
        for place, index in enumerate(sprites.pictures):
            places[index] = place
        per_sheet = sprites.columns * sprites.rows
        counts = [min(per_sheet, len(sprites.pictures) - first) for first in range(0, len(sprites.pictures), per_sheet)]
        value |= {
            "places": places,
            "columns": sprites.columns,
            "rows": [math.ceil(count / sprites.columns) for count in counts],
            "perSheet": per_sheet,
        }
    name = "pictures-" + hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]
    return site.data(name, value)


def _about(attention: Attention, seen: Maps, levels: np.ndarray, pictures: str, sheets: dict[str, list[str]]) -> Any:
    """What the page needs to know of a run's images besides their maps, image by image."""
    blind = (levels == map_sheets.NOT_FINITE).any(-1)
    return {
        "pictures": pictures,
        "side": seen.side,
        "maps": [*AGGREGATES, *(f"layer {number}" for number in range(1, seen.layers + 1))]
        + [f"head {number}" for number in range(1, seen.heads + 1)],
        "layers": seen.layers,
        "heads": seen.heads,
        "headLayer": attention.settings.get("head_layer") or seen.layers,
        "predicted": attention.predicted.tolist(),
        "probability": [rounded(value, 3) for value in attention.probability],
        "truth": [rounded(value, 3) for value in attention.label_probability],
        "outliers": [
            [rounded(share, 3), rounded(taken, 3)] if flagged else 0
            for share, taken, flagged in zip(
                attention.outlier_share, attention.outlier_attention, attention.misleading, strict=True
            )
        ],
        "ends": [[rounded(end, 3) for end in ends] for ends in seen.largest],
        "blind": [index for index, some in enumerate(blind.any(-1)) if some],  # with values that are not finite
        "sharedEnd": map_sheets.shared_end(seen.side),
        "perSheet": map_sheets.PER_SHEET,
        "own": sheets["own"],
        "shared": sheets["shared"],
    }


def _reason(run: Run, error: UnreadableError) -> str:
    return shown(error.reason) if run.finished else f"{shown(run.state)}: not looked yet"
