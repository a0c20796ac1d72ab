"""The jobs of a sweep in Slurm's queue: listed and cancelled by `harness sweep status` and `stop`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from harness.errors import HarnessError, printable
from harness.slurm import queue
from harness.slurm.queue import QueuedJob
from harness.slurm.submission import comment_of, logs_of
from harness.sweep.trial_table import as_text
from reports.columns import Column


def jobs_of(folder: Path) -> list[QueuedJob]:
    """This user's jobs of the sweep in a folder; none, with a line on stderr, if Slurm does not answer."""
    # A sweep that was submitted has the folder of its jobs' output.
    if not (queue.is_installed() and logs_of(folder).is_dir()):
        return []
    try:
        return queue.jobs(comment_of(folder))
    except HarnessError as error:
        print(f"The jobs of this sweep are not known: {error}", file=sys.stderr)
        return []


def cancel_jobs_of(folder: Path, *states: str) -> list[str]:
    """Cancel the jobs of a sweep that are in these states, by default all; returns their ids."""
    ids = [job.id for job in jobs_of(folder) if job.state in states or not states]
    queue.cancel(ids)
    return ids


def jobs_table(jobs: Sequence[QueuedJob]) -> str:
    """One line per task, as text."""
    cells = {
        "job": [job.id for job in jobs],
        "state": [job.state for job in jobs],
        "node": [job.nodes for job in jobs],
        "time left": [job.time_left for job in jobs],
        "note": ["" if job.reason == "None" else job.reason for job in jobs],
    }
    return as_text(
        [Column(name, tuple(map(printable, column)), is_text=name != "time left") for name, column in cells.items()]
    )
