"""The data of the attention gallery: images once for all runs that share them, maps of each run.

Of one run it writes `data/gallery-<key>.js` (predictions, and the ends of each map's scale) and sheets of maps in three
colour scales (`map_sheets`). Of all runs with the same test images it writes `data/images-<hash>.js` (files, classes,
labels) and sheets of the images. A page loads the data of a run when it is chosen, and a sheet when it comes into view.
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

from harness.runs.attention_files import Attention, read_attention
from harness.runs.attention_maps import Maps, read_maps
from harness.runs.evidence_file import LAST_LAYER, MEAN_OF_LAYERS, read_map_scores
from harness.runs.reading import UnreadableError
from harness.runs.rules import MEAN_MAP, printable
from harness.runs.sprite_files import Sprites, read_image, read_sprites
from reports.collection import Collection
from reports.page import map_sheets
from reports.page.site import Site
from reports.runs import Run
from reports.values import rounded

LAYOUT = 4  # version of the files that are written here: another one, or other colours, draws all of them again
WORST = 4  # of the runs whose images are shown, so many are the worst ones


@dataclass(frozen=True)
class GalleryRun:
    """A run whose images are on the page."""

    key: str
    label: str
    note: str  # what is missing, or ""
    remedy: str  # the command that makes it, or ""


@dataclass(frozen=True)
class Gallery:
    runs: tuple[GalleryRun, ...]  # the best first
    missing: tuple[tuple[str, tuple[str, ...]], ...]  # a reason, and the labels of the runs without maps for it
    left_out: int  # runs with maps beyond the limit


def best_and_worst(runs: Sequence[Run], most: int | None) -> list[Run]:
    """At most so many of the runs, which come best first: the best ones and some of the worst that have finished."""
    if most is None or len(runs) <= most:
        return list(runs)
    finished = [run for run in runs if run.finished]
    if len(finished) < most:
        return [*finished, *(run for run in runs if not run.finished)][:most]
    worst = min(WORST, most // 2)
    return [*finished[: most - worst], *finished[len(finished) - worst :]]


def write_gallery(collection: Collection, site: Site) -> Gallery:
    """Write images and maps of up to `collection.gallery` runs."""
    attention_of: dict[Run, Attention] = {}
    missing: dict[str, list[str]] = {}
    for row in collection.rows:
        try:
            attention_of[row.run] = read_attention(row.run.path)
        except UnreadableError as error:
            missing.setdefault(_reason(row.run, error), []).append(collection.label(row.run))
    chosen = best_and_worst(list(attention_of), collection.gallery)
    written = []
    for run in chosen:
        key = collection.key(run)
        try:
            note, remedy = _write_run(site, key, run, attention_of[run])
            written.append(GalleryRun(key, collection.label(run), note, remedy))
        except UnreadableError as error:
            missing.setdefault(_reason(run, error), []).append(collection.label(run))
    reasons = tuple((reason, tuple(labels)) for reason, labels in missing.items())
    return Gallery(tuple(written), reasons, len(attention_of) - len(chosen))


def _write_run(site: Site, key: str, run: Run, attention: Attention) -> tuple[str, str]:
    """Write all data of one run; returns what is missing, and the command for it. Raises UnreadableError."""
    note, remedy, sprites = "", "", None
    try:
        sprites = read_sprites(run.path, len(attention))
        if len(sprites.images) < len(attention):
            note = f"{len(sprites.images)} of {len(attention)} images are there; the others are shown as maps only"
    except UnreadableError as error:
        note, remedy = f"{error.reason}, maps alone", "harness explain RUN --redraw"
    image_set = _write_images(site, attention, sprites)
    drawing = f"{map_sheets.COLOURS} {map_sheets.LEVELS} {map_sheets.SHARED} {map_sheets.PER_SHEET}"
    stamp = f"{LAYOUT} {drawing} {attention.stamp}"
    scores, tested = _scores(run), run.metric("test/n")  # tested: images, of which some may have no maps
    # Both are computed only if a file has to be drawn.
    maps = functools.cache(lambda: read_maps(attention))
    levels = functools.cache(lambda scale: map_sheets.quantised(maps(), scale))

    def draw(scale: str, first: int) -> bytes:
        return map_sheets.sheet(levels(scale)[first : first + map_sheets.PER_SHEET], maps().side)

    sheets = {
        scale: [
            site.made(f"maps/{key}/{scale}-{number:03}.png", stamp, functools.partial(draw, scale, first))
            for number, first in enumerate(range(0, len(attention), map_sheets.PER_SHEET))
        ]
        for scale in map_sheets.SCALES
    }
    site.made_data(
        f"gallery-{key}",
        f"{stamp} {image_set} {scores} {tested}",
        lambda: _run_data(attention, maps(), levels("own"), image_set, sheets, scores) | {"tested": tested},
    )
    return note, remedy


def _write_images(site: Site, attention: Attention, sprites: Sprites | None) -> str:
    """Write what all runs with these images share; returns the name of its data."""
    value: dict[str, Any] = {
        "files": [printable(file) for file in attention.files],
        "classes": [printable(name) for name in attention.classes],
        "labels": attention.labels.tolist(),
    }
    if sprites:
        folder = hashlib.sha256(f"{LAYOUT} {sprites.layout} {sprites.pixels}".encode()).hexdigest()[:12]
        value["sheets"] = [
            site.made(
                f"images/{folder}/{number:03}.jpg",
                sprites.pixels,
                functools.partial(read_image, sprites.folder / name),
            )
            for number, name in enumerate(sprites.sheets)
        ]
        places = [-1] * len(attention)  # -1: an image without a sprite
        for place, index in enumerate(sprites.images):
            places[index] = place
        per_sheet = sprites.columns * sprites.rows
        counts = [min(per_sheet, len(sprites.images) - first) for first in range(0, len(sprites.images), per_sheet)]
        value |= {
            "places": places,
            "columns": sprites.columns,
            "rows": [math.ceil(count / sprites.columns) for count in counts],
            "perSheet": per_sheet,
        }
    name = "images-" + hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]
    return site.data(name, value)


def _scores(run: Run) -> dict[str, str]:
    """What `harness verify` measured of each map, by its name in evidence.json; the evidence section has problems."""
    try:
        return read_map_scores(run.path)
    except UnreadableError:
        return {}


def _run_data(
    attention: Attention,
    run_maps: Maps,
    levels: np.ndarray,
    image_set: str,
    sheets: dict[str, list[str]],
    scores: dict[str, str],
) -> dict[str, Any]:
    """The data of a run besides its maps; lists are in the order of its images."""
    low, high = run_maps.above_mean
    has_not_finite = (levels == map_sheets.NOT_FINITE).any(axis=(1, 2))
    names_on_page = {MEAN_OF_LAYERS: MEAN_MAP, LAST_LAYER: f"layer {run_maps.layers}"}
    return {
        "images": image_set,
        "side": run_maps.side,
        "maps": [*run_maps.combined, *(f"layer {number}" for number in range(1, run_maps.layers + 1))]
        + [f"head {number}" for number in range(1, run_maps.heads + 1)],
        "layers": run_maps.layers,
        "heads": run_maps.heads,
        "headLayer": attention.settings.get("head_layer") or run_maps.layers,
        "predicted": attention.predicted.tolist(),
        "probability": [rounded(value, 3) for value in attention.probability],
        "truth": [rounded(value, 3) for value in attention.label_probability],
        "outliers": [
            [rounded(share, 3), rounded(taken, 3)] if flagged else 0
            for share, taken, flagged in zip(
                attention.outlier_share, attention.outlier_attention, attention.misleading, strict=True
            )
        ],
        "ends": _rounded(run_maps.largest),
        "above": {"from": _rounded(low), "to": _rounded(high), "sheets": sheets["above"]},
        "notFinite": np.flatnonzero(has_not_finite).tolist(),  # images with values that are not finite
        "scores": {names_on_page.get(name, name): text for name, text in scores.items()},
        "sharedEnd": map_sheets.shared_end(run_maps.side),
        "perSheet": map_sheets.PER_SHEET,
        "own": sheets["own"],
        "shared": sheets["shared"],
    }


def _rounded(values: np.ndarray) -> list[list[float]]:
    return [[rounded(value, 3) for value in row] for row in values]


def _reason(run: Run, error: UnreadableError) -> str:
    return printable(error.reason) if run.finished else f"{printable(run.state)}, no maps yet"
