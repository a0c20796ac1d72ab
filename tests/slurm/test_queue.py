"""Calls of Slurm's programs, with programs that answer as Slurm does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.slurm import jobs, queue

SQUEUE = """\
7_0|RUNNING|n1|9:00|None|harness sweep /a|b
7_1|PENDING||10:00|Resources|harness sweep /a|b
8|RUNNING|n2|1:00|None|harness sweep /a
9|RUNNING|n2|1:00|None|(null)
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """A function that puts a program on the search path; it writes its arguments to a file."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def write(name: str, body: str) -> Path:
        calls = tmp_path / f"{name}.calls"
        (tmp_path / name).write_text(f'#!/bin/sh\necho "$@" >> {calls}\n{body}\n')
        (tmp_path / name).chmod(0o755)
        return calls

    return write


def test_jobs_of_a_sweep_are_those_with_its_comment(program: Callable[[str, str], Path]) -> None:
    program("squeue", f"cat <<'END'\n{SQUEUE}END")
    assert queue.jobs("harness sweep /a|b") == [
        queue.QueuedJob("7_0", "RUNNING", "n1", "9:00", "None"),
        queue.QueuedJob("7_1", "PENDING", "", "10:00", "Resources"),
    ]
    assert [job.id for job in queue.jobs("harness sweep /a")] == ["8"]
    program("squeue", "printf '9|RUNNING|n1|9:00|None|of another program,\\nin two lines\\n'")
    assert queue.jobs("harness sweep /a") == []


def test_the_id_of_a_submitted_job(program: Callable[[str, str], Path]) -> None:
    program("sbatch", "echo '12;other cluster'")
    assert queue.submit(Path("x.sh")) == "12"


@pytest.mark.parametrize(("text", "expected"), [("10:00", 600.0), ("1-00:00:00", 86_400.0), ("UNLIMITED", None)])
def test_time_limits(program: Callable[[str, str], Path], text: str, expected: float | None) -> None:
    program("squeue", f"echo {text}")
    assert queue.time_limit("7_0") == expected


def test_slurms_reason_is_passed_on_in_one_line(program: Callable[[str, str], Path]) -> None:
    program("sbatch", "printf 'sbatch: error: no partition x\\nsbatch: error: Batch\\n' >&2; exit 1")
    with pytest.raises(HarnessError, match=r"^sbatch failed: no partition x Batch$"):
        queue.submit(Path("x.sh"))


def test_cancelling_nothing_calls_nothing(program: Callable[[str, str], Path]) -> None:
    calls = program("scancel", "")
    queue.cancel([])
    assert not calls.exists()
    queue.cancel(["7_0", "8"])
    assert calls.read_text() == "7_0 8\n"


def test_status_names_a_silent_controller_in_one_line(
    program: Callable[[str, str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = program("squeue", "echo 'squeue: error: no controller' >&2; exit 1")
    assert jobs.jobs_of(tmp_path / "runs") == []
    assert not calls.exists(), "a sweep that was not submitted has no jobs"
    (tmp_path / "runs" / "slurm").mkdir(parents=True)
    assert jobs.jobs_of(tmp_path / "runs") == []
    assert capsys.readouterr().err == "The jobs of this sweep are not known: squeue failed: no controller\n"
