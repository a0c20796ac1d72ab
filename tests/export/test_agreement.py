from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from harness.errors import HarnessError
from harness.export import scoring
from harness.export.agreement import agreement_of, problem_with, scored
from harness.export.formats import FORMATS
from harness.export.reference import Reference
from tests import ROOT
from tests.export.conftest import BARE

N, C = 40, 4
LABELS = np.arange(N) % C


def reference(**changes: np.ndarray | int) -> Reference:
    """A run that is right for all of 40 images, with a probability of 0.7."""
    run = np.full((N, C), 0.1)
    run[np.arange(N), LABELS] = 0.7
    values = {"run": run, "opened": run, "differs": np.zeros(N, bool), "cut_differently": 0}
    return Reference(tuple(map(Path, map(str, range(N)))), LABELS, **(values | changes))  # type: ignore[arg-type]


def shifted(run: np.ndarray, amount: float, images: int) -> np.ndarray:
    """Probability moved from the right class to the next one, for the first images."""
    moved = run.copy()
    rows = np.arange(images)
    moved[rows, LABELS[:images]] -= amount
    moved[rows, (LABELS[:images] + 1) % C] += amount
    return moved


def test_differences_are_counted_and_scored() -> None:
    one = reference()
    agreement = agreement_of(one, shifted(one.run, 0.5, 10))
    assert (agreement.n, agreement.same_class, agreement.run_f1) == (40, 30, 1.0)
    assert agreement.largest_difference == pytest.approx(0.5)
    # 10 images of each class, of which 3, 3, 2 and 2 are called the next class.
    hits, taken = np.array([7, 7, 8, 8]), np.array([2, 3, 3, 2])
    assert agreement.f1 == pytest.approx(np.mean(2 * hits / (10 + hits + taken)))
    scores = f"macro F1 {agreement.f1:.4f} (the run: 1.0000)"
    assert str(agreement) == f"30 of 40 the same class, largest |difference of probability| 0.5, {scores}"


def test_what_rounding_explains_passes_and_more_does_not() -> None:
    one = reference()
    for amount, passes in ((1e-6, True), (9e-5, True), (2e-4, False)):
        agreement = agreement_of(one, shifted(one.run, amount, 1))
        assert (problem_with(FORMATS["timm"], agreement, one) == "") == passes


def test_eight_bits_may_move_probabilities_but_few_classes() -> None:
    one, form = reference(), FORMATS["onnx-int8"]
    assert problem_with(form, agreement_of(one, shifted(one.run, 0.2, N)), one) == ""
    assert "macro F1 is 0.0" in problem_with(form, agreement_of(one, shifted(one.run, 0.5, 2)), one)
    assert "3 of 40 images get another class (5% may)" in problem_with(
        form, agreement_of(one, shifted(one.run, 0.5, 3)), one
    )


def test_images_that_open_differently_are_compared_by_the_opened_pixels() -> None:
    one = reference()
    opened = shifted(one.run, 0.5, 2)
    differs = np.arange(N) < 2
    one = reference(opened=opened, differs=differs)
    agreement = agreement_of(one, opened)
    assert agreement.largest_difference == 0
    assert (agreement.opened_differently, agreement.same_class) == (2, 40)
    assert agreement.opening_difference == pytest.approx(0.5)
    assert agreement.f1 < agreement.run_f1 == 1
    assert problem_with(FORMATS["onnx-int8"], agreement, one) == ""  # the loss is not that of the format


@pytest.mark.parametrize("probabilities", [np.zeros((N, C - 1)), np.full((N, C), np.nan)])
def test_scores_of_another_shape_or_not_numbers_are_refused(probabilities: np.ndarray) -> None:
    with pytest.raises(HarnessError, match="the exported files give"):
        agreement_of(reference(), probabilities)


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import harness.export.scoring", "No module named 'harness' in a bare environment"),
        ("import urllib.request; urllib.request.urlopen('http://localhost:9')", "a bare environment has no network"),
    ],
)
def test_exported_files_are_scored_where_neither_this_package_nor_a_network_is_there(
    code: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `harness export` runs in the tests: its scoring processes import nothing of this repository."""
    script = tmp_path / "scoring.py"
    script.write_text(code)
    monkeypatch.setattr(scoring, "__file__", str(script))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(BARE), str(ROOT))))
    with pytest.raises(HarnessError, match=problem):
        scored(FORMATS["timm"], tmp_path, reference())
