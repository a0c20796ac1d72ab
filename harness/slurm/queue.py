"""Slurm's queue: submit, list, cancel and requeue jobs with sbatch, squeue, scancel and scontrol.

Nothing here needs accounting (sacct), which many clusters do not offer.
"""

from __future__ import annotations

import getpass
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError, printable
from harness.slurm.job import TIME, seconds

# A controller that is busy answers late.
TIMEOUT = 60.0

# squeue(1), --format: id (of an array task: 7_2), state, nodes, time left, reason; the comment, which may contain "|".
FIELDS = "%i|%T|%N|%L|%r|%k"

# States of a job that has not begun, or of a task that waits to begin again.
PENDING = "PENDING"


@dataclass(frozen=True)
class QueuedJob:
    """A job, or a task of a job array, that waits or runs."""

    id: str
    state: str  # PENDING, RUNNING, COMPLETING, ...
    nodes: str  # empty while it waits
    time_left: str
    reason: str  # why it waits


def is_installed() -> bool:
    return shutil.which("squeue") is not None


def require(program: str) -> None:
    """Raises HarnessError if this machine cannot use Slurm."""
    if shutil.which(program) is None:
        raise HarnessError(
            f"{program} was not found, so Slurm cannot be used here. Use a login node of the cluster; "
            "`harness slurm script` prints the batch script anywhere."
        )


def submit(script: Path) -> str:
    """Submit a batch script; returns the id of the job. Raises HarnessError with sbatch's reason."""
    return _output("sbatch", "--parsable", str(script)).partition(";")[0]


def jobs(comment: str) -> list[QueuedJob]:
    """This user's jobs with this comment, one entry per task. Raises HarnessError."""
    lines = _output("squeue", "--array", "--noheader", f"--user={getpass.getuser()}", f"--format={FIELDS}").splitlines()
    rows = [line.split("|", 5) for line in lines]
    return [QueuedJob(*row[:5]) for row in rows if row[5:] == [comment]]  # a comment of another job may have lines


def state(job: str) -> str:
    """State of a job; empty if Slurm does not know it. Raises HarnessError."""
    return _output("squeue", "--noheader", f"--jobs={job}", "--format=%T")


def time_limit(job: str) -> float | None:
    """Time limit of a job in seconds; None without one. Raises HarnessError."""
    text = _output("squeue", "--noheader", f"--jobs={job}", "--format=%l")
    return float(seconds(text)) if TIME.fullmatch(text) else None


def cancel(ids: Sequence[str]) -> None:
    """Cancel jobs or tasks. Raises HarnessError."""
    if ids:
        _output("scancel", *ids)


def requeue(job: str) -> None:
    """End a running job and queue it again with the same id. Raises HarnessError."""
    _output("scontrol", "requeue", job)


def _output(program: str, *arguments: str) -> str:
    require(program)
    try:
        ended = subprocess.run(
            [program, *arguments], capture_output=True, text=True, errors="replace", timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise HarnessError(f"{program} did not answer within {TIMEOUT:.0f} s. Repeat the command later.") from None
    if ended.returncode != 0:
        lines = [line.removeprefix(f"{program}: error: ") for line in ended.stderr.splitlines() if line.strip()]
        raise HarnessError(f"{program} failed: {printable(' '.join(lines) or f'exit code {ended.returncode}')}")
    return ended.stdout.strip()
