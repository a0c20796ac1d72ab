"""Decoded images on disk: shards, written beside and then named, that are never changed afterwards.

A shard is one file: the pixels of its images, one after another, then an index of them, its length and MAGIC. Images
are found by the digest of the file that they were decoded from, so it does not matter in which folder that lies.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import io
import os
import socket
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from harness.data.pixel_budget import max_pixels
from harness.files import not_a_file
from harness.runs.reading import DAMAGE

SHARD = ".shard"
BUILDING = ".building"  # a shard that is not complete; its name begins with the host that writes it
MAGIC = b"vitshard"
ENTRY = np.dtype([("digest", "S32"), ("offset", "<i8"), ("height", "<i4"), ("width", "<i4")])
IN_USE = "in-use"  # a file that every reader and writer of a store keeps locked
_LENGTH = 8  # bytes of the index's length
_USED_AGAIN = 3600.0  # seconds; the time of last use is not more exact
_LOCKED_AFTER = 60.0  # seconds; a writer that has just made its file may not have locked it yet


class ShardWriter:
    """A shard that is being written. Nobody reads it before `finish`; `discard` removes it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"{socket.gethostname()}-{uuid.uuid4().hex}{BUILDING}"
        self._file = self._path.open("xb", buffering=1 << 20)
        self._entries: list[tuple[bytes, int, int, int]] = []
        self._reasons: list[str] = []  # of the images that cannot be decoded, in order
        self.size = 0  # bytes of pixels
        with contextlib.suppress(OSError):  # shows remove_abandoned that this writer lives
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def add(self, digest: str, pixels: np.ndarray, reason: str = "") -> None:
        """Append one image, uint8 (H, W, 3); an image that cannot be decoded is (0, 0, 3), with the reason."""
        self._file.write(np.ascontiguousarray(pixels).data)
        self._entries.append((digest.encode(), self.size, *pixels.shape[:2]))
        self.size += pixels.size
        if not pixels.size:
            self._reasons.append(reason)

    def finish(self) -> None:
        """Write the index and give the shard its name; from then on it is read."""
        index = io.BytesIO()
        entries, reasons = np.array(self._entries, ENTRY), np.array(self._reasons, np.str_)
        np.savez(index, entries=entries, reasons=reasons, max_pixels=np.array(max_pixels()))
        self._file.write(index.getvalue() + len(index.getvalue()).to_bytes(_LENGTH, "little") + MAGIC)
        self._file.flush()
        os.fsync(self._file.fileno())  # after a power cut, a shard must not hold less than its name promises
        self._path.rename(self._path.with_suffix(SHARD))
        self._file.close()

    def discard(self) -> None:
        with contextlib.suppress(OSError):  # on a full disk, closing fails again
            self._file.close()
        self._path.unlink(missing_ok=True)


@dataclasses.dataclass(frozen=True)
class Store:
    """The complete shards of a folder. Entry i describes one image, in shard `shards[shard[i]]`."""

    shards: tuple[Path, ...]
    digests: np.ndarray  # S32 (M,), sorted
    entries: np.ndarray  # ENTRY (M,), in the same order
    shard: np.ndarray  # int32 (M,)
    reasons: dict[str, str]  # digest -> why the image cannot be decoded
    damaged: tuple[Path, ...]  # shards that cannot be read; their images are decoded again

    def find(self, digests: Sequence[str]) -> np.ndarray:
        """The entry of each digest, int64 (N,); -1 where there is none."""
        wanted = np.array(digests, "S32")
        if not len(self.digests):
            return np.full(len(wanted), -1)
        places = np.searchsorted(self.digests, wanted).clip(max=len(self.digests) - 1)
        return np.where(self.digests[places] == wanted, places, -1)

    def map(self, shard: int) -> np.ndarray:
        """The bytes of a shard, uint8, memory-mapped, read-only: its pixels, then its index."""
        return np.asarray(np.memmap(self.shards[shard], np.uint8, "r"))


