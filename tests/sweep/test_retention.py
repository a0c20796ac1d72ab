from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from harness import files
from harness.runs.folder import BEST, STATE, RunFolder
from harness.runs.rules import ADAPTER
from harness.sweep import retention
from harness.sweep.retention import keep_best
from harness.sweep.spec.metric import Metric
from tests.reports.test_runs import write_run

METRIC = Metric("best/val_f1", "maximize")


def write(folder: Path, value: float | None, *, state: str = "finished", files: tuple[str, ...] = (BEST,)) -> Path:
    write_run(folder, summary={"state": state, "best/val_f1": value})
    (folder / "checkpoints").mkdir()
    for name in files:
        (folder / "checkpoints" / name).write_bytes(b"weights")
    return folder


def checkpoints(sweep: Path) -> dict[str, list[str]]:
    """The checkpoints of each run by their first letters: b(est) and s(tate)."""
    return {
        folder.name: sorted(path.name[0] for path in (folder / "checkpoints").iterdir())
        for folder in sorted(sweep.iterdir())
    }


def note(folder: Path) -> str | None:
    return json.loads((folder / "manifest.json").read_text()).get("checkpoint")


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    both = (BEST, STATE)
    for index, value in enumerate((0.3, 0.9, 0.5, 0.7)):
        write(tmp_path / f"{index}", value)
    for state in ("running", "preempted", "failed", "stopped", "infeasible"):
        write(tmp_path / state, 0.99, state=state, files=both)
    write(tmp_path / "4", 0.8, files=both)  # killed just before its end
    return tmp_path


RESUMABLE = {"running": ["b", "s"], "preempted": ["b", "s"], "failed": ["b", "s"]}
NOT_RESUMED = {"stopped": [], "infeasible": []}


def test_best_checkpoints_and_states_to_resume_from_stay(sweep: Path) -> None:
    before = {path: path.read_bytes() for path in sweep.rglob("*") if path.is_file() and path.suffix != ".safetensors"}
    changed = keep_best(sweep, 2, METRIC)
    assert [path.name for path in changed] == ["0", "2", "3", "infeasible", "stopped"]
    assert checkpoints(sweep) == {"0": [], "1": ["b"], "2": [], "3": [], "4": ["b"]} | RESUMABLE | NOT_RESUMED
    assert note(sweep / "0") == "deleted: not among the best 2 of the sweep"
    assert note(sweep / "stopped") == "deleted: the run was stopped"
    assert [note(sweep / name) for name in ("1", "4", "running", "preempted", "failed")] == [None] * 5
    # No other file changes, and the manifest keeps its other entries.
    assert {path for path, content in before.items() if path.read_bytes() != content} == {
        folder / "manifest.json" for folder in changed
    }
    assert json.loads((sweep / "0" / "manifest.json").read_text())["data"] == {"fingerprint": "f00d"}


def test_adapters_are_deleted_with_the_checkpoint_that_they_belong_to(tmp_path: Path) -> None:
    for name, value in (("0", 0.5), ("1", 0.9)):
        write(tmp_path / name, value, files=(ADAPTER, BEST))
    assert keep_best(tmp_path, 1, METRIC) == [tmp_path / "0"]
    left = {name: sorted(file.name for file in (tmp_path / name / "checkpoints").iterdir()) for name in "01"}
    assert left == {"0": [], "1": [ADAPTER, BEST]}


def test_repeating_deletes_nothing_and_a_better_run_replaces_a_worse_one(sweep: Path) -> None:
    keep_best(sweep, 2, METRIC)
    assert keep_best(sweep, 2, METRIC) == []
    write(sweep / "5", 0.85)
    assert keep_best(sweep, 2, METRIC) == [sweep / "4"]
    write(sweep / "6", 0.1)
    assert keep_best(sweep, 2, METRIC) == [sweep / "6"]
    kept = [name for name, left in checkpoints(sweep).items() if left]
    assert kept == ["1", "5", "failed", "preempted", "running"]


def test_with_minimize_the_run_with_the_lowest_value_stays(tmp_path: Path) -> None:
    for index, value in enumerate((0.3, 0.9, None)):
        write(tmp_path / f"{index}", value)
    assert keep_best(tmp_path, 1, Metric("best/val_f1", "minimize")) == [tmp_path / "1", tmp_path / "2"]


