"""Two maps of the same image: before and after fine-tuning, and of a mistake for the prediction and for the truth.

How alike the two are is measured by rank correlation, beside that with another image. Shapes: n images, P patches.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from harness.errors import HarnessError
from harness.evidence.opened import Opened
from harness.evidence.randomisation import rank_correlation
from harness.evidence.subject import Subject
from harness.explain.attention.capture import capture_rows
from harness.explain.attention.relevance import relevance
from harness.explain.drawing.canvas import SEQUENTIAL, as_grid, percent
from harness.explain.images import Crops, evenly_spaced, of_cache
from harness.model.adapter import parts
from harness.predict import initial_model
from harness.runs.attention_files import Archive
from harness.runs.figures import new_figure
from harness.runs.resampling import Interval, mean_intervals
from harness.runs.rules import without_mathtext

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 6  # images of a figure
LETTERS_PER_INCH = 11  # at 10 points
FEWEST = 2  # images, so that there is another one


@dataclass(frozen=True)
class Pairs:
    """How alike two maps of an image are, as means over images."""

    n: int
    same_image: Interval  # rank correlation of the two maps
    other_image: Interval  # of the first with the second of another image


@dataclass(frozen=True, eq=False)
class PairedMaps:
    """The maps behind `Pairs`, for figures."""

    rows: np.ndarray  # (n,) which of the test images
    first: np.ndarray  # (n, P)
    second: np.ndarray  # (n, P)

    def measured(self) -> Pairs:
        columns = [rank_correlation(self.first, other) for other in (self.second, np.roll(self.second, -1, axis=0))]
        return Pairs(len(self.rows), *mean_intervals(np.column_stack(columns)))


def of_mistakes(subject: Subject, for_prediction: np.ndarray) -> PairedMaps | None:
    """Relevance (n, P) of wrong images for the prediction and for the truth; None if there are fewer than FEWEST."""
    wrong = np.flatnonzero(subject.labels != subject.predicted)
    if len(wrong) < FEWEST:
        return None
    maps = []
    for rows, images in subject.with_rows():
        mistaken = np.isin(rows, wrong)
        if mistaken.any():
            labels = torch.from_numpy(subject.labels[rows[mistaken]]).to(images.device)
            chosen = torch.from_numpy(mistaken).to(images.device)
            maps.append(relevance(subject.model, images[chosen], labels).double().cpu().numpy())
    return PairedMaps(wrong, for_prediction[wrong], np.concatenate(maps))


@torch.no_grad()
def last_block(model: nn.Module, subject: Subject) -> np.ndarray:
    """Attention (n, P) of the last block of another model on the same images, mean over heads."""
    prefix, maps = parts(model).layout.prefix, []
    with capture_rows(model) as latest:
        for images in subject.batches():
            model(images)
            maps.append(latest()[:, -1, :, prefix:].mean(1).double().cpu().numpy())
    return np.concatenate(maps)


def of_last_block(archive: Archive, model: nn.Module) -> np.ndarray:
    """The same (n, P) from an archive, whose last layer may be attention that pools the tokens after the blocks."""
    return archive.layers[:, len(parts(model).blocks) - 1].astype(np.float64)


def pairs_figure(
    maps: PairedMaps, names: tuple[str, str], title: str, images: Crops, captions: Sequence[str]
) -> Figure:
    """Some of the images, evenly spaced, with both maps over each, from 0 to the map's largest value."""
    measured, places = maps.measured(), evenly_spaced(len(maps.rows), SHOWN)
    width = 1.9 * len(places) + 0.6  # inches
    figure = new_figure(width, 6.6)
    panels = figure.subplots(3, len(places), squeeze=False)
    for column, place in enumerate(places):
        row = int(maps.rows[place])
        crop = images(row)
        grey, extent = crop.mean(-1), (-0.5, crop.shape[1] - 0.5, crop.shape[0] - 0.5, -0.5)
        panels[0, column].imshow(crop)
        panels[0, column].set_title(without_mathtext(captions[row]), fontsize=7)
        for axes, cells in zip(panels[1:, column], (maps.first[place], maps.second[place]), strict=True):
            axes.imshow(grey, cmap="gray", vmin=0, vmax=255)
            axes.imshow(as_grid(cells.astype(np.float32)), cmap=SEQUENTIAL, alpha=0.6, vmin=0, extent=extent)
            axes.set_xlabel(f"0 to {cells.max():.2g}", fontsize=7)
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[])
    for axes, name in zip(panels[:, 0], ("model input", *names), strict=True):
        axes.set_ylabel(name, fontsize=9)
    same, other = measured.same_image, measured.other_image
    correlation = (
        f"rank correlation of the two maps {same.value:.2f} ({same.low:.2f} to {same.high:.2f}), with another image "
        f"{other.value:.2f}"
    )
    varies = np.isfinite([same.value, other.value]).all()
    lines = (f"{title}: {measured.n} test images", correlation if varies else "a map is the same everywhere")
    wrapped = [part for line in lines for part in textwrap.wrap(line, round(LETTERS_PER_INCH * width))]
    figure.suptitle("\n".join(wrapped), fontsize=10)
    return figure


def prediction_captions(classes: Sequence[str], subject: Subject, probability: np.ndarray) -> list[str]:
    """What each image was taken for, in two or three short lines."""
    captions = []
    for label, predicted, share in zip(subject.labels, subject.predicted, probability, strict=True):
        lines = [f"{percent(share)} {classes[predicted][:18]}"]
        captions.append("\n".join([*lines, f"truth: {classes[label][:18]}"] if label != predicted else lines))
    return captions


def pairs_with_figures(
    run_folder: Path, opened: Opened, archive: Archive, subject: Subject, say: Callable[[str], None]
) -> dict[str, tuple[PairedMaps, Figure]]:
    """Attention of the last block before and after fine-tuning, and relevance of mistakes for prediction and truth."""
    best = opened.best
    images = of_cache(opened.dataset.pixels, opened.tested.positions, best.preprocessing.crop_size)
    captions = prediction_captions(best.classes, subject, archive.probability)
    found = {}
    try:
        before = last_block(initial_model(best, run_folder).to(opened.processes.device), subject)
        after = of_last_block(archive, best.model)
        paired = PairedMaps(np.arange(len(subject)), before, after)
        title = "Attention of the last block before and after fine-tuning"
        found["before_after"] = paired, pairs_figure(paired, ("before", "after"), title, images, captions)
    except HarnessError as error:
        say(f"Attention is not compared with that before fine-tuning: {error}")
    if mistakes := of_mistakes(subject, archive.relevance.astype(np.float64)):
        names = ("for the prediction", "for the truth")
        figure = pairs_figure(mistakes, names, "Relevance of mistakes", images, captions)
        found["mistakes"] = mistakes, figure
    return found
