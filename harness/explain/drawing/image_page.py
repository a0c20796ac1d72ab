"""One image and where the class token looked: its layers, its heads, what they add up to. From arrays, no model.

Maps start at 0, and those of the first strip of each kind go up to their own largest value, which is printed; the
second strip has one scale for all its maps. Over the image a map shows what is above its mean. L blocks ("layers"), H
heads, P = g² patches.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from harness.explain.drawing.canvas import (
    INK,
    PALE,
    RIGHT,
    UNKNOWN,
    WARNING,
    WRONG,
    above_mean,
    class_name,
    colour_bar,
    fitted,
    font,
    largest,
    overlay,
    percent,
    tile,
    write,
)
from harness.explain.drawing.page_layout import GAP, MARGIN, Page
from harness.explain.maps import combined_maps, has_own_scale, map_names
from harness.files import disk_is_full, no_space
from harness.runs.attention_files import Archive
from harness.runs.rules import LEGRAD, MEAN_MAP, RELEVANCE, ROLLOUT, temporary_name

QUALITY = 90
TITLES = {  # of the combined maps: over the image, and beside it where there is less room
    RELEVANCE: ("relevance for the prediction", "relevance"),
    LEGRAD: ("LeGrad for the prediction", "LeGrad"),
    MEAN_MAP: ("mean over layers", "layers' mean"),
    ROLLOUT: ("rollout, of any class", "rollout"),
}


def draw_pages(archive: Archive, images: Callable[[int], np.ndarray], folder: Path) -> list[Path]:
    """A page for every image, as JPEG; `images(i)` is what the model saw of image i, uint8 (H, W, 3)."""
    folder.mkdir(parents=True, exist_ok=True)
    page = Page.of(archive)
    background = draw_background(archive, page)
    paths = []
    for index in range(len(archive)):
        path = folder / file_name(archive, index)
        save(draw_page(archive, index, images(index), page, background), path)
        paths.append(path)
    return paths


def file_name(archive: Archive, index: int) -> str:
    """Its number and, for people, what can be part of a file's name of the image's path."""
    words = re.sub(r"[^\w]+", "-", PurePosixPath(str(archive.files[index])).with_suffix("").as_posix()).strip("-")
    return f"{index:05}-{words[-40:].strip('-') or 'picture'}.jpg"


def save(image: Image.Image, path: Path, *, quality: int = QUALITY, subsampling: int = 0) -> None:
    """As JPEG, at full colour resolution unless told otherwise, written beside its name first."""
    beside = temporary_name(path)
    try:
        with beside.open("xb") as file:  # x: never through a symbolic link of this name
            image.save(file, format="JPEG", quality=quality, subsampling=subsampling)
        beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        if disk_is_full(error):
            raise no_space(path) from error
        raise


def draw_page(
    archive: Archive,
    index: int,
    crop: np.ndarray,
    page: Page | None = None,
    background: np.ndarray | None = None,
) -> Image.Image:
    """The page of image `index`."""
    page = page or Page.of(archive)
    pixels = (draw_background(archive, page) if background is None else background).copy()
    combined = combined_maps(archive, index)
    fitted_crop = fitted(crop, 2 * page.side)
    _paste(pixels, page.large[0], fitted_crop)
    for cells, place in zip(combined.values(), page.small, strict=True):
        _paste(pixels, place, tile(cells, page.factor, largest(cells)))
    for cells, place in zip(combined.values(), page.large[1:], strict=False):
        _paste(pixels, place, overlay(fitted_crop, cells))
    for places, maps, shared in _strips(archive, index, page):
        for place, cells in zip(places, maps, strict=True):
            _paste(pixels, place, tile(cells, page.factor, largest(maps if shared else cells)))
    image = Image.fromarray(pixels)
    _write_header(image, archive, index, page)
    _write_scales(image, combined, page)
    _write_notes(image, archive, index, page)
    for number, (places, maps, shared) in enumerate(_strips(archive, index, page)):
        if shared:
            title = (places[0][0], places[0][1] - 8)
            text = f"the same maps on one scale: 0 to {scale_end(maps, percent)}"
            write(image, title, text, 15, anchor="ls", width=page.title_width(number))
        else:
            for (x, y), cells in zip(places, maps, strict=True):
                end = (x + page.side, y + page.side + 4)
                write(image, end, f"0 to {scale_end(cells, percent)}", 12, anchor="ra")
    return image


def _write_scales(image: Image.Image, combined: dict[str, np.ndarray], page: Page) -> None:
    units: list[Callable[[float], str]] = ["{:.3g}".format if has_own_scale(name) else percent for name in combined]
    for cells, unit, (x, y) in zip(combined.values(), units, page.small, strict=True):
        write(image, (x, y + page.side + 4), f"0 to {scale_end(cells, unit)}", 13, width=page.side)
    for cells, unit, (x, y) in zip(combined.values(), units, page.large[1:], strict=False):
        low, high = map(unit, above_mean(cells))
        write(image, (x, y + 2 * page.side + 6), f"{low}, its mean, to {high}", 12, width=2 * page.side)


def scale_end(cells: np.ndarray, unit: Callable[[float], str]) -> str:
    """The upper end of a scale in its unit; says when there are values that it cannot show."""
    return unit(largest(cells)) if np.isfinite(cells).all() else f"{unit(largest(cells))}, grey: not finite"


def draw_background(archive: Archive, page: Page) -> np.ndarray:
    """What is the same on every page: titles, numbers of layers and heads, the colour bar."""
    image = Image.new("RGB", (page.width, page.height), "white")
    over, alone = zip(*(TITLES[name] for name in map_names(archive)), strict=True)
    for (x, y), title in zip(page.large, ("model input", *over), strict=False):
        write(image, (x, y - 6), title, 15, anchor="ls", width=2 * page.side)
    for (x, y), title in zip(page.small, alone, strict=True):
        write(image, (x, y - 6), title, 13, anchor="ls", width=page.side)
    under = "Coloured: above a map's mean"
    write(image, (page.large[0][0], page.large[0][1] + 2 * page.side + 6), under, 12, colour=PALE, width=2 * page.side)
    layer = archive.settings.get("head_layer", archive.layers.shape[1])
    titles = (
        f"Attention of {archive.attending} in each layer, mean over heads; each on its own scale",
        "",
        f"Attention of {archive.attending} by each head of layer {layer}; each on its own scale",
        "",
    )
    for strip, (places, title) in enumerate(zip(page.strips, titles, strict=True)):
        write(image, (places[0][0], places[0][1] - 8), title, 15, anchor="ls", width=page.title_width(strip))
        for number, (x, y) in enumerate(places, start=1):
            write(image, (x, y + page.side + 4), str(number), 13, bold=True)
    pixels = np.array(image)
    x, y = page.notes
    _paste(pixels, (x, y), colour_bar(3 * page.side + 2 * GAP, 12))
    image = Image.fromarray(pixels)
    write(image, (x, y + 14), "0", 12, colour=PALE)
    write(image, (x + 3 * page.side + 2 * GAP, y + 14), "largest value of the map", 12, colour=PALE, anchor="ra")
    return np.array(image)


def verdict(archive: Archive, index: int) -> tuple[str, tuple[int, int, int]]:
    """Whether the prediction is right, in a word and a colour."""
    if archive.labels[index] < 0:
        return "truth unknown", UNKNOWN
    return ("right", RIGHT) if archive.labels[index] == archive.predicted[index] else ("wrong", WRONG)


def _strips(archive: Archive, index: int, page: Page) -> list[tuple[tuple[tuple[int, int], ...], np.ndarray, bool]]:
    """Places, maps (n, P), and whether they share one scale."""
    maps = (archive.layers[index], archive.layers[index], archive.heads[index], archive.heads[index])
    return list(zip(page.strips, maps, (False, True, False, True), strict=True))


def _write_header(image: Image.Image, archive: Archive, index: int, page: Page) -> None:
    room = page.width - 2 * MARGIN
    word, colour = verdict(archive, index)
    write(image, (MARGIN, 12), word, 22, bold=True, colour=colour)
    start = MARGIN + round(font(22, bold=True).getlength(word)) + 24
    predicted, label = int(archive.predicted[index]), int(archive.labels[index])
    names = [f"{percent(archive.probability[index])} predicted: {class_name(archive.classes, predicted)}"]
    if label >= 0:
        names.append(f"{percent(archive.label_probability[index])} truth: {class_name(archive.classes, label)}")
    share = (page.width - MARGIN - start) // 2
    for number, text in enumerate(names):
        write(image, (start + number * share, 14), text, 20, width=share - 24)
    source = f"image {index + 1} of {len(archive)}: {archive.files[index]}"
    write(image, (MARGIN, 44), source, 14, colour=PALE, width=room * 3 // 8 - GAP)
    if archive.misleading[index]:
        taken, patches = percent(archive.outlier_attention[index]), percent(archive.outlier_share[index])
        warning = f"⚠ maps may mislead: in one layer {taken} of the attention is on outliers, {patches} of the patches"
        write(
            image, (page.width - MARGIN, 44), warning, 14, bold=True, colour=WARNING, width=room * 5 // 8, anchor="ra"
        )


def _write_notes(image: Image.Image, archive: Archive, index: int, page: Page) -> None:
    tokens = archive.prefix_tokens + archive.rollout.shape[1]
    share = percent(archive.class_share[index, -1])
    lines = (
        f"uniform attention: {percent(1 / tokens)} per patch",
        f"last layer: entropy {archive.entropy[index, -1]:.2f} of {math.log(tokens):.2f} nats,",
        f"  distance {archive.block_distance[index]:.0f} px, {share} {archive.off_patches}",
    )
    x, y = page.notes
    for number, line in enumerate(lines):
        write(image, (x, y + 34 + 18 * number), line, 13, colour=INK, width=page.width - x - MARGIN)


def _paste(pixels: np.ndarray, place: tuple[int, int], part: np.ndarray) -> None:
    x, y = place
    pixels[y : y + part.shape[0], x : x + part.shape[1]] = part
