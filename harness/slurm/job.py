"""What a job asks of Slurm: tasks, nodes, GPUs, time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from harness.errors import printable

# Seconds from Slurm's warning (SIGTERM) to the time limit. Trials have 30 s to save their state; sending them the
# signal, requeueing the job and Slurm's own delay of up to 60 s (sbatch(1), --signal) need the rest.
WARNING_SECONDS = 120

# sbatch(1), --time: minutes, minutes:seconds, hours:minutes:seconds, days-hours, and so on.
TIME = re.compile(r"\d+(:\d+){0,2}|\d+-\d+(:\d+){0,2}", re.ASCII)

# Partitions, accounts and kinds of GPU. A job may name several partitions.
NAME = re.compile(r"[\w.,+@:-]+", re.ASCII)
GPUS = re.compile(r"([A-Za-z][\w.-]*:)?\d+", re.ASCII)


@dataclass(frozen=True)
class Job:
    time: str  # limit, as sbatch takes it
    tasks: int = 1  # of the array: workers of a sweep
    array_limit: int | None = None  # tasks at a time; None: all
    nodes: int = 1  # of one run
    gpus: str = "0"  # per task or node: "4" or "a100:4"
    cpus: int | None = None  # per task or node; None: the site's default
    partition: str | None = None
    account: str | None = None

    @property
    def gpu_count(self) -> int:
        return int(self.gpus.rpartition(":")[2])

    def problems(self) -> Iterator[str]:
        if not TIME.fullmatch(self.time):
            yield (
                f"--time is {printable(self.time)!r}; give it as sbatch takes it: 90 (minutes), 4:00:00 or 2-12:00:00 "
                "(days-hours:minutes:seconds)."
            )
        elif seconds(self.time) <= WARNING_SECONDS:
            yield f"--time {self.time} is too short: runs are stopped {WARNING_SECONDS} s before it. Give 5 or more."
        for option, count in (("--tasks", self.tasks), ("--nodes", self.nodes)):
            if count < 1:
                yield f"{option} is {count}; it must be at least 1."
        for option, limit in (("--array-limit", self.array_limit), ("--cpus", self.cpus)):
            if limit is not None and limit < 1:
                yield f"{option} is {limit}; it must be at least 1."
        if not GPUS.fullmatch(self.gpus):
            yield f"--gpus is {printable(self.gpus)!r}; give a number, or a kind and a number such as a100:4."
        for option, name in (("--partition", self.partition), ("--account", self.account)):
            if name is not None and not NAME.fullmatch(name):
                yield f"{option} is {printable(name)!r}; a name has letters, digits, '_', '-', '.', '+', '@' and ','."


def seconds(time: str) -> int:
    """A time limit of sbatch in seconds: "90" is 90 minutes, "1-2" a day and two hours."""
    days, dash, rest = time.rpartition("-")
    numbers = [int(number) for number in rest.split(":")]
    if dash:
        hours, minutes, last = [*numbers, 0, 0][:3]
    elif len(numbers) == 3:
        hours, minutes, last = numbers
    else:
        hours, minutes, last = 0, *[*numbers, 0][:2]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + last
