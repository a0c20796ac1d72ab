"""Many images at once: sorted by how sure and how wrong the model was, by class, and right against wrong.

Maps start at 0, over an image at their mean, and show one square per patch. L blocks ("layers"), P = g² patches, n
images, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from harness.explain.drawing.canvas import (
    DIVERGING,
    PALE,
    SEQUENTIAL,
    WARNING,
    above_mean,
    class_name,
    colour_bar,
    fitted,
    largest,
    overlay,
    percent,
    tile,
    write,
)
from harness.explain.drawing.image_page import save, verdict
from harness.explain.drawing.right_wrong import GAP, HEADER, MARGIN, right_wrong
from harness.explain.maps import comparable_maps, first_map, has_own_scale, map_names
from harness.runs.attention_files import Archive
from harness.runs.rules import MEAN_MAP

COLUMNS, ROWS = 6, 10  # images of a page
CLASS_COLUMNS, CLASS_ROWS = 8, 13  # classes of a page
PAGES = 10  # of one order: what is looked for comes first


def contact_sheets(archive: Archive, images: Callable[[int], np.ndarray], folder: Path) -> dict[str, Path]:
    """JPEG files by name: confidence_1, ..., error_1, ..., class_means_relevance_1, ..., right_wrong.

    `error` and `right_wrong` only where labels are known. `images(i)` is uint8 (H, W, 3).
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, image in _sheets(archive, images):
        paths[name] = folder / f"{name}.jpg"
        save(image, paths[name])
    return paths


def sheet_names(archive: Archive) -> list[str]:
    """The names that `contact_sheets` gives, without drawing."""
    known = int((archive.labels >= 0).sum())
    groups = archive.labels if known else archive.predicted
    counts = {"confidence": (len(archive), COLUMNS * ROWS), "error": (known, COLUMNS * ROWS)}
    for name in _with_class_means(archive):
        counts[f"class_means_{name.lower()}"] = (len(np.unique(groups[groups >= 0])), CLASS_COLUMNS * CLASS_ROWS)
    names = [f"{name}_{page + 1}" for name, (n, size) in counts.items() for page in range(_page_count(n, size))]
    return [*names, "right_wrong"] if known else names


def _sheets(archive: Archive, images: Callable[[int], np.ndarray]) -> Iterator[tuple[str, Image.Image]]:
    known = np.flatnonzero(archive.labels >= 0)
    orders = {"confidence": by_confidence(archive), "error": by_error(archive)}
    titles = {"confidence": "lowest confidence first", "error": "lowest probability of the true class first"}
    for name, order in orders.items():
        for page, part in _pages(order, COLUMNS * ROWS):
            title = f"{titles[name]}: {_extent(page, part, len(order), COLUMNS * ROWS)}"
            yield f"{name}_{page}", contact_sheet(archive, images, part, title)
    for name in _with_class_means(archive):
        yield from class_means(archive, name)
    if len(known):
        yield "right_wrong", right_wrong(archive)


def _with_class_means(archive: Archive) -> list[str]:
    """The maps whose means over classes are drawn."""
    return [name for name in map_names(archive) if name != MEAN_MAP]


def by_confidence(archive: Archive) -> np.ndarray:
    """Indices of all images, from the lowest probability of the prediction to the highest."""
    return np.argsort(np.nan_to_num(archive.probability), kind="stable")


def by_error(archive: Archive) -> np.ndarray:
    """Indices of the images whose label is known, from the highest loss to the lowest."""
    known = np.flatnonzero(archive.labels >= 0)
    return known[np.argsort(np.nan_to_num(archive.label_probability[known]), kind="stable")]


def _pages(order: np.ndarray, size: int) -> Iterator[tuple[int, np.ndarray]]:
    """Number of a page, from 1, and what is on it."""
    for page in range(_page_count(len(order), size)):
        yield page + 1, order[page * size : (page + 1) * size]


def _page_count(n: int, size: int) -> int:
    return min(PAGES, math.ceil(n / size))


def _extent(page: int, part: np.ndarray, total: int, size: int) -> str:
    first = (page - 1) * size + 1
    left_out = f"; the last {total - PAGES * size} are not shown" if total > PAGES * size else ""
    return f"{first} to {first + len(part) - 1} of {total}{left_out}"


