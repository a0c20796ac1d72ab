from __future__ import annotations

import io
import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from harness.runs import confusion_figure, figures
from harness.training.metrics import Scores, score
from tests import ROOT


def training_rows(steps: int) -> list[dict[str, Any]]:
    return [{"step": step, "epoch": step / steps, "train/loss": 4 / step} for step in range(1, steps + 1)]


def epoch_row(epoch: int, f1: float, loss: float | None, steps: int = 10) -> dict[str, Any]:
    return {"step": epoch * steps, "epoch": epoch, "val/loss": loss, "val/f1": f1, "val/accuracy": f1 + 0.01}


def labels(figure: Figure, axes: int) -> list[str]:
    return figure.axes[axes].get_legend_handles_labels()[1]


def line(figure: Figure, axes: int, label: str) -> tuple[list[float], list[float]]:
    (found,) = [one for one in figure.axes[axes].get_lines() if one.get_label() == label]
    return np.asarray(found.get_xdata()).tolist(), np.asarray(found.get_ydata()).tolist()


def pixels(figure: Figure) -> np.ndarray:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return np.asarray(Image.open(file).convert("RGB"))


def names_beside(matrix: Axes) -> list[Text]:
    """The class names to the left of a confusion matrix."""
    return [text for text in matrix.texts if text.get_horizontalalignment() == "right"]


def shares(matrix: Axes) -> np.ndarray:
    """What a confusion matrix shows, -1 where it is white."""
    (mesh,) = matrix.collections
    return np.ma.filled(mesh.get_array(), -1)


def predicted_scores(confusion: list[list[int]]) -> Scores:
    counts = np.array(confusion)
    truth, named = (index.repeat(counts.ravel()) for index in np.indices(counts.shape).reshape(2, -1))
    return score(truth, np.eye(len(counts))[named])


def test_losses_and_scores_are_drawn_where_they_were_logged() -> None:
    rows = [*training_rows(10), epoch_row(1, 0.5, 1.5), epoch_row(2, 0.75, 1.0), epoch_row(3, 0.7, 0.9)]
    figure = figures.loss_curve(rows, title="a run")
    assert line(figure, 0, "training") == ([*range(1, 11)], [4 / step for step in range(1, 11)])
    assert line(figure, 0, "validation") == ([10, 20, 30], [1.5, 1.0, 0.9])
    assert line(figure, 0, "best epoch: 2") == ([20], [1.0])
    assert line(figure, 1, "macro F1") == ([1, 2, 3], [0.5, 0.75, 0.7])
    assert line(figure, 1, "accuracy") == ([1, 2, 3], [0.51, 0.76, 0.71])
    assert line(figure, 1, "best: F1 0.7500 in epoch 2") == ([2], [0.75])
    assert figure.get_suptitle() == "a run"
    # A name that lists what a sweep varies is not cut; one that is longer than the figure is.
    name = "augment=none_head_init=probe_layer_decay=0.85_lr=0.0003_batch_size=32_s0"
    assert figures.loss_curve(rows, title=name).get_suptitle() == name
    assert len(figures.loss_curve(rows, title=name * 3).get_suptitle()) == 110
    assert figure.axes[0].get_ylim()[0] == 0


def test_best_epoch_is_the_one_given_else_the_lower_loss_among_equals() -> None:
    rows = [epoch_row(1, 0.8, 0.5), epoch_row(2, 0.8, 0.4), epoch_row(3, 0.8, 0.4), epoch_row(4, 0.8, None)]
    assert "best epoch: 2" in labels(figures.loss_curve(rows), 0)
    assert "best epoch: 3" in labels(figures.loss_curve(rows, best_epoch_number=3), 0)


def test_many_rows_are_smoothed_around_each_step() -> None:
    rows = [{"step": step, "train/loss": float(step)} for step in range(1, 501)]
    steps, means = line(figures.loss_curve(rows), 0, "training (mean of 10 rows)")
    assert len(steps) == 491
    assert np.abs(np.array(means) - steps).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_loss_that_is_not_finite_is_marked(value: float | None) -> None:
    rows = [*training_rows(5), {"step": 6, "train/loss": value}, {"step": 7, "train/loss": 1.0}]
    figure = figures.loss_curve(rows)
    assert "not finite from step 6" in labels(figure, 0)
    assert line(figure, 0, "training")[0] == [1, 2, 3, 4, 5, 7]
    pixels(figure)


def test_diverged_losses_get_a_logarithmic_axis() -> None:
    calm, wild = training_rows(5), [*training_rows(5), {"step": 6, "train/loss": 4000.0}]
    assert figures.loss_curve(calm).axes[0].get_yscale() == "linear"
    assert figures.loss_curve(wild).axes[0].get_yscale() == "log"


def test_high_scores_are_spread_out_and_low_ones_start_at_zero() -> None:
    high = figures.loss_curve([epoch_row(1, 0.96, 0.1), epoch_row(2, 0.98, 0.1)])
    low = figures.loss_curve([epoch_row(1, 0.1, 0.1), epoch_row(2, 0.98, 0.1)])
    assert 0.8 < high.axes[1].get_ylim()[0] < 0.96
    assert low.axes[1].get_ylim()[0] < 0.0


@pytest.mark.parametrize("rows", [[], [{"step": 1, "train/lr": 0.1}], training_rows(1)])
def test_a_run_that_has_just_begun_can_be_drawn(rows: list[dict[str, Any]]) -> None:
    assert pixels(figures.loss_curve(rows)).shape == (675, 1800, 3)


