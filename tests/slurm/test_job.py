"""What a job asks of Slurm is checked before anything is submitted, all problems together."""

from __future__ import annotations

import pytest

from harness.slurm.job import Job, seconds


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("90", 5400),
        ("90:30", 5430),
        ("4:00:00", 14_400),
        ("1-2", 93_600),
        ("1-2:30", 95_400),
        ("2-12:00:05", 216_005),
    ],
)
def test_times_mean_what_sbatch_makes_of_them(time: str, expected: int) -> None:
    assert seconds(time) == expected
    assert list(Job(time).problems()) == []


@pytest.mark.parametrize("time", ["4h", "", "1:2:3:4", "-1", "4:00:00 --partition=x", "4:00:00\n", "١٠"])
def test_other_times_are_refused(time: str) -> None:
    [problem] = Job(time).problems()
    assert problem.startswith("--time is ")
    assert "\n" not in problem


def test_all_problems_are_reported_together() -> None:
    job = Job("2", tasks=0, array_limit=0, nodes=0, gpus="one", cpus=-1, partition="a b", account="x\n#SBATCH --wrap=y")
    starts = [problem.split()[0] for problem in job.problems()]
    assert sorted(starts) == sorted(
        ["--time", "--tasks", "--array-limit", "--nodes", "--gpus", "--cpus", "--partition", "--account"]
    )


def test_kinds_of_gpu() -> None:
    assert (Job("9", gpus="a100:4").gpu_count, Job("9", gpus="4").gpu_count, Job("9").gpu_count) == (4, 4, 0)
    assert list(Job("9", gpus="a100:4", partition="gpu,gpu-long", account="team_1.2@x").problems()) == []
