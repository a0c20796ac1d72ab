"""The position embeddings of the runs of a sweep before and after fine-tuning, by learning rate.

Reads `attention/positions.npz` of run folders. P = g² patches, row by row, D hidden size.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.runs.attention_files import PositionArchive, read_positions
from harness.runs.embeddings import movement
from harness.runs.reading import UnreadableError
from harness.runs.rules import POSITIONS_FILE, printable, without_mathtext
from harness.runs.similarity_tiles import draw_cells, mosaic, tile_step, whole_pixels
from reports.columns import value
from reports.runs import Run
from reports.stats.setting import in_words, varying

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Most rows of the figure.
MOST = 12

POSITIONS = Path("attention") / POSITIONS_FILE

_TILES = 8  # most tiles of a panel in each direction
_PANEL = 240  # pixels of a panel, about
_WORDS, _GAP, _MARGIN, _HEADING, _BAR, _LINE = 290, 24, 24, 74, 76, 20  # pixels
_COLUMNS, _NOTE_COLUMNS = 36, 138  # characters
_DPI = 120
_TINY = 1e-300


def read(run: Run) -> PositionArchive:
    """The position embeddings of a run. Raises FileNotFoundError if it has none, ValueError if they are damaged."""
    path = run.path / POSITIONS
    if not path.is_file():
        raise FileNotFoundError(2, "no position embeddings", str(path))
    try:
        return read_positions(run.path)
    except UnreadableError as error:
        raise ValueError(error.reason) from error


def choose(runs: Sequence[Run], most: int = MOST) -> list[Run]:
    """Up to `most` of the runs that have embeddings and a learning rate, by learning rate, then best/val_f1.

    If there are more: the best run of every learning rate, then every second best, and so on. If there are more
    learning rates than `most`: evenly spaced ones.
    """
    rates: dict[float, list[Run]] = {}
    for run in sorted(runs, key=lambda run: (-(run.metric("best/val_f1") or 0), run.name)):
        if (rate := run.learning_rate) is not None and (run.path / POSITIONS).is_file():
            rates.setdefault(rate, []).append(run)
    ordered = sorted(rates)
    if len(ordered) > most:
        ordered = [ordered[index] for index in np.linspace(0, len(ordered) - 1, most).round().astype(int)]
    by_turns = itertools.chain.from_iterable(itertools.zip_longest(*(rates[rate] for rate in ordered)))
    chosen = set(itertools.islice((run for run in by_turns if run), most))
    return [run for rate in ordered for run in rates[rate] if run in chosen]


def figure(runs: Sequence[Run], most: int = MOST) -> Figure | None:
    """A row for each run, by learning rate: tiles before and after, movement of each patch, numbers and verdict.

    None if no run has embeddings. Of more than `most` runs it shows those that `choose` returns, with a note.
    """
    from matplotlib.figure import Figure

    rows, damaged = [], []
    for run in choose(runs, most):
        try:
            rows.append((run, read(run)))
        except (ValueError, FileNotFoundError) as error:
            damaged.append(f"{printable(run.name)}: {error}.")
    if not rows:
        return None
    names = varying([run for run, _ in rows])
    embeddings = [found.patches for _, found in rows]  # before and after, of each row
    mosaics = [[mosaic(patches, _TILES) for patches in both] for both in embeddings]
    panel = max(whole_pixels(len(both[0]), _PANEL) for both in mosaics)
    notes = [line for note in _notes(runs, rows, damaged, most) for line in textwrap.wrap(note, _NOTE_COLUMNS)]
    left, step = _MARGIN + _WORDS, panel + _GAP
    width = left + 3 * step
    height = _HEADING + len(rows) * step + _BAR + _LINE * len(notes) + _MARGIN
    made = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    for number, (run, found) in enumerate(rows):
        bottom = height - _HEADING - number * step - panel
        panels = [
            made.add_axes(((left + column * step) / width, bottom / height, panel / width, panel / height))
            for column in range(3)
        ]
        moved = movement(*embeddings[number]).reshape(found.side, found.side)
        for axes, tiles in zip(panels, mosaics[number], strict=False):
            image = draw_cells(axes, tiles)
        draw_cells(panels[2], moved, 0, max(float(moved.max()), _TINY))
        panels[2].set_xlabel(f"0 to {_digits(float(moved.max()))}", fontsize=8, labelpad=3)
        if number == 0:
            for axes, title in zip(panels, ("before", "after", "movement of patches"), strict=True):
                axes.set_title(title, fontsize=11, loc="left")
        place = (_MARGIN / width, (bottom + panel) / height)
        made.text(*place, f"learning rate {value(run.learning_rate)}", fontsize=11, fontweight="bold", va="top")
        settings = {name: run.config[name] for name in names if name in run.config and name != "lr"}
        text = "\n".join([*textwrap.wrap(in_words(settings), _COLUMNS, max_lines=3), "", *_numbers(found.numbers)])
        made.text(place[0], place[1] - 24 / height, without_mathtext(text), fontsize=8.5, va="top", linespacing=1.5)
    place = (_MARGIN / width, _MARGIN / height)
    made.text(*place, without_mathtext("\n".join(notes)), fontsize=7.5, va="bottom", linespacing=1.55)
    y = (_MARGIN + _LINE * len(notes) + 40) / height
    bar = made.add_axes((left / width, y, (2 * panel + _GAP) / width, 12 / height))
    made.colorbar(image, cax=bar, orientation="horizontal").ax.tick_params(labelsize=8)
    bar.set_title("cosine similarity, one scale for all tiles", fontsize=8, pad=3, loc="left")
    title = "Position embeddings before and after fine-tuning, by learning rate"
    made.suptitle(title, fontsize=13, x=place[0], y=1 - 14 / height, ha="left")
    return made


def _notes(
    runs: Sequence[Run], rows: Sequence[tuple[Run, PositionArchive]], damaged: Sequence[str], most: int
) -> Iterator[str]:
    """Which runs are shown, what the panels mean, and the rule of the verdicts."""
    having = sum((run.path / POSITIONS).is_file() and run.learning_rate is not None for run in runs)
    if having > most:
        yield (
            f"Shown: {len(rows)} of {having} runs: the best of every learning rate by validation F1, then the second "
            "best, and so on. Of more learning rates than rows, evenly spaced ones are shown."
        )
    if missing := len(runs) - having:
        who = "1 more run has" if missing == 1 else f"{missing} more runs have"
        yield f"{who} no position embedding: unfinished, diverged or not explained."
    yield from damaged
    step = max(tile_step(found.side, _TILES) for _, found in rows)
    every = f" One patch in {step} has a tile in each direction." if step > 1 else ""
    yield (
        "Tiles: cosine similarity of a patch's embedding, minus the mean over patches, with the embedding of every "
        f"patch.{every} Locality: near patches are similar. R²: row and column can be decoded from the embedding. Both "
        "are at most 1. Movement: length of the change over the typical length before; each map has a separate scale."
    )
    yield from (f"Rule: {rule}" for rule in dict.fromkeys(str(found.numbers["rule"]) for _, found in rows))


def _numbers(numbers: Mapping[str, Any]) -> list[str]:
    before, after = numbers["before"], numbers["after"]
    return [
        f"place: {numbers['verdict']}",
        *(
            f"{label} {_digits(before[name]['value'])} → {_digits(after[name]['value'])}"
            for name, label in (("locality", "locality"), ("decoding", "decoded, R²"))
        ),
        f"|ΔP| / |P| {_digits(numbers['change']['value'])}",
        f"strength {_digits(numbers['strength'])} of before",
    ]


def _digits(number: float) -> str:
    return f"{number:.2f}" if 0.1 <= abs(number) < 10 else f"{number:.2g}"
