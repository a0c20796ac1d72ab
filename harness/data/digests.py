"""Digests of image files, remembered so that a file is opened again only if it may have changed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from harness.data.cache import cache_directory
from harness.data.cache_build import digest_of
from harness.data.decode import DecodeError
from harness.data.parallel import on_every_core
from harness.data.store import mark_used
from harness.errors import HarnessError
from harness.files import replacing

# Three integers that change when a file may have: size in bytes, modification time in ns, inode.
Stamp = tuple[int, int, int]

FOLDER = "digests"  # in the cache directory: one table per data folder
_SLOW = 10_000  # files from which on reading them is announced


def stamp_of(status: os.stat_result) -> Stamp:
    return status.st_size, status.st_mtime_ns, status.st_ino


def digests_of(
    root: Path,
    stamps: Mapping[str, Stamp],
    read: Callable[[str], bytes],
    cache_dir: str | os.PathLike[str] | None = None,
) -> dict[str, str]:
    """The digest of each file in `stamps`, "" if it cannot be read; only files with a new stamp are read."""
    path = table_path(root, cache_dir)
    table = _load(path)
    mark_used(path)
    digests = {file: table[file][1] for file, stamp in stamps.items() if file in table and table[file][0] == stamp}
    unknown = [file for file in stamps if file not in digests]
    if unknown:

        def digest(file: str) -> str:
            try:
                return digest_of(read(file))
            except DecodeError:
                return ""  # named when it is decoded

        results = on_every_core(digest, unknown, title="reading images, once", progress=len(unknown) >= _SLOW)
        digests.update(zip(unknown, results, strict=True))
        readable = {file: (stamps[file], digests[file]) for file in unknown if digests[file]}
        # A table that cannot be kept costs time, nothing else. Decoding writes to the same folder and reports it.
        with contextlib.suppress(OSError, HarnessError):
            _save(path, {**table, **readable})
    return digests


def table_path(root: Path, cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where the digests of the files under `root` are kept."""
    return cache_directory(cache_dir) / FOLDER / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:32]}.npz"


def _load(path: Path) -> dict[str, tuple[Stamp, str]]:
    """File -> stamp and digest; empty if there is no table or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as table:
            files = table["files"].tobytes().decode().split("\0")
            stamps, digests = table["stamps"].tolist(), table["digests"].tolist()
        return {
            file: ((size, time, inode), digest.decode())
            for file, (size, time, inode), digest in zip(files, stamps, digests, strict=True)
        }
    except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile):
        return {}


def _save(path: Path, table: Mapping[str, tuple[Stamp, str]]) -> None:
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez(
            file,
            files=np.frombuffer("\0".join(table).encode(), np.uint8),
            stamps=np.array([stamp for stamp, _ in table.values()], np.int64),
            digests=np.array([digest.encode() for _, digest in table.values()], "S32"),
        )
