"""What the cache directory holds, how long each part has not been used, and what may be removed."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from harness.data.cache import DECODED, cache_directory
from harness.data.cache_build import readable
from harness.data.digests import FOLDER as DIGESTS
from harness.data.near_copies import FOLDER as NEAR_COPIES
from harness.data.store import BUILDING, IN_USE, read_store
from harness.runs.rules import printable

FEATURES = "features"  # of frozen backbones, written by harness.probe
DAY = 86400.0


@dataclasses.dataclass(frozen=True)
class Item:
    """One file of the cache."""

    path: Path
    group: str  # what it is shown under
    bytes: int
    images: int
    last_use: float  # seconds since 1970
    store: Path | None = None  # the folder whose lock shows whether a run uses it
    waste: bool = False  # nothing reads it again


@dataclasses.dataclass(frozen=True)
class Group:
    """A line of the table: items of one kind."""

    name: str
    images: int
    bytes: int
    last_use: float
    in_use: bool


def contents(cache_dir: str | Path | None = None) -> list[Item]:
    """Everything that is known to be part of a cache; files of others are not looked at."""
    directory = cache_directory(cache_dir)
    items = [item for folder in sorted(directory.glob(f"{DECODED}/*-*-*/")) for item in _decoded(folder)]
    for files, group in (
        (f"{FEATURES}/*.safetensors", "features of frozen backbones"),
        (f"{DIGESTS}/*.npz", "digests"),
        (f"{NEAR_COPIES}/*.npz", "near-copies"),
    ):
        items += [_item(path, group) for path in sorted(directory.glob(files))]
    return items


def groups(items: Iterable[Item]) -> list[Group]:
    """Items by their group, in order."""
    members: dict[str, list[Item]] = {}
    for item in items:
        members.setdefault(item.group, []).append(item)
    return [
        Group(
            name,
            sum(item.images for item in same),
            sum(item.bytes for item in same),
            max(item.last_use for item in same),
            any(_in_use(folder) for folder in {item.store for item in same if item.store}),
        )
        for name, same in members.items()
    ]


def text(cache_dir: str | Path | None, items: Sequence[Item]) -> str:
    """The table for a terminal."""
    rows = [("", "images", "size", "last use", "")]
    for group in groups(items):
        count = f"{group.images:,}" if group.images else ""
        used = time.strftime("%Y-%m-%d", time.localtime(group.last_use))
        rows.append((group.name, count, readable(group.bytes), used, "in use" if group.in_use else ""))
    total = readable(sum(item.bytes for item in items))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    table = [
        f"  {name:{widths[0]}}  {count:>{widths[1]}}  {size:>{widths[2]}}  {used:{widths[3]}}  {note}".rstrip()
        for name, count, size, used, note in rows
    ]
    return "\n".join([f"{printable(cache_directory(cache_dir))}: {total}", *(table if items else [])])


def to_json(cache_dir: str | Path | None, items: Sequence[Item]) -> str:
    table = [dataclasses.asdict(group) for group in groups(items)]
    return json.dumps({"folder": str(cache_directory(cache_dir)), "groups": table}, indent=2)


def prunable(items: Sequence[Item], older_than: float | None = None, larger_than: float | None = None) -> list[Item]:
    """What to remove: all waste, what was not used for `older_than` days, and then, least recently used first, what
    makes the rest larger than `larger_than` bytes."""
    now = time.time()
    chosen = [item for item in items if item.waste]
    rest = sorted((item for item in items if not item.waste), key=lambda item: item.last_use)
    if older_than is not None:
        chosen += [item for item in rest if now - item.last_use > older_than * DAY]
        rest = [item for item in rest if now - item.last_use <= older_than * DAY]
    if larger_than is not None:
        excess = sum(item.bytes for item in rest) - larger_than
        for item in rest:
            if excess > 0:
                chosen.append(item)
                excess -= item.bytes
    return chosen


def remove(items: Iterable[Item]) -> tuple[list[Item], list[Item]]:
    """Remove items, except those of stores that a running process uses; returns what was removed and what was kept."""
    removed: list[Item] = []
    kept: list[Item] = []
    by_store: dict[Path | None, list[Item]] = {}
    for item in items:
        by_store.setdefault(item.store, []).append(item)
    for folder, members in by_store.items():
        with _alone(folder) as alone:
            for item in members:
                # Used since it was listed: a run has begun and ended in between.
                gone = alone and _last_use(item.path) <= item.last_use and _remove(item.path)
                (removed if gone else kept).append(item)
    return removed, kept


def _decoded(folder: Path) -> list[Item]:
    """The shards of one resize rule."""
    store = read_store(folder)
    size, interpolation, *_ = folder.name.split("-")
    group = f"images, short side {size}, {interpolation}"
    counts = [int((store.shard == number).sum()) for number in range(len(store.shards))]
    items = [_item(path, group, images, folder) for path, images in zip(store.shards, counts, strict=True)]
    items += [_item(path, "damaged", store=folder, waste=True) for path in store.damaged]
    return items + [_item(path, "incomplete", store=folder, waste=True) for path in sorted(folder.glob(f"*{BUILDING}"))]


def _item(path: Path, group: str, images: int = 0, store: Path | None = None, waste: bool = False) -> Item:
    with contextlib.suppress(OSError):
        status = path.stat()
        return Item(path, group, status.st_size, images, status.st_mtime, store, waste)
    return Item(path, group, 0, images, 0.0, store, waste)


def _last_use(path: Path) -> float:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def _remove(path: Path) -> bool:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        return True
    return False


def _in_use(folder: Path) -> bool:
    with _alone(folder) as alone:
        return not alone


@contextlib.contextmanager
def _alone(folder: Path | None) -> Iterator[bool]:
    """Whether no process reads or writes a store; within the block none begins to. False on a disk without locks."""
    if folder is None:
        yield True
        return
    path = folder / IN_USE
    try:
        # NFS locks a file against others only if it is open for writing (flock(2)).
        file = path.open("r+" if os.access(path, os.W_OK) else "r")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        yield False
        return
    with file:
        yield True
