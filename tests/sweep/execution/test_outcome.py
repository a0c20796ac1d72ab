from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from harness.runs.folder import RunFolder
from harness.sweep.execution.outcome import Rows, final_value, last_sign_of_progress, value_after, why_it_failed

EPOCHS: list[dict[str, Any]] = [
    {"step": 1, "epoch": 1, "val/f1": 0.5, "val/accuracy": 0.7, "val/loss": 1.0},
    {"step": 2, "epoch": 2, "val/f1": 0.6, "val/accuracy": 0.6, "val/loss": 0.9},
    {"step": 3, "epoch": 3, "val/f1": 0.6, "val/accuracy": 0.5, "val/loss": 0.8},
    {"step": 4, "epoch": 4, "val/f1": 0.4, "val/accuracy": 0.9, "val/loss": None},
]


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_best_is_that_of_the_runs_own_rule_and_last_is_last() -> None:
    assert [value_after(EPOCHS[:count], "best/val_f1") for count in (1, 2, 3, 4)] == [0.5, 0.6, 0.6, 0.6]
    # Of equal F1 the lower loss: all of epoch 3, though its accuracy is the lowest.
    assert value_after(EPOCHS, "best/val_accuracy") == 0.5
    assert value_after(EPOCHS, "best/val_loss") == 0.8
    assert value_after(EPOCHS, "best/epoch") == 3
    assert value_after(EPOCHS, "val/accuracy") == 0.9
    assert value_after(EPOCHS, "val/loss") is None
    assert value_after([], "best/val_f1") is None


def test_rows_are_read_once_and_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    rows = Rows(path)
    assert not rows.read()
    first, second = lines({"step": 1, "epoch": 0.5, "train/loss": 2.0}), lines(EPOCHS[0])
    path.write_text(first + second[:20])
    assert rows.read()
    assert (rows.epoch, rows.epochs) == (0.5, [])
    with path.open("a") as file:
        file.write(second[20:])
    assert rows.read()
    assert rows.epochs == EPOCHS[:1]
    assert rows.epoch == 1
    assert not rows.read()


def test_a_run_that_goes_on_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(lines(*EPOCHS[:3]))
    rows = Rows(path)
    rows.read()
    anew = tmp_path / "anew"
    anew.write_text(lines(*EPOCHS[:2]))
    anew.rename(path)
    assert rows.read()
    assert rows.epochs == EPOCHS[:2]


def test_the_final_value_is_the_summarys_or_the_last_row_that_has_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write("summary.json", {"best/val_f1": 0.75})
    folder.metrics.write_text(lines(*EPOCHS[:3], {"step": 9, "train/loss": 1.5}))
    assert final_value(folder, "best/val_f1") == 0.75
    assert final_value(folder, "val/accuracy") == 0.5
    assert final_value(folder, "train/loss") == 1.5
    assert final_value(folder, "nothing") is None


def test_any_file_that_only_a_living_run_writes_is_progress(tmp_path: Path) -> None:
    folder, log = RunFolder(tmp_path / "run"), tmp_path / "log"
    assert last_sign_of_progress(folder, log) == 0
    log.write_text("decoding")
    os.utime(log, (2000, 2000))
    folder.checkpoints.mkdir(parents=True)
    os.utime(folder.checkpoints, (3000, 3000))
    assert last_sign_of_progress(folder, log) == 3000.0


@pytest.mark.parametrize(
    ("code", "summary", "said", "reason"),
    [
        (1, {"state": "failed", "reason": "a bug\nat line 3"}, "", "a bug"),
        (-signal.SIGKILL, {"state": "running"}, "epoch 1", "killed (SIGKILL), by the kernel if memory ran out"),
        (137, {"state": "running"}, "", "killed (SIGKILL), by the kernel if memory ran out"),
        (-signal.SIGSEGV, {}, "", "killed by SIGSEGV"),
        (2, {}, "Usage\nError: --lr is 0.\n", "exit code 2: --lr is 0."),
        (1, {"state": "running"}, "one\nImportError: no torch\n\n", "exit code 1: ImportError: no torch"),
        (3, {}, "", "exit code 3"),
    ],
)
def test_why_a_trial_failed(code: int, summary: dict[str, Any], said: str, reason: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(said)
    assert why_it_failed(code, summary, log, hung=False, timeout=9) == reason


def test_a_hung_trial_is_said_to_have_hung(tmp_path: Path) -> None:
    assert why_it_failed(-9, {}, tmp_path / "none", hung=True, timeout=90) == "no progress for 90 s"
