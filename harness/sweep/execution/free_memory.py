"""Whether there is memory for one more trial like a running one, from /proc (proc(5)) and control groups."""

from __future__ import annotations

from pathlib import Path

from harness.launch.control_groups import available_memory
from harness.launch.proc import fields, memory_in

SESSION = 3  # its place in `fields`


def has_memory_for_another(session: int) -> bool:
    """Whether as much memory is available as the processes of this session had at most; False where that is unknown.

    A trial begins a session (setsid), to which its ranks belong. Pages that they share are counted for each of them.
    """
    available = available_memory()
    return available is not None and available >= peak_memory(session)


def peak_memory(session: int) -> int:
    """Bytes: the largest resident size so far of each living process of a session, added up."""
    processes = [path for path in Path("/proc").iterdir() if path.name.isdigit()]
    members = [path for path in processes if fields(path.name)[SESSION : SESSION + 1] == [str(session)]]
    return sum(memory_in(path / "status", "VmHWM") or 0 for path in members)
