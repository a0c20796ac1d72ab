"""What was seen of a model, written down, drawn, and sent to W&B; by the main process alone."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.explain import archive, localization
from harness.explain.archive import Archive, PositionArchive
from harness.explain.drawing.sprites import draw_sprites, sprite_names
from harness.explain.drawing.wandb_table import COLUMNS, rows
from harness.explain.images import Crops
from harness.explain.localization import OnObject
from harness.explain.output_folder import OutputFolder
from harness.explain.positions.change import compare
from harness.explain.test_set import ExplainResult
from harness.runs import figures
from harness.runs.owned_files import OwnedFiles
from harness.runs.rules import ATTENTION_FILE, OBJECT_FILE, POSITIONS_FILE, SPRITES_FILE, SPRITES_FOLDER, duration
from harness.track import Tracker

# In `<run>/attention/`.
ARRAYS, POSITIONS, OBJECT, SPRITES = ATTENTION_FILE, POSITIONS_FILE, OBJECT_FILE, SPRITES_FOLDER
OBJECT_FIGURE = "attention_object"


def write_and_log(
    sight: ExplainResult, place: OutputFolder, tracker: Tracker | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """Write the arrays, draw them, send a fixed set of figures and a table to W&B; returns what a summary keeps."""
    start = time.perf_counter()
    folder, owned = place.path, place.open()
    _withdraw(place, owned)
    owned.add([ARRAYS])
    archive.write(folder / ARRAYS, sight.archive)
    compared = None
    if sight.change:
        try:
            compared = compare(sight.change)
            owned.add([POSITIONS])
            archive.write(folder / POSITIONS, compared)
        except HarnessError as error:
            say(str(error))
    elif (folder / POSITIONS).is_file():
        compared = archive.read(folder / POSITIONS, PositionArchive)
    found = measure_object(sight.archive, Path(sight.archive.settings["root"]), owned, say)
    drawn = draw(sight.archive, compared, found, sight.pictures, place, owned)
    if tracker:
        for name, path in drawn.items():
            tracker.image(name, path)
        table = list(rows(sight.archive, sight.pictures))
        if len(table) < len(sight.archive):
            say(f"W&B gets a table of {len(table)} of the {len(sight.archive)} images; {folder} has all.")
        tracker.table("attention/pictures", COLUMNS, table)
    seconds = time.perf_counter() - start
    say(f"Drew {len(sight.archive)} images in {duration(seconds)}: {folder}")
    numbers = summary(sight.archive, compared) | (found.summary() if found else {})
    return numbers | {"seconds/draw": seconds}


def _withdraw(place: OutputFolder, owned: OwnedFiles) -> None:
    """Remove files that belong to earlier arrays, in case new ones are not written."""
    figure = place.figure_names([OBJECT_FIGURE])
    owned.remove([f"{SPRITES}/{SPRITES_FILE}", OBJECT, *figure])
    if not figure:  # a figure of the run, which has a fixed name
        place.figure(OBJECT_FIGURE).unlink(missing_ok=True)


def measure_object(seen: Archive, root: Path, owned: OwnedFiles, say: Callable[[str], None]) -> OnObject | None:
    """How much attention is on the object, written and said; None, and no word, without masks beside the data."""
    try:
        found = localization.on_object(seen, root)
    except (HarnessError, OSError) as error:  # images can be drawn all the same
        say(str(error))
        found = None
    if found:
        owned.add([OBJECT])
        localization.write(owned.path(OBJECT), found)
        say(found.sentence())
    return found


def draw(
    seen: Archive,
    compared: PositionArchive | None,
    found: OnObject | None,
    pictures: Crops,
    place: OutputFolder,
    owned: OwnedFiles,
) -> dict[str, Path]:
    """Draw everything: pages, contact sheets, sprites and plots. Files of other images are removed.

    Returns those figures that every run has, by their keys in W&B.
    """
    from harness.explain.drawing.contact_sheets import contact_sheets, sheet_names
    from harness.explain.drawing.image_page import draw_pictures, file_name
    from harness.explain.drawing.plots import head_plots, object_figure, position_plots

    folder = place.path
    written = {
        "pictures": [f"pictures/{file_name(seen, index)}" for index in range(len(seen))],
        "sheets": [f"sheets/{name}.jpg" for name in sheet_names(seen)],
        SPRITES: [f"{SPRITES}/{name}" for name in (*sprite_names(seen), SPRITES_FILE)],
    }
    # Listed before they are written: after a crash they are still known as ours.
    owned.add(name for names in written.values() for name in names)
    draw_pictures(seen, pictures, folder / "pictures")
    sheets = contact_sheets(seen, pictures, folder / "sheets")
    draw_sprites(seen, pictures, folder / SPRITES)
    for subfolder, names in written.items():
        owned.remove_stale(names, subfolder)
    plots = {f"attention_{name}": figure for name, figure in head_plots(seen).items()}
    if found:
        plots[OBJECT_FIGURE] = object_figure(found)
    if compared:
        plots |= position_plots(compared)
    owned.add(place.figure_names(list(plots)))
    first = {
        f"attention/{name.removesuffix('_1')}": path
        for name, path in sheets.items()
        if name.endswith("_1") or not re.search(r"_\d+$", name)
    }
    return first | {f"figures/{name}": figures.save(figure, place.figure(name)) for name, figure in plots.items()}


def summary(seen: Archive, compared: PositionArchive | None) -> dict[str, Any]:
    """Numbers for a run's summary; attention's are of the last layer."""
    found: dict[str, Any] = {
        "attention/n": len(seen),
        "attention/entropy": float(seen.entropy[:, -1].mean()),
        "attention/distance": float(seen.distance[:, -1].mean()),
        "attention/misleading": float(seen.misleading.mean()),
        "seconds/attention": seen.settings["seconds"],
    }
    if compared:
        numbers = compared.numbers
        found |= {
            "positions/verdict": numbers["verdict"],
            "positions/locality": numbers["after"]["locality"]["value"],
            "positions/decoding": numbers["after"]["decoding"]["value"],
            "positions/change": numbers["change"]["value"],
            "positions/strength": numbers["strength"],
        }
    return found
