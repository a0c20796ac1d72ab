"""Control groups, versions 1 and 2: what limits the cores and the memory of a container or of a job."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from harness.launch.proc import memory_in

# Version 2, then 1: files of a group with its limit and its usage, and the counter of cached files in its memory.stat.
VERSIONS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def control_groups(controller: str, root: Path = Path("/")) -> list[Path]:
    """Folders of the control groups that limit this process, from its own group to the outermost one.

    `controller` is that of version 1, "cpu" or "memory"; in version 2 a group has all of them. A container may see its
    own group where the machine's would be (cgroup_namespaces(7)), or only its own one. Groups whose folders cannot be
    seen are left out.
    """
    groups: list[Path] = []
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):  # version 1
                top = root / "sys/fs/cgroup" / controller
            elif not controllers:  # version 2
                top = root / "sys/fs/cgroup"
            else:
                continue
            own = top / path.lstrip("/")
            groups += [folder for folder in (own, *own.parents) if folder.is_relative_to(top) and folder.is_dir()]
    return groups


def total_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process and its children may have at most; None where the kernel does not say."""
    limits = [_number(group / limit) for group in control_groups("memory", root) for limit, _, _ in VERSIONS]
    return _smallest([memory_in(root / "proc/meminfo", "MemTotal"), *limits])


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process and its children can get without swapping; None where the kernel does not say.

    The smaller of what the machine has and what the limits of a container or a job leave.
    """
    return _smallest([memory_in(root / "proc/meminfo", "MemAvailable"), *map(_room, control_groups("memory", root))])


def _room(group: Path) -> int | None:
    """The limit less what is used. Cached files that were not read lately do not count: the kernel drops them."""
    for names in VERSIONS:
        limit, used = (_number(group / name) for name in names[:2])
        if limit is not None and used is not None:
            return max(0, limit - used + (counter(group / "memory.stat", names[2]) or 0))
    return None


def _number(file: Path) -> int | None:
    """The number in a file; None if there is another text ("max": no limit) or no file."""
    with suppress(OSError, ValueError):
        return int(file.read_text())
    return None


def _smallest(sizes: list[int | None]) -> int | None:
    return min((size for size in sizes if size is not None), default=None)


def counter(file: Path, name: str) -> int | None:
    """The number after a name in a file of counters; None if the file or the name is missing."""
    with suppress(OSError, ValueError):
        for line in file.read_text().splitlines():
            word, _, count = line.partition(" ")
            if word == name:
                return int(count)
    return None
