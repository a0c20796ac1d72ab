"""Building a pixel cache: decode on every core, write in order, show up only when complete."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from harness.data.decode import DecodeError, header, read
from harness.data.parallel import on_every_core
from harness.data.resize import Resize, decode_resized, resized_shape
from harness.errors import DataError
from harness.runs.rules import printable

FORMAT = 3  # of the files in a cache; counts up when they or the decoding change
BUILDING = ".building-"  # between the name of a cache and what marks the process that is building it
SAMPLE = 512  # images whose headers are read to estimate the size of a cache
FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclasses.dataclass(frozen=True)
class _Entry:
    """What the index says of one image: (0, 0) and a reason if it is bad; `unread` if not even its bytes came."""

    height: int
    width: int
    digest: str = ""
    reason: str = ""
    unread: bool = False


def build(folder: Path, root: Path, files: Sequence[str], *, resize: Resize, progress: bool) -> None:
    """Decode `files` under `root` into `folder`, which appears whole or not at all."""
    needed = estimate(root, files, resize)
    free = shutil.disk_usage(folder.parent).free
    if needed > free:
        raise DataError(_no_room(folder.parent, f"take about {readable(needed)}, but {readable(free)} is free"))
    beside = folder.with_name(f"{folder.name}{BUILDING}{socket.gethostname()}-{os.getpid()}")
    try:
        beside.mkdir()
        with (beside / "pixels.bin").open("wb", buffering=1 << 20) as file:
            index = _decode_into(file, root, files, resize, progress)
            _flush(file)
        _write_index(beside, index)
        beside.rename(folder)
    except OSError as error:
        if error.errno in FULL:
            raise DataError(_no_room(folder.parent, "filled the disk")) from error
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # another builder, where locks do not work, was faster
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def estimate(root: Path, files: Sequence[str], resize: Resize) -> int:
    """Bytes that the cache will take, from the headers of all images or of an even sample of many."""
    sizes = []
    for position in np.linspace(0, len(files) - 1, min(SAMPLE, len(files))).astype(int):
        try:
            head = header(root / files[position])
        except DecodeError:
            continue
        width, height = resized_shape(head.width, head.height, resize)
        sizes.append(width * height * 3)
    return int(np.mean(sizes) * len(files)) if sizes else 0


def readable(count: int) -> str:
    """Bytes in a unit that suits them."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _decode_into(file: BinaryIO, root: Path, files: Sequence[str], resize: Resize, progress: bool) -> list[_Entry]:
    """Write every image's pixels to `file`, one after another."""
    index = []
    decoded = on_every_core(
        lambda path: _decode(root / path, resize), files, title="decoding images, once", progress=progress
    )
    for entry, pixels in decoded:
        _write(file, pixels)
        index.append(entry)
    return index


def _decode(path: Path, resize: Resize) -> tuple[_Entry, np.ndarray]:
    nothing = np.empty((0, 0, 3), np.uint8)
    try:
        content = read(path)
    except DecodeError as error:
        return _Entry(0, 0, reason=error.reason, unread=True), nothing
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    try:
        pixels = np.asarray(decode_resized(content, resize))
    except DecodeError as error:
        return _Entry(0, 0, digest, error.reason), nothing
    return _Entry(pixels.shape[0], pixels.shape[1], digest), pixels


def _write(file: BinaryIO, pixels: np.ndarray) -> None:
    file.write(np.ascontiguousarray(pixels).data)


def _write_index(folder: Path, index: Sequence[_Entry]) -> None:
    """Shapes and digests, then meta.json, whose presence says that the rest is there."""
    heights = np.array([entry.height for entry in index], np.int32)
    widths = np.array([entry.width for entry in index], np.int32)
    ends = np.cumsum(heights.astype(np.int64) * widths * 3)
    with (folder / "index.npz").open("wb") as file:
        np.savez(
            file,
            offsets=np.append(0, ends)[:-1],
            heights=heights,
            widths=widths,
            digests=np.array([entry.digest.encode() for entry in index], "S32"),
        )
        _flush(file)
    meta = {
        "bad": {position: entry.reason for position, entry in enumerate(index) if entry.reason},
        "unread": [position for position, entry in enumerate(index) if entry.unread],
    }
    with (folder / "meta.json").open("wb") as file:
        file.write(json.dumps(meta).encode())
        _flush(file)


def _flush(file: BinaryIO) -> None:
    """Down to the disk: after a power cut, a folder that was renamed must not hold less than it seems to."""
    file.flush()
    os.fsync(file.fileno())


def _no_room(directory: Path, what: str) -> str:
    return (
        f"Decoded images {what} in {printable(directory)}. Make room there, or name a folder on another disk with "
        "--cache-dir or $HARNESS_CACHE_DIR."
    )
