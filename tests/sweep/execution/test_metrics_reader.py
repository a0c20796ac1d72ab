from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from harness.runs.folder import RunFolder
from harness.sweep.execution.metrics_reader import MetricsReader, modification_times, value_after

EPOCHS: list[dict[str, Any]] = [
    {"step": 1, "epoch": 1, "val/f1": 0.5, "val/accuracy": 0.7, "val/loss": 1.0},
    {"step": 2, "epoch": 2, "val/f1": 0.6, "val/accuracy": 0.6, "val/loss": 0.9},
    {"step": 3, "epoch": 3, "val/f1": 0.6, "val/accuracy": 0.5, "val/loss": 0.8},
    {"step": 4, "epoch": 4, "val/f1": 0.4, "val/accuracy": 0.9, "val/loss": None},
]


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_best_values_are_those_of_the_best_epoch() -> None:
    assert [value_after(EPOCHS[:count], "best/val_f1") for count in (1, 2, 3, 4)] == [0.5, 0.6, 0.6, 0.6]
    # Epochs 2 and 3 have the same F1, and epoch 3 has the lower loss; its accuracy is not the highest.
    assert value_after(EPOCHS, "best/val_accuracy") == 0.5
    assert value_after(EPOCHS, "best/val_loss") == 0.8
    assert value_after(EPOCHS, "best/epoch") == 3


def test_other_values_are_those_of_the_last_epoch() -> None:
    assert value_after(EPOCHS, "val/accuracy") == 0.9
    assert value_after(EPOCHS, "val/loss") is None
    assert value_after([], "best/val_f1") is None


def test_each_row_is_read_once_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    reader = MetricsReader(path)
    assert not reader.read()
    first, second = lines({"step": 1, "epoch": 0.5, "train/loss": 2.0}), lines(EPOCHS[0])
    path.write_text(first + second[:20])
    assert reader.read()
    assert (reader.epoch, reader.validations) == (0.5, [])
    with path.open("a") as file:
        file.write(second[20:])
    assert reader.read()
    assert reader.validations == EPOCHS[:1]
    assert reader.epoch == 1
    assert not reader.read()


def test_the_file_of_a_resumed_run_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(lines(*EPOCHS[:3]))
    reader = MetricsReader(path)
    reader.read()
    replacement = tmp_path / "replacement"
    replacement.write_text(lines(*EPOCHS[:2]))
    replacement.rename(path)
    assert reader.read()
    assert reader.validations == EPOCHS[:2]


def test_a_path_that_cannot_be_read_has_no_rows(tmp_path: Path) -> None:
    """As that of a run on another machine."""
    (tmp_path / "file").write_text("no folder")
    reader = MetricsReader(tmp_path / "file" / "run" / "metrics.jsonl")
    assert (reader.read(), reader.newest, reader.epoch) == (False, None, 0.0)


def test_whatever_a_run_writes_shows_that_it_makes_progress(tmp_path: Path) -> None:
    """Also where a file has the time of a machine whose clock is ahead, and while it explains or verifies for hours."""
    folder, log = RunFolder(tmp_path / "run"), tmp_path / "log"
    seen = [modification_times(folder, log)]
    for number, write in enumerate(
        (
            lambda: log.write_text("decoding"),
            lambda: folder.checkpoints.mkdir(parents=True),
            lambda: folder.append_metrics({"step": 1}),
            lambda: (folder.attention.mkdir(), (folder.attention / "attention.npz").touch()),
            lambda: folder.write("evidence.partial.json", {}),
        )
    ):
        write()
        for path in (log, *folder.path.rglob("*"), folder.path):
            if path.exists() and path.stat().st_mtime > 10_000:  # written just now
                os.utime(path, (3000 - number, 3000 - number))
        seen.append(modification_times(folder, log))
        assert modification_times(folder, log) == seen[-1]
    assert len(set(seen)) == len(seen) == 6
