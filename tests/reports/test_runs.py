from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.runs.intervals import score_intervals
from harness.runs.predictions import CLASS_COLUMNS
from harness.runs.rules import printable
from harness.training import metrics
from reports.runs import read_run, read_runs
from tests import ROOT
from tests.test_layout import LIGHT

SUMMARY = {"best/val_f1": 0.5, "best/val_loss": 1.0, "best/epoch": 2, "seconds/train": 75.3}


def write_run(
    folder: Path,
    labels: Sequence[int] = (0, 0, 1, 1),
    predicted: Sequence[int] = (0, 1, 1, 1),
    *,
    classes: Sequence[str] = ("cat", "dog"),
    files: Sequence[str] | None = None,
    config: dict[str, Any] | None = None,
    summary: dict[str, Any] | None = None,
    fingerprint: str = "f00d",
) -> Path:
    """A finished run as a program of this version leaves it, without training it."""
    folder.mkdir(parents=True)
    truth, logits = np.array(labels), np.eye(len(classes))[list(predicted)]
    scores = metrics.score(truth, logits)
    found = score_intervals(truth, np.array(predicted), len(classes))
    results = {"test/f1": scores.f1, "test/f1_low": found.f1_low, "test/f1_high": found.f1_high, "test/n": scores.n}
    names = files or [f"test/{classes[label]}/{index}.jpg" for index, label in enumerate(labels)]
    metrics.write_predictions(folder / "predictions.csv", names, classes, metrics.Predictions(truth, logits))
    columns = (scores.class_precision, scores.class_recall, scores.class_f1, scores.support)
    metrics.write_csv(folder / "per_class.csv", CLASS_COLUMNS, list(zip(classes, *columns, strict=True)))
    contents = {
        "config.json": {"lr": 1e-5, "epochs": 3, "runs_dir": str(folder.parent)} | (config or {}),
        "summary.json": {"state": "finished"} | SUMMARY | results | (summary or {}),
        "manifest.json": {"data": {"fingerprint": fingerprint}},
    }
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def test_a_finished_run(tmp_path: Path) -> None:
    classes = ("a, b", "ü\u2028\x85")
    folder = write_run(tmp_path / "a", classes=classes)
    (folder / "metrics.jsonl").write_text('{"step": 1, "train/loss": 2.0}\n{"step": 2, "tra')
    run = read_run(folder)
    assert (run.name, run.state, run.finished, run.problems) == ("a", "finished", True, ())
    assert (run.config["lr"], run.manifest["data"]["fingerprint"]) == (1e-5, "f00d")
    assert (run.metric("best/val_f1"), run.metric("test/n"), run.metric("state")) == (0.5, 4, None)
    assert run.rows == ({"step": 1, "train/loss": 2.0},)
    assert (run.metric("train/loss"), run.metric("step")) == (2, 1)  # not in the summary: the newest row's

    predictions = run.predictions
    assert predictions.problem == ""
    assert (predictions.classes, len(predictions)) == (classes, 4)
    assert predictions.files == tuple(f"test/{classes[index // 2]}/{index}.jpg" for index in range(4))
    assert predictions.labels.tolist() == [0, 0, 1, 1]
    assert predictions.predicted.tolist() == [0, 1, 1, 1]
    right, wrong = np.e / (np.e + 1), 1 / (np.e + 1)
    assert predictions.probabilities == pytest.approx([right] * 4, rel=1e-5)
    assert predictions.label_probabilities == pytest.approx([right, wrong, right, right], rel=1e-5)