def test_few_classes_show_their_counts() -> None:
    confusion = [[3, 1, 0], [0, 4, 0], [2, 0, 2]]
    scores = predicted_scores(confusion)
    figure = confusion_figure.confusion_matrix(scores.confusion, ["ant", "bee", "cat"], scores)
    axes = figure.axes[0]
    assert sorted(text.get_text() for text in axes.texts if text.get_text().isdigit()) == ["1", "2", "2", "3", "4"]
    assert [name.get_text() for name in names_beside(axes)] == ["ant", "bee", "cat"]
    assert axes.get_title() == "Test set: macro F1 0.7407, accuracy 0.7500, n = 12"
    np.testing.assert_array_equal(shares(axes), [[0.75, 0.25, -1], [-1, 1, -1], [0.5, -1, 0.5]])


def test_confused_pairs_come_in_order_of_how_often() -> None:
    confusion = predicted_scores([[90, 2, 0], [0, 1, 2], [1, 5, 4]]).confusion
    names = ["ant", "bee", "cat"]
    assert confusion_figure.confused_pairs(confusion, names) == [
        "cat → bee  5 of 10",
        "bee → cat  2 of 3",
        "ant → bee  2 of 92",
        "cat → ant  1 of 10",
    ]
    assert confusion_figure.confused_pairs(confusion, names, limit=1)[1] == "and 3 more pairs, 5 images"
    right = predicted_scores([[1, 0], [0, 1]]).confusion
    assert confusion_figure.confused_pairs(right, names) == ["none: every image is right"]


def test_weakest_classes_leave_out_those_without_images() -> None:
    scores = predicted_scores([[1, 1, 0], [0, 2, 0], [0, 0, 0]])
    expected = ["ant  0.667  2", "bee  0.800  2", "without images, F1 0: 1"]
    assert confusion_figure.weakest_classes(scores, ["ant", "bee", "cat"]) == expected


def test_hundred_class_names_are_legible_and_do_not_overlap() -> None:
    scores = predicted_scores(np.eye(100, dtype=int).tolist())
    names = [f"figure skating {index}" for index in range(100)]
    figure = confusion_figure.confusion_matrix(scores.confusion, names, scores)
    image = pixels(figure)
    assert image.shape[0] > 3000
    names_shown = names_beside(figure.axes[0])
    assert len(names_shown) == 100
    boxes = [name.get_window_extent() for name in names_shown]
    tops = sorted((box.y0, box.y1) for box in boxes)
    assert all(lower[1] <= upper[0] for lower, upper in itertools.pairwise(tops))
    assert all(name.get_fontsize() >= 5 for name in names_shown)
    assert min(box.x0 for box in boxes) > 0


def test_more_classes_than_cells_are_drawn_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confusion_figure, "MOST_CELLS", 2)
    scores = predicted_scores([[2, 0, 0, 0, 0], [0, 1, 0, 0, 1], [0, 0, 3, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 2]])
    figure = confusion_figure.confusion_matrix(scores.confusion, ["a", "b", "c", "d", "e"], scores)
    matrix = figure.axes[0]
    np.testing.assert_array_equal(shares(matrix), [[6 / 7, 1 / 7], [-1, 1]])
    assert (matrix.get_xlim(), matrix.get_ylim()) == ((-0.5, 5.5), (5.5, -0.5))
    label = "share of the images of 3 neighbouring true classes (white: none; diagonal: right predictions)"
    assert figure.axes[1].get_xlabel() == label


def test_confusions_of_classes_drawn_together_do_not_look_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confusion_figure, "MOST_CELLS", 2)
    scores = predicted_scores([[0, 2, 0, 0], [1, 1, 0, 0], [0, 0, 4, 0], [1, 0, 0, 3]])
    figure = confusion_figure.confusion_matrix(scores.confusion, ["a", "b", "c", "d"], scores)
    np.testing.assert_array_equal(shares(figure.axes[0]), [[1 / 4, -1], [1 / 8, 7 / 8]])
    assert figure.axes[1].get_xlabel().endswith("; not drawn: 3 images predicted as a neighbour of these")


def test_cells_and_their_lines_are_one_artist_however_many_classes() -> None:
    """Each tick would be five artists, for each class and axis."""
    count = 30
    scores = score(np.arange(count), np.eye(count))
    matrix, _ = confusion_figure.confusion_matrix(scores.confusion, [f"class {i}" for i in range(count)], scores).axes
    assert not matrix.get_xticks().size + matrix.get_yticks().size
    (mesh,) = matrix.collections
    edges = np.arange(count + 1) - 0.5
    np.testing.assert_array_equal(mesh.get_coordinates(), np.stack(np.meshgrid(edges, edges), axis=-1))
    assert mesh.get_linewidth() > 0
    assert (matrix.get_xlim(), matrix.get_ylim()) == ((-0.5, count - 0.5), (count - 0.5, -0.5))


def test_names_are_shown_as_they_are() -> None:
    """Dollar signs are no mathematics, line breaks no new lines, and long names stay within the figure."""
    scores = predicted_scores([[1, 1, 0], [0, 1, 1], [1, 0, 1]])
    figure = confusion_figure.confusion_matrix(scores.confusion, ["$\\frac$", "new\nline", "W" * 300], scores)
    image = pixels(figure)
    assert max(image.shape) < 3000
    shown = [name.get_text() for name in names_beside(figure.axes[0])]
    assert shown == [r"\$\frac\$", "new�line", "W" * 27 + "…"]
    # Nothing is cut off: the outermost pixels are background.
    assert all((edge == 255).all() for edge in (image[0], image[-1], image[:, 0], image[:, -1]))


def test_import_is_light() -> None:
    code = "import sys, harness.runs.figures; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