def read_store(folder: Path) -> Store:
    """The shards of `folder`, as they are now; none if the folder does not exist."""
    shards, parts, damaged = [], [], []
    reasons: dict[str, str] = {}
    for path in sorted(folder.glob(f"*{SHARD}")):
        try:
            part, part_reasons = _read_index(path)
        except DAMAGE:
            damaged.append(path)
            continue
        shards.append(path)
        parts.append(part)
        bad = part["digest"][part["height"] == 0]
        reasons |= {digest.decode(): reason for digest, reason in zip(bad.tolist(), part_reasons, strict=True)}
    entries = np.concatenate([np.empty(0, ENTRY), *parts])
    shard = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part) for part in parts])
    order = np.argsort(entries["digest"], kind="stable")
    entries = entries[order]
    # The digests again, contiguous: searching a field of `entries` would copy it each time.
    digests = np.ascontiguousarray(entries["digest"])
    return Store(tuple(shards), digests, entries, shard[order], reasons, tuple(damaged))


def new_digests(folder: Path, seen: set[Path]) -> set[str]:
    """The digests in complete shards that are not `seen` yet; adds these shards to it."""
    with tempfile.TemporaryFile(dir=folder):  # after its own change of a folder, an NFS client lists it afresh
        pass
    digests: set[str] = set()
    for path in set(folder.glob(f"*{SHARD}")) - seen:
        seen.add(path)
        with contextlib.suppress(*DAMAGE):
            digests.update(map(bytes.decode, _read_index(path)[0]["digest"].tolist()))
    return digests


def _read_index(path: Path) -> tuple[np.ndarray, list[str]]:
    """The entries of a shard and the reasons of those without pixels; ValueError if it is not as it was written."""
    if reason := not_a_file(path):
        raise ValueError(reason)
    with path.open("rb") as file:
        end = file.seek(-_LENGTH - len(MAGIC), os.SEEK_END)
        length, magic = int.from_bytes(file.read(_LENGTH), "little"), file.read()
        if magic != MAGIC or length > end:
            raise ValueError("the end of the shard is missing")
        file.seek(end - length)
        with np.load(io.BytesIO(file.read(length)), allow_pickle=False) as index:
            entries, reasons, limit = index["entries"], index["reasons"].tolist(), int(index["max_pixels"])
    sizes = 3 * entries["height"].astype(np.int64) * entries["width"]
    ends = np.cumsum(sizes)
    if entries.dtype != ENTRY or not np.array_equal(entries["offset"], ends - sizes) or ends[-1:].sum() != end - length:
        raise ValueError("the index of the shard does not fit its pixels")
    if len(reasons) != (entries["height"] == 0).sum():
        raise ValueError("the index of the shard does not say why images cannot be decoded")
    if limit != max_pixels():  # what could not be decoded then may be now
        return entries[entries["height"] > 0], []
    return entries, reasons


def remove_abandoned(folder: Path) -> None:
    """Delete the incomplete shards of killed writers on this machine: the kernel has released their locks."""
    for path in folder.glob(f"{socket.gethostname()}-*{BUILDING}"):
        with contextlib.suppress(OSError), path.open("rb+") as file:
            if time.time() - path.stat().st_mtime < _LOCKED_AFTER:
                continue
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)


def mark_used(path: Path) -> None:
    """The time of last use of a file in the cache is its modification time; `harness data cache --prune` reads it."""
    with contextlib.suppress(OSError):  # a cache that may only be read
        if time.time() - path.stat().st_mtime > _USED_AGAIN:
            os.utime(path)


def hold(folder: Path) -> IO[str] | None:
    """Keep others from pruning a store while the returned file is open; waits while one is pruned.

    None where that is impossible: the folder cannot be written to, or its disk has no locks.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Open for reading: NFS shares no other lock (flock(2)), and it is enough where another user made the file.
        file = os.fdopen(os.open(folder / IN_USE, os.O_RDONLY | os.O_CREAT, 0o666))
        fcntl.flock(file, fcntl.LOCK_SH)
    except OSError:
        return None
    return file
