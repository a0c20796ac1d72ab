"""Writes the result of explaining, draws it and logs it to W&B; on the main process only."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.explain import localization
from harness.explain.archive import write_archive
from harness.explain.drawing.sprites import draw_sprites, sprite_names
from harness.explain.drawing.wandb_table import COLUMNS, rows
from harness.explain.images import Crops
from harness.explain.localization import OnObject
from harness.explain.output_folder import OutputFolder
from harness.explain.positions.change import compare
from harness.explain.test_set import ExplainResult
from harness.runs import figures
from harness.runs.attention_files import Archive, PositionArchive, read_archive
from harness.runs.owned_files import OwnedFiles
from harness.runs.rules import ATTENTION_FILE, OBJECT_FILE, POSITIONS_FILE, SPRITES_FILE, SPRITES_FOLDER, duration
from harness.track import Tracker

OBJECT_FIGURE = "attention_object"


def write_and_log(
    result: ExplainResult, place: OutputFolder, tracker: Tracker | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """Write and draw the arrays, log a fixed set of figures and a table to W&B; returns entries of summary.json."""
    start = time.perf_counter()
    folder, owned = place.path, place.open()
    _withdraw(place, owned)
    owned.add([ATTENTION_FILE])
    write_archive(folder / ATTENTION_FILE, result.archive)
    compared = None
    if result.change:
        try:
            compared = compare(result.change)
            owned.add([POSITIONS_FILE])
            write_archive(folder / POSITIONS_FILE, compared)
        except HarnessError as error:
            say(str(error))
    elif (folder / POSITIONS_FILE).is_file():
        compared = read_archive(folder / POSITIONS_FILE, PositionArchive)
    on_object = measure_object(result.archive, Path(result.archive.settings["root"]), owned, say)
    drawn = draw(result.archive, compared, on_object, result.images, place, owned)
    if tracker:
        for name, path in drawn.items():
            tracker.image(name, path)
        table = list(rows(result.archive, result.images))
        if len(table) < len(result.archive):
            say(f"The W&B table has {len(table)} of the {len(result.archive)} images; {folder} has all.")
        tracker.table("attention/pictures", COLUMNS, table)
    seconds = time.perf_counter() - start
    say(f"Drew {len(result.archive)} images in {duration(seconds)}: {folder}")
    numbers = summary(result.archive, compared) | (on_object.summary() if on_object else {})
    return numbers | {"seconds/draw": seconds}


def _withdraw(place: OutputFolder, owned: OwnedFiles) -> None:
    """Remove files that belong to earlier arrays, in case new ones are not written."""
    figure = place.figure_names([OBJECT_FIGURE])
    owned.remove([f"{SPRITES_FOLDER}/{SPRITES_FILE}", OBJECT_FILE, *figure])
    if not figure:  # a figure of the run, which has a fixed name
        place.figure(OBJECT_FIGURE).unlink(missing_ok=True)


def measure_object(arrays: Archive, root: Path, owned: OwnedFiles, say: Callable[[str], None]) -> OnObject | None:
    """Measure the attention on the object, write it to object.json and print it; None without masks in the data."""
    try:
        on_object = localization.on_object(arrays, root)
    except (HarnessError, OSError) as error:  # the pages do not need masks
        say(str(error))
        on_object = None
    if on_object:
        owned.add([OBJECT_FILE])
        localization.write(owned.path(OBJECT_FILE), on_object)
        say(on_object.sentence())
    return on_object


def draw(
    arrays: Archive,
    compared: PositionArchive | None,
    on_object: OnObject | None,
    images: Crops,
    place: OutputFolder,
    owned: OwnedFiles,
) -> dict[str, Path]:
    """Draw everything: pages, contact sheets, sprites and plots. Files of other images are removed.

    Returns those figures that every run has, by their keys in W&B.
    """
    from harness.explain.drawing.contact_sheets import contact_sheets, sheet_names
    from harness.explain.drawing.image_page import draw_pages, file_name
    from harness.explain.drawing.plots import head_plots, object_figure
    from harness.explain.drawing.position_plots import position_plots

    folder = place.path
    written = {
        "pictures": [f"pictures/{file_name(arrays, index)}" for index in range(len(arrays))],
        "sheets": [f"sheets/{name}.jpg" for name in sheet_names(arrays)],
        SPRITES_FOLDER: [f"{SPRITES_FOLDER}/{name}" for name in (*sprite_names(arrays), SPRITES_FILE)],
    }
    # Listed before they are written: after a crash they are still known as ours.
    owned.add(name for names in written.values() for name in names)
    draw_pages(arrays, images, folder / "pictures")
    sheets = contact_sheets(arrays, images, folder / "sheets")
    draw_sprites(arrays, images, folder / SPRITES_FOLDER)
    for subfolder, names in written.items():
        owned.remove_stale(names, subfolder)
    plots = {f"attention_{name}": figure for name, figure in head_plots(arrays).items()}
    if on_object:
        plots[OBJECT_FIGURE] = object_figure(on_object)
    if compared:
        plots |= position_plots(compared)
    owned.add(place.figure_names(list(plots)))
    first = {
        f"attention/{name.removesuffix('_1')}": path
        for name, path in sheets.items()
        if name.endswith("_1") or not re.search(r"_\d+$", name)
    }
    return first | {f"figures/{name}": figures.save(figure, place.figure(name)) for name, figure in plots.items()}


def summary(arrays: Archive, compared: PositionArchive | None) -> dict[str, Any]:
    """Numbers for a run's summary; attention's are of the last layer, distance of the last block."""
    entries: dict[str, Any] = {
        "attention/n": len(arrays),
        "attention/entropy": float(arrays.entropy[:, -1].mean()),
        "attention/distance": float(arrays.block_distance.mean()),
        "attention/misleading": float(arrays.misleading.mean()),
        "seconds/attention": arrays.settings["seconds"],
    }
    if compared:
        numbers = compared.numbers
        entries |= {
            "positions/verdict": numbers["verdict"],
            "positions/locality": numbers["after"]["locality"]["value"],
            "positions/decoding": numbers["after"]["decoding"]["value"],
            "positions/change": numbers["change"]["value"],
            "positions/strength": numbers["strength"],
        }
    return entries
