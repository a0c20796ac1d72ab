"""What a run records of itself."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.data.image_folder import load_image_folder
from harness.runs.folder import STOP
from harness.runs.logger import RunLogger
from harness.training.distributed import Processes
from tests.test_train import settings


@pytest.fixture
def run_logger(data_folder: Path, tmp_path: Path) -> Iterator[RunLogger]:
    config = settings(data_folder, tmp_path / "runs")
    processes = Processes(config)
    yield RunLogger(config, processes)
    processes.close()


def test_the_manifest_has_every_problem_that_a_run_survives(run_logger: RunLogger) -> None:
    with contextlib.ExitStack() as hold:
        assert run_logger.begin(load_image_folder(run_logger.config), hold)
        run_logger.problem("attention maps", "They could not be drawn: one.")
        run_logger.problem("evidence", "It could not be measured: two.")
    assert run_logger.folder.read("manifest.json")["problems"] == {
        "attention maps": "They could not be drawn: one.",
        "evidence": "It could not be measured: two.",
    }


@pytest.mark.parametrize(
    ("earlier", "starts"),
    [
        ({"earlier_starts": ["Monday"], "started": "Tuesday"}, ["Monday", "Tuesday"]),
        ({"earlier_starts": None, "started": "Tuesday"}, ["Tuesday"]),
        ({"earlier_starts": ["Monday"], "started": None}, ["Monday"]),
        ({}, []),
    ],
)
def test_earlier_starts_are_kept_also_of_a_manifest_with_null_entries(
    run_logger: RunLogger, earlier: dict[str, object], starts: list[str]
) -> None:
    run_logger.folder.write("manifest.json", earlier)
    with contextlib.ExitStack() as hold:
        run_logger.begin(load_image_folder(run_logger.config), hold)
    assert run_logger.folder.read("manifest.json")["earlier_starts"] == starts


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "requested by the file `stop` in its folder"), (b"enough.\n", "enough"), (b"caf\xe9", "caf\ufffd")],
)
def test_the_reason_of_a_stop_may_be_any_text(run_logger: RunLogger, content: bytes, reason: str) -> None:
    with contextlib.ExitStack() as hold:
        run_logger.begin(load_image_folder(run_logger.config), hold)
        (run_logger.folder.path / STOP).write_bytes(content)
        assert run_logger.stop_requested and run_logger.prune_reason(0) == reason


def test_a_command_that_is_not_utf8_is_recorded(run_logger: RunLogger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [os.fsdecode(b"caf\xe9"), "train"])
    with contextlib.ExitStack() as hold:
        run_logger.begin(load_image_folder(run_logger.config), hold)
    assert run_logger.folder.read("manifest.json")["command"] == shlex.join(sys.argv)
