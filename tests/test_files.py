"""Atomic writes: what readers and other writers see."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.files import remove_leftovers, replacing, umask
from harness.runs.rules import temporary_name


def test_two_writers_with_one_process_id_write_to_two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines or containers that share a folder may have the same process ids."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    path = tmp_path / "sweep.yaml"
    with replacing(path) as first:
        first.write_text("first")
        with replacing(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
        assert first.read_text() == "first"
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    replace = Path.replace

    def flushed(descriptor: int) -> None:
        place = Path(f"/proc/self/fd/{descriptor}").readlink()
        done.append("flush the folder" if place == tmp_path else f"flush {place.read_text()}")

    def renamed(self: Path, target: Path) -> Path:
        done.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", renamed)
    with replacing(tmp_path / "metrics.json") as beside:
        beside.write_text("whole")
    assert done == ["flush whole", "rename", "flush the folder"]


def test_reading_the_umask_leaves_it(tmp_path: Path) -> None:
    earlier = os.umask(0o027)
    try:
        assert umask() == 0o027
        with replacing(tmp_path / "metrics.json") as beside:
            beside.write_text("whole")
        assert (tmp_path / "metrics.json").stat().st_mode & 0o777 == 0o640
    finally:
        assert os.umask(earlier) == 0o027


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    left = temporary_name(tmp_path / "metrics.json")
    left.write_text("half")
    (tmp_path / "metrics.json").write_text("whole")
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]
