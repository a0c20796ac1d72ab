"""Figures of one run: loss and score curves; how figures are made and saved.

Made without pyplot, which keeps every figure in memory until it is closed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.files import replacing, write_atomically
from harness.runs.rules import BLUE, GREEN, ORANGE, best_epoch, finite_number, without_mathtext

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_RED = "#CC0000"

_LONGEST_TITLE = 110  # letters that fit over a loss curve; names of the runs of a sweep list what it varies

# A cross entropy (nats) above this comes from diverged weights; on a linear axis all other values would look flat.
_LOSS_OF_A_DIVERGED_RUN = 30.0


def loss_curve(rows: Sequence[Mapping[str, Any]], *, title: str = "", best_epoch_number: int | None = None) -> Figure:
    """Loss by optimiser step and validation scores by epoch, from the rows of metrics.jsonl.

    Marks `best_epoch_number`; without it, the best epoch by `rules.best_epoch`.
    """
    figure = new_figure(12, 4.5, dpi=150)
    losses, scores = figure.subplots(1, 2, width_ratios=(3, 2))
    epochs = [row for row in rows if "val/loss" in row or "val/f1" in row]
    best = _best(epochs, best_epoch_number)
    _draw_losses(losses, rows, epochs, best)
    _draw_scores(scores, epochs, best)
    if title:
        figure.suptitle(plain(title, longest=_LONGEST_TITLE))
    return figure


def new_figure(width: float, height: float, title: str = "", *, dpi: int = 120) -> Figure:
    """An empty figure of so many inches, without pyplot: one that is dropped is freed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def tidy(axes: Axes) -> None:
    """Pale lines to read values by, below what is drawn, and no frame above and to the right."""
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG at its own resolution, whole or not at all."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    # `savefig` would draw a figure with a layout twice, and store an opaque figure with an alpha channel.
    canvas = FigureCanvasAgg(figure)
    with rc_context({"text.hinting": "no_hinting"}):  # evenly spaced letters, in four fifths of the time
        canvas.draw()
    with replacing(path) as beside:
        pixels = Image.frombytes("RGB", canvas.get_width_height(), canvas.buffer_rgba(), "raw", "RGBX")
        # A level of 6, the default, takes a third more time for a file that is a seventh smaller.
        pixels.save(beside, format="png", dpi=(figure.dpi, figure.dpi), compress_level=3)
    return path


PRINT_FORMATS = (".png", ".pdf", ".svg", ".txt")


def save_for_print(figure: Figure, stem: Path, caption: str) -> list[Path]:
    """Write a figure as PNG, PDF and SVG, and its caption as text beside them; `stem` is the path without a suffix."""
    import matplotlib

    png, pdf, svg, text = paths = [stem.with_suffix(suffix) for suffix in PRINT_FORMATS]
    save(figure, png)
    # Text stays text, which journals ask for. Without a date and with fixed ids, the same figure is the same file.
    settings: Any = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": stem.name}
    with matplotlib.rc_context(settings):
        for path, date in ((pdf, "CreationDate"), (svg, "Date")):
            with replacing(path) as beside:
                figure.savefig(beside, format=path.suffix[1:], metadata={date: None})
    write_atomically(text, (caption + "\n").encode())
    return paths


def _draw_losses(axes: Axes, rows: Sequence[Mapping[str, Any]], epochs: Sequence[Mapping[str, Any]], best: Any) -> None:
    for row in epochs:
        axes.axvline(row["step"], color="0.88", linewidth=0.8, zorder=0)
    steps, values = _series(rows, "train/loss")
    window = len(values) // 50
    if window >= 3:
        axes.plot(steps, values, color=BLUE, alpha=0.25, linewidth=0.8)
        smooth = np.convolve(values, np.full(window, 1 / window), mode="valid")
        middle = (window - 1) // 2
        axes.plot(steps[middle : middle + len(smooth)], smooth, color=BLUE, label=f"training (mean of {window} rows)")
    elif values:
        axes.plot(steps, values, color=BLUE, label="training", marker="o" if len(values) < 3 else None, markersize=4)
    steps, values = _series(epochs, "val/loss")
    if values:
        axes.plot(steps, values, color=ORANGE, marker="o", markersize=4, label="validation")
    if best is not None and finite_number(best.get("val/loss")) is not None:
        label = f"best epoch: {best['epoch']:g}"
        axes.plot(best["step"], best["val/loss"], "*", color=ORANGE, markersize=14, markeredgecolor="k", label=label)
    broken = [
        row["step"]
        for row in rows
        for key in ("train/loss", "val/loss")
        if key in row and finite_number(row[key]) is None
    ]
    if broken:
        axes.axvline(broken[0], color=_RED, linestyle="--", label=f"not finite from step {broken[0]}")
    drawn = [value for key in ("train/loss", "val/loss") for value in _series(rows, key)[1]]
    if drawn and max(drawn) > _LOSS_OF_A_DIVERGED_RUN and min(drawn) > 0:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set(title="Loss", xlabel="optimiser step (a grey line ends each epoch)", ylabel="cross entropy (nats)")
    _legend(axes)


def _draw_scores(axes: Axes, epochs: Sequence[Mapping[str, Any]], best: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    lowest = 1.0 if epochs else 0.0
    for key, label, colour, marker in (("val/f1", "macro F1", BLUE, "o"), ("val/accuracy", "accuracy", GREEN, "s")):
        where, values = _series(epochs, key, by="epoch")
        if values:
            axes.plot(where, values, color=colour, marker=marker, markersize=4, label=label)
            lowest = min(lowest, *values)
    if best is not None and finite_number(best.get("val/f1")) is not None:
        label = f"best: F1 {best['val/f1']:.4f} in epoch {best['epoch']:g}"
        axes.plot(best["epoch"], best["val/f1"], "*", color=BLUE, markersize=14, markeredgecolor="k", label=label)
    # From 0, unless all scores are high: then from the tenth below them, so that 0.97 and 0.98 differ visibly.
    bottom = max(0.0, math.floor(lowest * 10 - 0.5) / 10) if lowest >= 0.5 else 0.0
    margin = 0.03 * (1 - bottom)
    axes.set(title="Validation scores", xlabel="epoch", ylabel="score (0 to 1)", ylim=(bottom - margin, 1 + margin))
    last = max((row["epoch"] for row in epochs if "epoch" in row), default=1)
    axes.set_xlim(0.5, last + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y", color="0.9")
    _legend(axes)


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
    else:
        axes.text(0.5, 0.5, "nothing logged", ha="center", va="center", color="0.5", transform=axes.transAxes)


def _series(rows: Sequence[Mapping[str, Any]], key: str, by: str = "step") -> tuple[list[float], list[float]]:
    pairs = [(row[by], value) for row in rows if by in row and (value := finite_number(row.get(key))) is not None]
    return [where for where, _ in pairs], [value for _, value in pairs]


def _best(epochs: Sequence[Mapping[str, Any]], number: int | None) -> Mapping[str, Any] | None:
    """The row of an epoch, by default of the best one."""
    if number is None:
        return best_epoch(epochs)
    return next((row for row in epochs if row.get("epoch") == number and "step" in row), None)


def plain(text: str, longest: int = 28) -> str:
    """A name for matplotlib: shortened, without control characters and mathtext."""
    short = text if len(text) <= longest else text[: longest - 1] + "…"
    return without_mathtext("".join(letter if letter.isprintable() else "�" for letter in short))
