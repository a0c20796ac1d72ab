"""Loss weights of classes, worked by hand, and files that give them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from harness.config import RunConfig
from harness.errors import ConfigError
from harness.training.class_weights import balanced_weights, class_weights, effective_weights, read_weights

CLASSES = ("archery", "bowling", "curling")
LABELS = np.array([0] * 6 + [1] * 3 + [2])


def config(value: str) -> RunConfig:
    return RunConfig(data="images", class_weights=value)


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    weights = balanced_weights(np.array([6, 3, 1]))
    assert weights == pytest.approx([10 / 18, 10 / 9, 10 / 3])
    assert weights == pytest.approx(compute_class_weight("balanced", classes=np.arange(3), y=LABELS))
    assert (weights * [6, 3, 1]).sum() == pytest.approx(10)  # the mean over images is 1


def test_effective_weights_follow_the_paper() -> None:
    weights = effective_weights(np.array([1, 2, 5000]))
    # Effective numbers: 1, 1 + 0.999, and (1 - 0.999 ** 5000) / 0.001 = 993.28.
    inverse = np.array([1, 1 / 1.999, 1 / 993.2788])
    assert weights == pytest.approx(3 * inverse / inverse.sum(), rel=1e-6)
    assert weights.sum() == pytest.approx(3)


def test_a_run_has_the_weights_of_its_setting() -> None:
    assert class_weights(config("none"), CLASSES, LABELS) is None
    weights = class_weights(config("balanced"), CLASSES, LABELS)
    assert weights is not None
    assert weights.dtype == np.float32
    assert weights == pytest.approx([10 / 18, 10 / 9, 10 / 3])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "curling,3\narchery, 0.5\nbowling,1e0\n"),
        ("b.csv", "class,weight\nbowling,1\n\narchery,0.5\ncurling,3\n"),
        ("spreadsheet.csv", "\ufeffclass,weight\nbowling,1\narchery,0.5\ncurling,3\n"),
        ("c.json", json.dumps({"curling": 3, "archery": 0.5, "bowling": 1.0})),
    ],
)
def test_a_file_gives_the_weights_by_name(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_weights(tmp_path / name, CLASSES).tolist() == [0.5, 1.0, 3.0]
    weights = class_weights(config(str(tmp_path / name)), CLASSES, LABELS)
    assert weights is not None
    assert weights.tolist() == [0.5, 1.0, 3.0]


def test_all_that_is_wrong_with_a_file_is_said_at_once(tmp_path: Path) -> None:
    file = tmp_path / "weights.csv"
    file.write_text("archery,0\ndarts,1\nbowling,1\nbowling,nan\n")
    with pytest.raises(ConfigError) as error:
        read_weights(file, CLASSES)
    start = f"--class-weights {file}"
    assert error.value.problems == (
        f"{start} has classes that the data does not have: darts.",
        f"{start} has no weight for 1 of 3 classes: curling.",
        f"{start} has more than one weight for bowling.",
        f"{start}: a weight must be a finite number above 0, which these are not: archery: 0, bowling: nan.",
    )


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("w.csv", "archery,1,2\n", "a row is 'archery,1,2'"),
        ("w.json", "[1, 2]", "it holds no JSON object"),
        ("w.json", "{", "Expecting property name"),
        ("w.json", "[" * 100_000, "recursion"),
        ("missing.csv", None, "No such file"),
    ],
)
def test_what_is_not_a_file_of_weights_is_refused(tmp_path: Path, name: str, text: str | None, why: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=why) as error:
        read_weights(tmp_path / name, CLASSES)
    assert "Give balanced, effective, none, a CSV file" in str(error.value)


def test_a_class_with_two_weights_in_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "w.json").write_text('{"archery": 1, "bowling": 1, "curling": true, "archery": 2}')
    with pytest.raises(ConfigError) as error:
        read_weights(tmp_path / "w.json", CLASSES)
    assert [problem.rpartition(" ")[2] for problem in error.value.problems] == ["archery.", "True."]


@pytest.mark.timeout(10)
def test_a_named_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "weights.csv")
    with pytest.raises(ConfigError, match=r"cannot be used \(it is a named pipe, not a file\)\. Give balanced"):
        read_weights(tmp_path / "weights.csv", ["a", "b"])