def test_runs_are_found_wherever_they_lie(tmp_path: Path) -> None:
    for name in ("b", "sweep/c", "sweep/deeper/d", ".replaced/old", "sweep/.replaced/older"):
        write_run(tmp_path / name)
    (tmp_path / "sweep" / "logs").mkdir()
    write_run(tmp_path / "b" / "checkpoints" / "not-a-run")
    assert [run.path for run in read_runs(tmp_path)] == [tmp_path / name for name in ("b", "sweep/c", "sweep/deeper/d")]
    assert [run.name for run in read_runs(tmp_path / "b")] == ["b"]
    assert read_runs(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", None, "config.json is missing"),
        ("summary.json", None, "summary.json is missing"),
        ("manifest.json", b"[1]", "manifest.json is damaged (it holds a list instead of an object)"),
        ("summary.json", b'{"state": "fin', "summary.json is damaged"),
        ("summary.json", b"\xff\xfe{}", "summary.json is damaged"),
        ("config.json", b"[" * 100_000, "config.json is damaged (nested too deeply)"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    path = write_run(tmp_path / "a") / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    run = read_run(path.parent)
    assert len(run.problems) == 1 and run.problems[0].startswith(said)
    if name == "summary.json":
        assert (run.state, run.metric("test/f1")) == ("unknown", None)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("predictions.csv", None, "predictions.csv is missing"),
        ("per_class.csv", None, "per_class.csv is missing"),
        ("predictions.csv", b"", "predictions.csv is damaged"),
        ("predictions.csv", b"file,label,prediction,probability,label_probability\n", "predictions.csv is empty"),
        ("predictions.csv", b"file,label,prediction\n1,cat,cat\n", "predictions.csv is damaged"),
        ("predictions.csv", b"\xff\xfe", "predictions.csv is damaged"),
        ("per_class.csv", b"class\ncat\n", "names a class that per_class.csv does not: 'dog'"),
        ("per_class.csv", b"class\ncat\ndog\ncat\n", "per_class.csv names a class twice"),
    ],
)
def test_damaged_predictions_are_said_and_not_raised(
    tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    path = write_run(tmp_path / "a") / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    run = read_run(path.parent)
    assert run.problems == ()
    assert said in run.predictions.problem
    assert len(run.predictions) == 0


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [(0, "test/cat/0.jpg", "names an image twice"), (3, "high", "is damaged"), (1, "cow", "'cow'")],
)
def test_one_wrong_cell(tmp_path: Path, column: int, value: str, said: str) -> None:
    path = write_run(tmp_path / "a") / "predictions.csv"
    rows = list(csv.reader(path.read_text().splitlines()))
    rows[-1][column] = value
    path.write_text("".join(",".join(row) + "\n" for row in rows))
    assert said in read_run(path.parent).predictions.problem


def test_values_of_other_versions(tmp_path: Path) -> None:
    """Unknown keys stay; what is no finite number is none; columns are found by name."""
    summary = {"state": ["odd"], "best/val_f1": "0.9", "a": True, "b": float("nan"), "c": 10**400, "new/metric": 3}
    run = read_run(write_run(tmp_path / "a", summary=summary, config={"later": {"x": 1}}))
    assert [run.metric(key) for key in ("best/val_f1", "a", "b", "c", "none", "new/metric")] == [None] * 5 + [3]
    assert (run.state, run.config["later"]) == ("unknown", {"x": 1})
    path = run.path / "predictions.csv"
    rows = list(csv.reader(path.read_text().splitlines()))
    path.write_text("".join(",".join([f"extra{index}", *reversed(row)]) + "\n" for index, row in enumerate(rows)))
    assert run.predictions.predicted.tolist() == [0, 1, 1, 1]


def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    for name in ("summary.json", "predictions.csv", "metrics.jsonl"):
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
    run = read_run(folder)
    assert run.problems == ("summary.json is missing",)
    assert run.predictions.problem == "predictions.csv is missing"
    assert run.rows == ()


def test_text_is_made_fit_for_a_terminal() -> None:
    assert printable("täglich 1-5 °C") == "täglich 1-5 °C"
    assert printable("\x1b[31mred\n\u202eevil\udcff") == r"\x1b[31mred\n\u202eevil\udcff"


def test_reports_load_no_heavy_package() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "reports").rglob("*.py")
        if path.stem != "__init__"
    ]
    assert {"reports.runs", "reports.page.sections.leaderboard"} <= set(modules)
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    heavy = {"torch", "torchvision", "accelerate", "wandb", "wandb_workspaces", "torchmetrics", "optuna", "matplotlib"}
    assert not heavy & loaded
    of_harness = {name for name in loaded if name.startswith("harness")}
    assert of_harness <= {"harness", "harness.errors", "harness.runs", *LIGHT}
