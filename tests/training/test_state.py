"""Progress of a run that begins, or resumes with another number of processes."""

from __future__ import annotations

import dataclasses

import pytest

from harness.config import RunConfig
from harness.training.state import Progress, _checked_progress


@pytest.mark.parametrize(
    ("before", "processes", "micro_batch", "expected"),
    [
        ((0, 0, 0), 4, None, 4),  # a new run: its share of 16 images
        ((0, 0, 0), 4, 3, 3),
        ((4, 4, 0), 2, None, 8),  # fewer processes have larger shares
        ((4, 4, 0), 8, None, 2),
        ((4, 2, 2), 2, None, 2),  # memory ran out
        ((4, 2, 2), 16, None, 1),
        ((4, 1, 1), 4, 2, 1),
        ((4, 4, 0), 4, 2, 2),  # resumed with --micro-batch
        ((4, 2, 0), 4, 3, 3),  # with a larger one
        ((4, 2, 0), 4, None, 4),  # without it
    ],
)
def test_the_micro_batch_is_the_largest_unless_memory_ran_out(
    before: tuple[int, int, int], processes: int, micro_batch: int | None, expected: int
) -> None:
    progress = Progress(9, 0, before[0], 9, *before[1:])
    progress.start_with(processes, RunConfig(data="images", weights="none", batch_size=16, micro_batch=micro_batch))
    assert progress.micro_batch == expected
    assert progress.processes == processes
    known = processes == before[0] and expected <= before[1]
    assert progress.steps_since_topology_change == (9 if known else 0)


def test_where_memory_may_have_run_out_in_an_earlier_version_the_micro_batch_does_not_grow() -> None:
    config = RunConfig(data="images", weights="none", batch_size=16)
    stored = dataclasses.asdict(Progress(9, 0, 4, 9, 2))
    assert _checked_progress(stored).micro_batch_limit == 0
    del stored["micro_batch_limit"]
    progress = _checked_progress(stored)
    progress.start_with(4, config)
    assert (progress.micro_batch, progress.micro_batch_limit) == (2, 2)
    whole_share = _checked_progress(stored | {"micro_batch": 4})
    whole_share.start_with(2, config)  # two of the four processes: their shares are larger
    assert (whole_share.micro_batch, whole_share.micro_batch_limit) == (8, 0)
