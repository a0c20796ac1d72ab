from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from harness.runs.folder import RunFolder
from harness.sweep.execution.outcome import Outcome, failure_reason, final_value, read_outcome

NOT_A_NUMBER = "its best/val_f1 is not a number"


def folder_of(tmp_path: Path, **summary: Any) -> RunFolder:
    folder = RunFolder(tmp_path)
    folder.write("summary.json", summary)
    return folder


def test_the_final_value_is_that_of_the_summary_or_of_the_last_row_with_it(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, **{"best/val_f1": 0.75})
    rows = [{"step": 3, "epoch": 3, "val/accuracy": 0.5, "val/loss": 0.8}, {"step": 9, "train/loss": 1.5}]
    folder.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert final_value(folder, "best/val_f1") == 0.75
    assert final_value(folder, "val/accuracy") == 0.5
    assert final_value(folder, "train/loss") == 1.5
    assert final_value(folder, "nothing") is None


@pytest.mark.parametrize(
    ("summary", "outcome"),
    [
        ({}, None),
        ({"state": "running"}, None),
        ({"state": "failed", "reason": "a bug"}, None),
        ({"state": "finished", "best/val_f1": 0.75}, Outcome("finished", "finished: best/val_f1 0.7500", 0.75)),
        (
            {"state": "finished", "best/val_f1": 0.75, "test/f1": 0.5},
            Outcome("finished", "finished: best/val_f1 0.7500, test F1 0.5000", 0.75),
        ),
        (
            {"state": "finished", "best/val_f1": None},
            Outcome("infeasible", f"finished, but {NOT_A_NUMBER}", reason=NOT_A_NUMBER),
        ),
        ({"state": "stopped", "reason": "pruned"}, Outcome("stopped", "stopped: pruned", reason="pruned")),
    ],
)
def test_the_outcome_in_a_summary(summary: dict[str, Any], outcome: Outcome | None, tmp_path: Path) -> None:
    assert read_outcome(folder_of(tmp_path, **summary), "best/val_f1") == outcome


@pytest.mark.parametrize(
    ("exit_code", "summary", "log", "reason"),
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
def test_why_a_trial_failed(exit_code: int, summary: dict[str, Any], log: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(log)
    assert failure_reason(exit_code, summary, path) == reason
