"""Processes that the kernel has killed because memory ran out, as its counters show."""

from __future__ import annotations

import signal
from pathlib import Path

from harness.launch.control_groups import counter, memory_groups

# Exit codes of a process that SIGKILL has ended: of this one, and of one that a rank or a shell reports.
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)


def memory_kills(root: Path = Path("/")) -> int | None:
    """How many there were in this process's control group, else on the whole machine; None if neither is known.

    A control group counts the kills among its processes, also those at a container's limit: in memory.events
    (docs.kernel.org, cgroup-v2), or in memory.oom_control of version 1. /proc/vmstat counts those of the machine.
    """
    for group in memory_groups(root):
        for name in ("memory.events", "memory.oom_control"):
            if (count := counter(group / name, "oom_kill")) is not None:
                return count
    return counter(root / "proc/vmstat", "oom_kill")