def test_folders_in_use_keep_their_checkpoints(sweep: Path) -> None:
    changed = keep_best(sweep, 1, METRIC, in_use=[sweep / "0", sweep / "stopped"])
    assert [path.name for path in changed] == ["2", "3", "4", "infeasible"]
    assert (checkpoints(sweep)["0"], checkpoints(sweep)["stopped"]) == (["b"], ["b", "s"])


def test_a_run_whose_process_is_alive_is_skipped_until_the_next_call(sweep: Path) -> None:
    with RunFolder(sweep / "0").locked():
        assert sweep / "0" not in keep_best(sweep, 1, METRIC)
        assert (checkpoints(sweep)["0"], note(sweep / "0")) == (["b"], None)
    assert keep_best(sweep, 1, METRIC) == [sweep / "0"]


@pytest.mark.parametrize("moment", ["write_atomically", "unlink"])
def test_a_deletion_that_was_killed_is_completed_by_the_next_call(
    sweep: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def command() -> None:
        if moment == "unlink":
            monkeypatch.setattr(Path, "unlink", lambda path, **_: die() if path.name == BEST else None)
        else:
            monkeypatch.setattr(files, "write_atomically", die)
            monkeypatch.setattr("harness.runs.folder.write_atomically", die)
        keep_best(sweep, 1, METRIC)

    child = multiprocessing.get_context("fork").Process(target=command)
    child.start()
    child.join(30)
    assert child.exitcode == -signal.SIGKILL
    assert checkpoints(sweep)["0"] == ["b"]
    assert [path.name for path in keep_best(sweep, 1, METRIC)] == (["0", "2", "3", "4", "infeasible", "stopped"])
    assert note(sweep / "0") == "deleted: not among the best 1 of the sweep"


def test_damaged_runs_and_read_only_folders_are_skipped(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (sweep / "0" / "manifest.json").write_text("{")
    (sweep / "2" / "summary.json").write_text("{")
    unlink = Path.unlink

    def refuse(path: Path, **options: Any) -> None:
        if path.parents[1].name == "3" and path.name == BEST:
            raise PermissionError(13, "Permission denied", str(path))
        unlink(path, **options)

    monkeypatch.setattr(retention.Path, "unlink", refuse)
    changed = keep_best(sweep, 1, METRIC)
    assert [path.name for path in changed] == ["0", "4", "infeasible", "stopped"]
    assert (checkpoints(sweep)["2"], checkpoints(sweep)["3"]) == (["b"], ["b"])  # the state of run 2 is unknown


def write_seed(sweep: Path, name: str, value: float | None, lr: float, seed: int, state: str = "finished") -> None:
    write_run(sweep / name, config={"lr": lr, "seed": seed}, summary={"state": state, "best/val_f1": value})
    (sweep / name / "checkpoints").mkdir()
    (sweep / name / "checkpoints" / BEST).write_bytes(b"weights")


def test_the_best_seed_of_each_of_the_best_settings_stays(tmp_path: Path) -> None:
    """Of b the luckiest run of all goes, because the mean of a is higher."""
    for seed, (a, b) in enumerate(((0.9, 0.5), (0.92, 0.99))):
        write_seed(tmp_path, f"a{seed}", a, 1e-3, seed)
        write_seed(tmp_path, f"b{seed}", b, 1e-4, seed)
    keep_best(tmp_path, 1, METRIC, 2)
    assert checkpoints(tmp_path) == {"a0": [], "a1": ["b"], "b0": [], "b1": []}


def test_a_setting_that_waits_for_seeds_may_still_win(tmp_path: Path) -> None:
    """Its best seed so far is kept until all have ended, however low its mean is."""
    for seed, value in enumerate((0.9, 0.92)):
        write_seed(tmp_path, f"a{seed}", value, 1e-3, seed)
    write_seed(tmp_path, "b0", 0.5, 1e-4, 0)
    write_seed(tmp_path, "b1", None, 1e-4, 1, state="running")
    keep_best(tmp_path, 1, METRIC, 2)
    assert checkpoints(tmp_path) == {"a0": [], "a1": ["b"], "b0": ["b"], "b1": ["b"]}
    summary = tmp_path / "b1" / "summary.json"
    summary.write_text(summary.read_text().replace("running", "finished").replace("null", "0.6"))
    keep_best(tmp_path, 1, METRIC, 2)
    assert checkpoints(tmp_path) == {"a0": [], "a1": ["b"], "b0": [], "b1": []}
