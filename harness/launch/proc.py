"""Facts about processes and the machine's memory from /proc (proc(5)). Importing this module is cheap."""

from __future__ import annotations

from pathlib import Path


def fields(pid: int | str) -> list[str]:
    """State, parent, process group, session and so on of /proc/PID/stat, from field 3 on; empty when it is gone."""
    try:
        # The name before them stands in parentheses, and may hold blanks and parentheses itself (proc_pid_stat(5)).
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def memory_in(file: str | Path, name: str) -> int | None:
    """Bytes after a name in meminfo or a process's status; None if the file or the name is missing."""
    try:
        lines = Path(file).read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


def is_running(pid: int | str) -> bool:
    """Whether the process is there, and not only its entry, waiting to be collected."""
    found = fields(pid)
    return bool(found) and found[0] not in "ZX"
