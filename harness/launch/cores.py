"""How many cores and threads this process may use: by affinity, the CPU quota of its container, and OMP_NUM_THREADS."""

from __future__ import annotations

import os
import platform
from collections.abc import MutableMapping
from pathlib import Path

from harness.launch.control_groups import control_groups

ROOT = Path("/")


def usable_cores() -> int:
    """Cores that this process may use, which in a container or a batch job are fewer than the machine has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, int(quota)))


def cpu_name() -> str:
    """The model of the processor, or its architecture where the system has no name for it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def default_threads(processes: int) -> int:
    """CPU threads for each of several processes: an equal share of the cores, at most OMP_NUM_THREADS."""
    share = max(1, usable_cores() // processes)
    limit = omp_threads()
    return share if limit is None else min(share, limit)


def limit_spinning(environment: MutableMapping[str, str]) -> None:
    """Let compute threads sleep soon while they wait for one another; the user's own variables of OpenMP win.

    By default, GNU OpenMP, which PyTorch has on Linux, lets a waiting thread spin 300,000 times: about 15 ms, in which
    the thread it waits for could run if other programs use the cores. Where it sees more threads than
    cores, GNU chooses 100, and 1,000 with OMP_WAIT_POLICY=active (libgomp manual, GOMP_SPINCOUNT). OpenMP reads it when
    torch is imported.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", "1000")


def omp_threads() -> int | None:
    """OMP_NUM_THREADS; None if it is not set or not a number above 0."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # a list has a number for each nesting level
    return int(first) if first.isdecimal() and int(first) > 0 else None


def cpu_quota() -> float | None:
    """Cores' worth of time that this process's control groups allow; None without a limit or outside Linux."""
    limits = [limit for group in control_groups("cpu", ROOT) if (limit := _limit(group)) is not None]
    return min(limits, default=None)


def _limit(group: Path) -> float | None:
    """The limit of a group of version 2 or 1 (kernel.org: cgroup-v2, sched-bwc)."""
    return _ratio(
        _text(group / "cpu.max") or f"{_text(group / 'cpu.cfs_quota_us')} {_text(group / 'cpu.cfs_period_us')}"
    )


def _ratio(text: str) -> float | None:
    """50000 100000 -> 0.5; None for "max 100000", for -1 and for anything else."""
    numbers = text.split()
    if len(numbers) != 2 or not all(number.isdecimal() and int(number) > 0 for number in numbers):
        return None
    return int(numbers[0]) / int(numbers[1])


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
