"""What the image files of a folder hold, remembered so that a file is opened again only if it may have changed."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from harness.data.cache import cache_directory
from harness.data.cache_build import digest_of
from harness.data.decode import DecodeError, decode_image
from harness.data.duplicates import NO_GRID, grid_of
from harness.data.parallel import on_every_core, progress_of
from harness.data.store import mark_used
from harness.errors import HarnessError
from harness.files import not_a_file, replacing
from harness.runs.reading import DAMAGE

# Three integers of 63 bits that change when a file may have: size in bytes, modification time in ns, inode.
Stamp = tuple[int, int, int]

FOLDER = "digests"  # in the cache directory: one table per data folder
_SLOW = 1_000  # files from which on reading them is announced
# A JPEG is decoded at a fraction of its size if twice this short side is left; the same in `harness data check`.
SHORT_SIDE = 256


class KnownFile(NamedTuple):
    """What is remembered of a file; the digest of one that cannot be read is "", the grid of no image is black."""

    stamp: Stamp
    digest: str
    grid: bytes  # GRID * GRID cells of brightness, by which near-copies are found


def stamp_of(status: os.stat_result) -> Stamp:
    # GlusterFS, mergerfs and others number their inodes with all 64 bits; a damaged time may need more, too.
    return status.st_size, status.st_mtime_ns % 2**63, status.st_ino % 2**63


def known_files(
    root: Path,
    stamps: Mapping[str, Stamp],
    read: Callable[[str], bytes],
    cache_dir: str | os.PathLike[str] | None = None,
) -> dict[str, KnownFile]:
    """The digest and the grid of each file in `stamps`; only files with a new stamp are read."""
    path = table_path(root, cache_dir)
    table = _load(path)
    mark_used(path)
    known = {file: table[file] for file, stamp in stamps.items() if file in table and table[file].stamp == stamp}
    unknown = [file for file in stamps if file not in known]
    if unknown:
        with progress_of("reading images, once", len(unknown), show=len(unknown) >= _SLOW) as add:
            results = on_every_core(lambda file: _read(file, stamps[file], read), unknown, add)
            known.update(zip(unknown, results, strict=True))
        readable = {file: known[file] for file in unknown if known[file].digest}
        # A table that cannot be kept costs time, nothing else. Decoding writes to the same folder and reports it.
        with contextlib.suppress(OSError, HarnessError):
            _save(path, {**table, **readable})
    return known


def _read(file: str, stamp: Stamp, read: Callable[[str], bytes]) -> KnownFile:
    try:
        content = read(file)
    except DecodeError:
        return KnownFile(stamp, "", NO_GRID)  # named when it is decoded
    try:
        grid = grid_of(decode_image(content, short_side=SHORT_SIDE).image).tobytes()
    except DecodeError:
        grid = NO_GRID
    return KnownFile(stamp, digest_of(content), grid)


def table_path(root: Path, cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where the digests of the files under `root` are kept."""
    return cache_directory(cache_dir) / FOLDER / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:32]}.npz"


def _load(path: Path) -> dict[str, KnownFile]:
    """File -> what is known of it; empty if there is no table, or it is damaged or of an earlier version."""
    if not_a_file(path):
        return {}
    try:
        with np.load(path, allow_pickle=False) as table:
            files = table["files"].tobytes().decode().split("\0")
            stamps, digests = table["stamps"].tolist(), table["digests"].tolist()
            grids = table["grids"].reshape(len(files), len(NO_GRID)).astype(np.uint8, casting="safe")
        return {
            file: KnownFile((size, time, inode), digest.decode(), grid.tobytes())
            for file, (size, time, inode), digest, grid in zip(files, stamps, digests, grids, strict=True)
        }
    except (*DAMAGE, AttributeError):
        return {}


def _save(path: Path, table: Mapping[str, KnownFile]) -> None:
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez(
            file,
            files=np.frombuffer("\0".join(table).encode(), np.uint8),
            stamps=np.array([known.stamp for known in table.values()], np.int64),
            digests=np.array([known.digest.encode() for known in table.values()], "S32"),
            grids=np.frombuffer(b"".join(known.grid for known in table.values()), np.uint8),
        )
