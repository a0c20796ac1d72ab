"""The six figures of the study, from the run folders at hand: losses, positions of two runs, layers, heads, all layers.

Each is drawn from the arrays of a run, without its model. A seventh has the filters, positions and attention distances
of the best run, whose checkpoint it needs. P = g² patches.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.data.decode import DecodeError, decode_pil
from harness.errors import HarnessError
from harness.explain.drawing.canvas import SEQUENTIAL, as_grid, class_name, percent
from harness.explain.drawing.vit_figure import vit_figure
from harness.explain.maps import combined_maps
from harness.explain.positions.text import verdict_text
from harness.model.adapter import parts
from harness.runs.attention_files import Archive, PositionArchive, read_archive
from harness.runs.embeddings import cosine
from harness.runs.figures import new_figure
from harness.runs.folder import BEST
from harness.runs.reading import ANOTHER_RUN, UnreadableError, read_object, read_rows, run_folders
from harness.runs.rules import ATTENTION_FILE, COLOURS, POSITIONS_FILE, SPRITES_FILE, finite_number, without_mathtext
from harness.runs.similarity_tiles import draw_cells, mosaic
from harness.runs.sprite_files import REDRAW, read_image, read_sprites
from harness.training.checkpoint import load_best

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEWEST = 1  # finished runs
MARKERS = "os^Dv*P"  # with dashes, they repeat the difference of the colours


@dataclass(frozen=True)
class StudyFigure:
    """A figure, the name of its files, and its caption."""

    name: str
    draw: Callable[[], Figure]
    caption: str


@dataclass(frozen=True)
class FinishedRun:
    path: Path
    config: dict[str, Any]
    f1: float  # best on validation

    @property
    def label(self) -> str:
        lr, batch, augment = (self.config.get(name) for name in ("lr", "batch_size", "augment"))
        rate = f"{lr:g}" if finite_number(lr) is not None else str(lr)
        return f"lr {rate}, batch {batch}, augmentation {augment}"


def study_figures(folder: Path, say: Callable[[str], None] = print) -> Iterator[StudyFigure]:
    """The figures of the finished runs in a folder. Raises HarnessError if there are none, or none with maps.

    `say` gets the reason if the second, which needs two runs, or the seventh, which needs the checkpoint, is not drawn.
    """
    runs = finished_runs(folder)
    if len(runs) < FEWEST:
        raise HarnessError(f"{folder} holds no finished run. Give the folder that contains the run folders.")
    yield StudyFigure(
        "1_loss_curves",
        lambda: loss_curves(runs),
        f"Training loss (lines) and validation loss (markers, each epoch) of {len(runs)} runs on "
        f"{Path(str(runs[0].config.get('data'))).name} with {runs[0].config.get('model')}. Logarithmic axis.",
    )
    with_positions = [run for run in runs if (run.path / "attention" / POSITIONS_FILE).is_file()]
    if len(with_positions) == 1:
        say("The figure 2_positions_worst is not drawn: only one run has position embeddings.")
    for number, which, run in ((2, "worst", with_positions[1:][-1:]), (3, "best", with_positions[:1])):
        for one in run:
            positions = read_archive(one.path / "attention" / POSITIONS_FILE, PositionArchive)
            yield StudyFigure(
                f"{number}_positions_{which}",
                functools.partial(position_figure, positions, one.label),
                f"Cosine similarity of the position embeddings before and after fine-tuning, {which} run on validation "
                f"({one.label}; macro F1 {one.f1:.3f}). Each tile shows one patch's similarity with all patches, after "
                "their mean over patches is subtracted; below, the similarity of class token plus its position with "
                f"the patches. Verdict: {verdict_text(positions.numbers)}.",
            )
    with_maps = [run for run in runs if (run.path / "attention" / "sprites" / SPRITES_FILE).is_file()]
    if not with_maps:
        raise HarnessError(f"No finished run in {folder} has attention maps. Make them with `harness explain RUN`.")
    yield from _map_figures(with_maps[0])
    if (with_maps[0].path / "checkpoints" / BEST).is_file():
        try:
            yield _vit_figure(with_maps[0])
        except HarnessError as error:
            say(f"The figure 7_inside is not drawn: {error}")


def _map_figures(run: FinishedRun) -> Iterator[StudyFigure]:
    """Layers, heads and combined maps of the image that the best run classifies with most confidence."""
    archive = read_archive(run.path / "attention" / ATTENTION_FILE, Archive)
    index, crop = _clearest(run.path, archive)
    predicted = class_name(archive.classes, int(archive.predicted[index]))
    of_image = (
        f"{archive.files[index]}, predicted {predicted} with {percent(archive.probability[index])}, by the best run on "
        f"validation ({run.label}). Each map from 0 to its largest value, over the image."
    )
    whose = f"Attention of {archive.attending}"
    layer = archive.settings.get("head_layer", archive.layers.shape[1])
    layers = {f"layer {number}": cells for number, cells in enumerate(archive.layers[index], start=1)}
    heads = {f"head {number}": cells for number, cells in enumerate(archive.heads[index], start=1)}
    combined = combined_maps(archive, index)
    kinds = "Relevance and LeGrad are for the predicted class; mean and rollout depend on no class"
    for name, maps, caption in (
        ("4_layers", layers, f"{whose} in each layer, mean over heads"),
        ("5_heads", heads, f"{whose} by each head of layer {layer}"),
        ("6_combined", combined, f"Maps that combine all layers: {', '.join(combined)}. {kinds}"),
    ):
        yield StudyFigure(name, functools.partial(map_figure, crop, maps), f"{caption}. {of_image}")


def _vit_figure(run: FinishedRun) -> StudyFigure:
    archive = read_archive(run.path / "attention" / ATTENTION_FILE, Archive)
    vit = parts(load_best(run.path / "checkpoints" / BEST).model)
    projection, positions = vit.patch_projection.weight.detach().numpy(), vit.patch_positions()
    if projection.shape[1] != 3:
        raise HarnessError(f"filters of {projection.shape[1]} channels have no colour; it needs those of 3 (RGB).")
    patches = None if positions is None else positions[0].detach().double().numpy()
    return StudyFigure(
        "7_inside",
        functools.partial(vit_figure, projection, patches, archive),
        f"Inside the best run on validation ({run.label}), as in figure 7 of the ViT paper. Left: the first principal "
        "components of the filters that make patches into tokens, each scaled to its own range. Middle: cosine "
        "similarity of position embeddings; each tile shows that of one patch with all patches, after their mean is "
        f"subtracted. Right: mean attention distance of each head over {len(archive)} images.",
    )


def loss_curves(runs: Sequence[FinishedRun]) -> Figure:
    """Training and validation loss of all runs in one plot."""
    from matplotlib.ticker import LogFormatter

    figure = new_figure(7.2, 4.4, dpi=300)
    axes = figure.subplots()
    for number, run in enumerate(runs):
        rows, _ = read_rows(run.path / "metrics.jsonl")
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        training, validation = (_series(rows, key) for key in ("train/loss", "val/loss"))
        axes.plot(*training, color=colour, linewidth=0.9, alpha=0.6)
        axes.plot(*validation, color=colour, marker=marker, linestyle="--", label=without_mathtext(run.label))
    axes.set(xlabel="epoch", ylabel="cross entropy (nats)", yscale="log")
    for each in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        each(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 1)))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.92")
    axes.legend(fontsize=8, frameon=False)
    return figure


def position_figure(positions: PositionArchive, label: str) -> Figure:
    """Tiles of similarity before and after; below, that of the class token with each patch."""
    figure = new_figure(7.2, 5.2, dpi=300)
    grid = figure.subplots(2, 2, height_ratios=(3, 1))
    both = zip(("before", "after"), positions.patches, positions.class_tokens, strict=True)
    for column, (when, patches, token) in enumerate(both):
        image = draw_cells(grid[0, column], mosaic(patches))
        grid[0, column].set_title(f"{when} fine-tuning", fontsize=10)
        draw_cells(grid[1, column], as_grid(cosine(token, patches)[0]))
    grid[0, 0].set_ylabel("patches", fontsize=9)
    grid[1, 0].set_ylabel("class token", fontsize=9)
    figure.colorbar(image, ax=grid, label="cosine similarity", shrink=0.7, panchor=False)
    figure.suptitle(without_mathtext(label), fontsize=10)
    return figure


def map_figure(crop: np.ndarray, maps: dict[str, np.ndarray]) -> Figure:
    """The image, and maps (P,) over it, each from 0 to its largest value."""
    columns = min(len(maps) + 1, 7)
    rows = -(-(len(maps) + 1) // columns)
    figure = new_figure(1.25 * columns, 1.45 * rows, dpi=300)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    grey = crop.mean(-1)
    for axes in panels:
        axes.set_axis_off()
    _title(panels[0], "model input")
    panels[0].imshow(crop)
    for axes, (name, cells) in zip(panels[1:], maps.items(), strict=False):
        _title(axes, name)
        axes.imshow(grey, cmap="gray", vmin=0, vmax=255)
        extent = (-0.5, crop.shape[1] - 0.5, crop.shape[0] - 0.5, -0.5)
        axes.imshow(as_grid(cells.astype(np.float32)), cmap=SEQUENTIAL, alpha=0.6, vmin=0, extent=extent)
    return figure


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, fontsize=8, pad=2)


def finished_runs(folder: Path) -> list[FinishedRun]:
    """Finished runs, the best on validation first."""
    runs = []
    for path in run_folders(folder):
        try:
            config, summary = (read_object(path / name, ANOTHER_RUN) for name in ("config.json", "summary.json"))
        except FileNotFoundError:
            continue
        f1 = finite_number(summary.get("best/val_f1"))
        if summary.get("state") == "finished" and f1 is not None:
            runs.append(FinishedRun(path, config, f1))
    return sorted(runs, key=lambda run: (-run.f1, run.path))


def _clearest(run_folder: Path, archive: Archive) -> tuple[int, np.ndarray]:
    """The image with a sprite that is classified correctly with the highest probability, and its pixels (S, S, 3)."""
    sprites = read_sprites(run_folder, len(archive))
    right = [index for index in sprites.images if archive.labels[index] == archive.predicted[index]]
    index = max(right or sprites.images, key=lambda each: float(archive.probability[each]))
    place = sprites.images.index(index)
    sheet, cell = divmod(place, sprites.columns * sprites.rows)
    row, column = divmod(cell, sprites.columns)
    path, side = sprites.folder / sprites.sheets[sheet], sprites.side
    try:
        pixels = np.asarray(decode_pil(read_image(path)))
    except DecodeError as error:
        raise UnreadableError(path, f"is damaged ({error.reason})", REDRAW) from error
    return index, pixels[row * side : (row + 1) * side, column * side : (column + 1) * side]


def _series(rows: Sequence[dict[str, Any]], key: str) -> tuple[list[float], list[float]]:
    """Epochs and values of a key, those that a logarithmic axis can show."""
    points = [(finite_number(row.get("epoch")), finite_number(row.get(key))) for row in rows]
    known = [(x, y) for x, y in points if x is not None and y is not None and y > 0]
    return [x for x, _ in known], [y for _, y in known]
