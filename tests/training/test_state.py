"""Progress of a run that begins, or resumes with another number of processes."""

from __future__ import annotations

import pytest

from harness.config import RunConfig
from harness.training.state import Progress


@pytest.mark.parametrize(
    ("before", "processes", "micro_batch", "expected"),
    [
        ((0, 0), 4, None, 4),  # a new run: its share of 16 images
        ((0, 0), 4, 3, 3),
        ((4, 4), 2, None, 8),  # fewer processes have larger shares
        ((4, 4), 8, None, 2),
        ((4, 2), 2, None, 2),  # memory ran out
        ((4, 2), 16, None, 1),
        ((4, 4), 4, 2, 2),  # resumed with --micro-batch
        ((4, 1), 4, 2, 1),
    ],
)
def test_the_micro_batch_is_the_largest_unless_memory_ran_out(
    before: tuple[int, int], processes: int, micro_batch: int | None, expected: int
) -> None:
    progress = Progress(step=9, processes=before[0], micro_batch=before[1], steps_since_topology_change=9)
    progress.start_with(processes, RunConfig(data="images", weights="none", batch_size=16, micro_batch=micro_batch))
    assert progress.micro_batch == expected
    assert progress.processes == processes
    assert progress.steps_since_topology_change == (9 if processes == before[0] else 0)
