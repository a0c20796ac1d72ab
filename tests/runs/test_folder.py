from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from harness.config import RunConfig
from harness.errors import HarnessError
from harness.runs.folder import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def test_the_same_settings_find_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunConfig(data="images", recipe="study", runs_dir=str(tmp_path))
    assert RunFolder.of(config).path == tmp_path / f"lr1e-05_bs16_none_s0-{config.identity}"
    # A sweep's agent names the run; the same settings may be tried twice.
    monkeypatch.setenv("WANDB_RUN_ID", "abc123")
    assert RunFolder.of(config).path == tmp_path / "lr1e-05_bs16_none_s0-abc123"


def test_a_run_of_a_sweep_is_found_by_its_id_under_an_earlier_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RunConfig(data="images", recipe="study", runs_dir=str(tmp_path))
    monkeypatch.setenv("HARNESS_SWEEP_PARAMETERS", "ema,lr")
    named = tmp_path / "ema=false_lr=1e-05_s0-5eed-1"
    assert RunFolder.of(config, "5eed-1").path == named
    # Of a version without such names, or of a file with other parameters; 5eed-11 is another run.
    for name in ("lr1e-05_bs16_none_s0-5eed-1", "lr1e-05_bs16_none_s0-5eed-11"):
        RunFolder(tmp_path / name).path.mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    assert RunFolder.of(config, "5eed-1").path == tmp_path / "lr1e-05_bs16_none_s0-5eed-1"
    named.mkdir()
    assert RunFolder.of(config, "5eed-1").path == named


def test_a_run_id_never_becomes_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "../../up")
    with pytest.raises(HarnessError, match="WANDB_RUN_ID"):
        RunFolder.of(RunConfig(data="images", runs_dir=str(tmp_path)))


def test_values_that_json_lacks_become_null(folder: RunFolder) -> None:
    folder.write("summary.json", {"a": math.nan, "b": [1.0, math.inf], "c": {"d": -math.inf}})
    assert json.loads((folder.path / "summary.json").read_text()) == {"a": None, "b": [1.0, None], "c": {"d": None}}
    folder.update("summary.json", {"a": 2})
    assert folder.read("summary.json")["a"] == 2
    assert folder.read("summary.json")["b"] == [1.0, None]


def test_reading_what_is_missing_or_damaged(folder: RunFolder) -> None:
    assert folder.read("summary.json") == {}
    folder.path.mkdir()
    (folder.path / "summary.json").write_text("{")
    with pytest.raises(HarnessError, match=r"summary\.json is damaged .*--fresh"):
        folder.read("summary.json")


def test_rows_after_the_step_to_resume_from_are_dropped(folder: RunFolder) -> None:
    folder.path.mkdir()
    for step in range(1, 6):
        folder.append_metrics({"step": step, "train/loss": math.nan})
    folder.append_metrics({"step": 3, "epoch": 1, "val/loss": 0.5})
    with folder.metrics.open("a") as file:
        file.write('{"step": 6, "train/lo')  # a crash in the middle of a line
    folder.keep_metrics_until(3, epochs=1)
    assert folder.read_metrics()[-1] == {"step": 3, "epoch": 1, "val/loss": 0.5}
    folder.keep_metrics_until(3, epochs=0)  # killed between that row and the state that knows of it
    assert folder.read_metrics() == [{"step": step, "train/loss": None} for step in (1, 2, 3)]
    folder.append_metrics({"step": 4})
    assert [row["step"] for row in folder.read_metrics()] == [1, 2, 3, 4]


def test_one_process_holds_a_run(folder: RunFolder) -> None:
    with folder.locked(), pytest.raises(HarnessError, match=f"Another process .pid {os.getpid()}. is running this run"):
        folder.locked().__enter__()
    with folder.locked():
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HarnessError, match="Choose another --runs-dir"):
        RunFolder(tmp_path / "file" / "run").locked().__enter__()


def test_setting_aside_deletes_nothing(folder: RunFolder) -> None:
    assert folder.set_aside() is None
    for content in ("first", "second"):
        folder.path.mkdir()
        (folder.path / "x").write_text(content)
        aside = folder.set_aside()
        assert aside is not None
        assert (aside / "x").read_text() == content
        assert not folder.path.exists()


@pytest.mark.parametrize(
    "name", [".lock", "metrics.jsonl", "summary.json", "checkpoints", "figures/loss_curve.png", "attention/sheets", "."]
)
def test_a_run_does_not_write_through_links(folder: RunFolder, tmp_path: Path, name: str) -> None:
    """Locking truncates a file, and rows are appended to one: a link could lead to files of the user."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "file").write_text("mine")
    link = folder.path / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(tmp_path / "theirs" / ("file" if "." in name[1:] or name == ".lock" else ""))
    with pytest.raises(HarnessError, match=r"is a symbolic link; a run neither reads nor writes"), folder.locked():
        pass
    assert (tmp_path / "theirs" / "file").read_text() == "mine"
    assert [path.name for path in (tmp_path / "theirs").iterdir()] == ["file"]


def test_an_earlier_run_is_not_moved_through_a_link(folder: RunFolder, tmp_path: Path) -> None:
    folder.path.mkdir()
    (tmp_path / "theirs").mkdir()
    (tmp_path / ".replaced").symlink_to(tmp_path / "theirs")
    with pytest.raises(HarnessError, match=r"\.replaced is a symbolic link"):
        folder.set_aside()
    assert folder.path.is_dir()
