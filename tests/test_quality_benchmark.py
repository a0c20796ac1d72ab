"""The benchmark of quality: scores are read from other projects' files as they are, and results are kept."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.bench import bench_quality, peers
from tests.bench.bench_quality import Result, Settings
from tests.bench.peers import FinalScores


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for split, images in (("train", 1), ("valid", 1), ("test", 2)):
        for name in ("Zebra", "ant"):  # timm sorts these the other way round
            (folder / split / name).mkdir(parents=True)
            for number in range(images):
                (folder / split / name / f"{number}.jpg").touch()
    return folder


def settings(data: Path, **values: object) -> Settings:
    unset = dict.fromkeys(("timm", "hf", "hf_model"))
    shared = {"weights": data / "w.pth", "model": "vit_ti_16", "threads": 1, "out": data.parent / "out"}
    return Settings(**{"data": data, **shared, **unset, "peer_python": sys.executable, **values})


def scores(accuracy: float, f1: float) -> FinalScores:
    return FinalScores(accuracy, accuracy - 0.1, accuracy + 0.1, f1, f1 - 0.1, f1 + 0.1)


def test_timm_is_scored_from_its_predictions(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "timm"
    commands = peers.timm_commands(
        tmp_path, "python", data=data, weights=Path("w.pth"), model="vit_ti_16", epochs=10, seed=3, out=out
    )
    train, test = (" ".join(command) for command in commands)
    assert (out / "classes.txt").read_text() == "Zebra\nant\n"
    assert "--epochs 10 " in train and "--warmup-epochs 1 " in train and "--seed 3 " in train
    assert "--val-split valid " in train and "--split test " in test
    assert f"--class-map {out / 'classes.txt'} " in train and f"--class-map {out / 'classes.txt'} " in test

    (out / "run").mkdir()
    (out / "run" / "summary.csv").write_text(
        "epoch,train_loss,eval_loss,eval_top1,eval_top5\n0,2.0,1.0,75.0,100.0\n1,1.5,1.1,50.0,100.0\n"
    )
    # Three of four are right: F1 is 2/3 for Zebra (one of two found) and 4/5 for ant.
    (out / "test.csv").write_text(
        "filename,index,prob\ntest/Zebra/0.jpg,0,0.9\ntest/Zebra/1.jpg,1,0.6\ntest/ant/0.jpg,1,0.9\ntest/ant/1.jpg,1,1\n"
    )
    result = peers.timm_scores(out, data)
    assert result.accuracy == 0.75
    assert result.f1 == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert result.val_accuracy == 0.75  # of the epoch that model_best is from
    assert result.f1_low <= result.f1 <= result.f1_high


def test_hugging_face_has_an_accuracy_and_no_f1(data: Path, tmp_path: Path) -> None:
    (tmp_path / "all_results.json").write_text('{"epoch": 3.0, "eval_accuracy": 0.75, "eval_loss": 1.0}')
    result = peers.hf_scores(tmp_path, data)
    assert result.accuracy == 0.75
    assert (result.accuracy_low, result.accuracy_high) == peers.wilson(3, 4)
    assert result.f1 != result.f1
    assert bench_quality.row_of("hf", [Result(result, 1, 1, 1)])[5:7] == ["", ""]


def test_a_missing_peer_is_skipped_with_a_sentence(data: Path, tmp_path: Path) -> None:
    assert "train.py with --timm" in peers.why_skipped("timm", settings(data), ("train.py",))
    assert "--hf-model" in peers.why_skipped("hf", settings(data, hf=tmp_path / "script.py"), ())
    reason = peers.why_skipped("timm", settings(data, timm=tmp_path / "nowhere"), ("train.py",))
    assert reason == f"timm: skipped; {tmp_path / 'nowhere' / 'train.py'} does not exist."
    assert peers.why_skipped("default", settings(data), ()) == ""


def test_a_kept_result_is_not_measured_again(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {"test/accuracy": 0.5, "test/n": 4, "test/f1": 0.4, "test/f1_low": 0.1, "test/f1_high": 0.9}
    printed = json.dumps({**numbers, "val/accuracy": 0.6})
    command = [sys.executable, "-c", f"print({printed!r})"]
    monkeypatch.setattr(bench_quality, "commands_of", lambda *_: [command])
    first = bench_quality.measure("probe", 0, 0, settings(data))
    assert first and (first.scores.f1, first.scores.val_accuracy) == (0.4, 0.6)
    assert first.seconds > 0 and first.cpu_seconds > 0 and first.mebibytes > 1

    command[-1] = "raise SystemExit(3)"
    assert bench_quality.measure("probe", 0, 0, settings(data)) == first
    assert bench_quality.measure("probe", 0, 1, settings(data)) is None  # the failure is reported, not scored


def test_the_goals_are_judged_by_the_interval_and_the_probe() -> None:
    def at(accuracy: float, f1: float) -> list[Result]:
        return [Result(scores(accuracy, f1), 1, 1, 1)]

    lines = bench_quality.verdicts(3, {"default": at(0.8, 0.78), "probe": at(0.8, 0.8), "timm": at(0.89, 0.9)})
    assert lines == [
        "3 passes: timm not ahead beyond our interval: met",
        "3 passes: F1 over our probe -0.0200, >= 0: NOT met",
    ]
    lines = bench_quality.verdicts(1, {"default": at(0.8, 0.8), "hf": at(0.95, float("nan"))})
    assert lines == ["1 passes: hf not ahead beyond our interval: NOT met"]