def contact_sheet(archive: Archive, images: Callable[[int], np.ndarray], order: np.ndarray, title: str) -> Image.Image:
    """The images `order`, each beside a map over it, with prediction and truth; framed by right or wrong."""
    grid = math.isqrt(archive.rollout.shape[1])
    side = max(1, round(112 / grid)) * grid
    wide, high, frame = 2 * side + 2 * GAP, side + 64, 3
    columns = min(COLUMNS, len(order))
    size = (max(2 * MARGIN + columns * wide, 720), HEADER + math.ceil(len(order) / columns) * high + MARGIN)
    pixels = np.full((size[1], size[0], 3), 255, np.uint8)
    places = [(MARGIN + i % columns * wide, HEADER + i // columns * high) for i in range(len(order))]
    for (x, y), index in zip(places, order, strict=True):
        crop, cells = fitted(images(int(index)), side), first_map(archive, int(index))
        pixels[y - frame : y + side + frame, x - frame : x + 2 * side + frame] = verdict(archive, int(index))[1]
        pixels[y : y + side, x : x + 2 * side] = np.hstack([crop, overlay(crop, cells)])
    image = Image.fromarray(pixels)
    write(image, (MARGIN, 10), title[:1].upper() + title[1:], 18, bold=True, width=size[0] - 2 * MARGIN)
    name = map_names(archive)[0]
    legend = f"Right: {name} above its mean, up to its largest value; both are printed. ⚠ maps may mislead."
    write(image, (MARGIN, 36), legend, 13, colour=PALE, width=size[0] - 2 * MARGIN)
    for (x, y), index in zip(places, order, strict=True):
        _write_below(image, (x, y + side + 5), archive, int(index), 2 * side)
    return image


def _write_below(image: Image.Image, place: tuple[int, int], archive: Archive, index: int, width: int) -> None:
    (x, y), label = place, int(archive.labels[index])
    word, colour = verdict(archive, index)
    predicted = f"{percent(archive.probability[index])} {class_name(archive.classes, int(archive.predicted[index]))}"
    write(image, (x, y), predicted, 13, bold=True, colour=colour, width=width)
    known = f"{percent(archive.label_probability[index])} truth: {class_name(archive.classes, label)}"
    write(image, (x, y + 17), known if word == "wrong" else word, 12, width=width)
    unit: Callable[[float], str] = "{:.2g}".format if has_own_scale(map_names(archive)[0]) else percent
    scale = " to ".join(map(unit, above_mean(first_map(archive, index))))
    mark = "⚠ " if archive.misleading[index] else ""
    write(image, (x, y + 34), f"image {index + 1}", 12, colour=PALE)
    write(image, (x + width, y + 34), mark + scale, 12, colour=WARNING if mark else PALE, anchor="ra")


def class_means(archive: Archive, name: str) -> Iterator[tuple[str, Image.Image]]:
    """The mean map of each class that has images, and how it differs from the mean over all these classes."""
    groups, kind = (archive.labels, "true") if (archive.labels >= 0).any() else (archive.predicted, "predicted")
    maps = comparable_maps(archive)[name]
    present = np.unique(groups[groups >= 0])
    means = np.stack([maps[groups == group].mean(0) for group in present])
    differences = means - means.mean(0)
    most = float(np.nanquantile(np.abs(differences), 0.99)) if np.isfinite(differences).any() else 0.0
    size = CLASS_COLUMNS * CLASS_ROWS
    for page, part in _pages(np.arange(len(present)), size):
        title = f"Mean {name} of the {kind} classes: {_extent(page, part, len(present), size)}"
        texts = [(class_name(archive.classes, present[i]), int((groups == present[i]).sum())) for i in part]
        yield f"class_means_{name.lower()}_{page}", _class_page(means[part], differences[part], texts, most, title)


def _class_page(
    means: np.ndarray, differences: np.ndarray, texts: list[tuple[str, int]], most: float, title: str
) -> Image.Image:
    grid = math.isqrt(means.shape[1])
    factor = max(1, round(84 / grid))
    side = factor * grid
    wide, high, top = 2 * side + 2 + GAP, side + 46, HEADER + 28
    columns = min(CLASS_COLUMNS, len(means))
    size = (max(2 * MARGIN + columns * wide, 960), top + math.ceil(len(means) / columns) * high + MARGIN)
    pixels = np.full((size[1], size[0], 3), 255, np.uint8)
    places = [(MARGIN + i % columns * wide, top + i // columns * high) for i in range(len(means))]
    for (x, y), mean, difference in zip(places, means, differences, strict=True):
        pixels[y : y + side, x : x + side] = tile(mean, factor, largest(mean))
        x += side + 2
        pixels[y : y + side, x : x + side] = tile(difference, factor, most, -most, DIVERGING)
    for x, table in ((MARGIN, SEQUENTIAL), (size[0] // 2, DIVERGING)):
        pixels[40:52, x : x + 120] = colour_bar(120, 12, table)
    image = Image.fromarray(pixels)
    write(image, (MARGIN, 10), title, 18, bold=True, width=size[0] - 2 * MARGIN)
    scales = (
        "mean; from 0 to its largest value, printed below",
        f"minus the mean over classes, ± {percent(most)} and beyond",
    )
    for x, scale in zip((MARGIN, size[0] // 2), scales, strict=True):
        write(image, (x + 128, 38), scale, 13, width=size[0] // 2 - 136 - MARGIN)
    words = "n: number of images. With few images, differences are mostly chance."
    write(image, (MARGIN, 64), words, 13, colour=PALE, width=size[0] - 2 * MARGIN)
    for (x, y), (name, count), mean in zip(places, texts, means, strict=True):
        write(image, (x, y + side + 3), name, 12, width=2 * side)
        write(image, (x, y + side + 19), f"0 to {percent(largest(mean))}", 12, colour=PALE)
        write(image, (x + 2 * side, y + side + 19), f"n = {count}", 12, colour=PALE, anchor="ra")
    return image
