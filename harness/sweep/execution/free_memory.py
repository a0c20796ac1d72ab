"""Whether the machine has memory for one more trial like a running one, from /proc (proc(5))."""

from __future__ import annotations

from pathlib import Path

from harness.launch.proc import fields

SESSION = 3  # its place in `fields`


def has_memory_for_another(session: int) -> bool:
    """Whether as much memory is available as the processes of this session had at most; False where that is unknown.

    A trial begins a session (setsid), to which its ranks belong. Pages that they share are counted for each of them.
    """
    available = available_memory()
    return available is not None and available >= peak_memory(session)


def available_memory() -> int | None:
    """Bytes that programs can get without swapping; None where the kernel does not say."""
    return _number(Path("/proc/meminfo"), "MemAvailable")


def peak_memory(session: int) -> int:
    """Bytes: the largest resident size so far of each living process of a session, added up."""
    processes = [path for path in Path("/proc").iterdir() if path.name.isdigit()]
    members = [path for path in processes if fields(path.name)[SESSION : SESSION + 1] == [str(session)]]
    return sum(_number(path / "status", "VmHWM") or 0 for path in members)


def _number(file: Path, name: str) -> int | None:
    """The number of kilobytes after a name, in bytes; None if the file or the name is missing."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)
