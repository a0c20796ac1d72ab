"""Processes that the kernel has killed because memory ran out, as its counters show."""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path

# Exit codes of a process that SIGKILL has ended: of this one, and of one that a rank or a shell reports.
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)


def memory_kills(root: Path = Path("/")) -> int | None:
    """How many there were in this process's control group, else on the whole machine; None if neither is known.

    A control group counts the kills among its processes, also those at a container's limit: in memory.events
    (docs.kernel.org, cgroup-v2), or in memory.oom_control of version 1. /proc/vmstat counts those of the machine.
    """
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            groups = root / "sys/fs/cgroup"
            file = groups / path.lstrip("/") / "memory.events"
            if controllers == "memory":
                file = groups / "memory" / path.lstrip("/") / "memory.oom_control"
            elif controllers:
                continue
            if (count := _counter(file)) is not None:
                return count
    return _counter(root / "proc/vmstat")


def _counter(file: Path) -> int | None:
    """The number after `oom_kill`; None if the file or the word is missing."""
    with suppress(OSError, ValueError):
        for line in file.read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return None
