"""Memory of trials: whether there is enough for one more, and whether the kernel killed one for lack of it."""

from __future__ import annotations

import signal
from pathlib import Path

from harness.launch.control_groups import available_memory, control_groups, counter
from harness.launch.proc import fields, memory_in

# Exit codes of a process that SIGKILL has ended: of this one, and of one that a rank or a shell reports.
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)

SESSION = 3  # its place in `fields`


def memory_kills(root: Path = Path("/")) -> int | None:
    """How many processes the kernel has killed for lack of memory, as its counters show; None if unknown.

    A control group counts the kills among its processes, also those at a container's limit: in memory.events
    (docs.kernel.org, cgroup-v2), or in memory.oom_control of version 1. /proc/vmstat counts those of the machine.
    """
    for group in control_groups("memory", root):
        for name in ("memory.events", "memory.oom_control"):
            if (count := counter(group / name, "oom_kill")) is not None:
                return count
    return counter(root / "proc/vmstat", "oom_kill")


def has_memory_for_another(session: int) -> bool:
    """Whether as much memory is available as the processes of this session had at most; False where that is unknown.

    A trial begins a session (setsid), to which its ranks belong. Pages that they share are counted for each of them.
    """
    available = available_memory()
    return available is not None and available >= peak_memory(session)


def peak_memory(session: int) -> int:
    """Bytes: the largest resident size so far of each living process of a session, added up (proc(5))."""
    processes = [path for path in Path("/proc").iterdir() if path.name.isdigit()]
    members = [path for path in processes if fields(path.name)[SESSION : SESSION + 1] == [str(session)]]
    return sum(memory_in(path / "status", "VmHWM") or 0 for path in members)
