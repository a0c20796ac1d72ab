"""Control groups, versions 1 and 2: what limits the memory of a container or of a job."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def memory_groups(root: Path = Path("/")) -> list[Path]:
    """Folders of the control groups that this process's memory counts in, from its own group to the outermost one.

    A container may see its own group where the machine's would be (cgroup_namespaces(7)), or only its own one. Groups
    whose folders cannot be seen are left out.
    """
    groups: list[Path] = []
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):  # version 1
                top = root / "sys/fs/cgroup/memory"
            elif not controllers:  # version 2
                top = root / "sys/fs/cgroup"
            else:
                continue
            own = top / path.lstrip("/")
            groups += [folder for folder in (own, *own.parents) if folder.is_relative_to(top) and folder.is_dir()]
    return groups


def memory_left(root: Path = Path("/")) -> int | None:
    """Bytes that the control groups still allow this process and its children; None without a limit."""
    left = [room for group in memory_groups(root) if (room := _room(group)) is not None]
    return min(left, default=None)


def _room(group: Path) -> int | None:
    """The limit less what is used. Cached files that were not read lately do not count: the kernel drops them."""
    for limit, used, cached in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        with suppress(OSError, ValueError):  # "max": no limit
            most = int((group / limit).read_text())
            return max(0, most - int((group / used).read_text()) + (counter(group / "memory.stat", cached) or 0))
    return None


def counter(file: Path, name: str) -> int | None:
    """The number after a name in a file of counters; None if the file or the name is missing."""
    with suppress(OSError, ValueError):
        for line in file.read_text().splitlines():
            word, _, count = line.partition(" ")
            if word == name:
                return int(count)
    return None
