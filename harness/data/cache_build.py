"""Decoding what a store of decoded images does not hold yet, on every core, each into its own shard."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from harness.data.decode import DecodeError, upright_size
from harness.data.parallel import on_every_core
from harness.data.resize import Resize, decode_resized, resized_shape
from harness.data.store import ShardWriter, Store, read_store, remove_abandoned
from harness.errors import DataError
from harness.runs.rules import printable

FULL = (errno.ENOSPC, errno.EDQUOT)
SAMPLE = 512  # images whose headers are read to estimate the size of a cache
SHARD_BYTES = 1 << 29  # of pixels, about; what a killed process loses, at most, for each of its threads


def build(
    folder: Path,
    files: Sequence[str],
    digests: Sequence[str],
    read: Callable[[str], bytes],
    *,
    resize: Resize,
    progress: bool,
) -> tuple[list[str], dict[int, str]]:
    """Decode into `folder` those of `files` whose digest it does not hold; "" stands for an unknown one.

    Returns the digest of every file, and the reason for each file that cannot be read. Images that are complete when
    this is interrupted stay decoded; on a full disk, shards that are not complete are removed.
    """
    remove_abandoned(folder)
    store = read_store(folder)
    # In the order of their digests, in which --shuffle blocks reads them (stored_order).
    missing = sorted(np.flatnonzero(store.find(digests) < 0).tolist(), key=lambda index: digests[index])
    if not missing:  # another process has decoded them by now
        return list(digests), {}
    names = [files[index] for index in missing]
    _check_room(folder, names, read, resize)
    digests, unread = list(digests), {}
    try:
        with _shard_per_thread(folder) as add:
            work = _decoder(store, read, resize, add)
            decoded = on_every_core(work, names, title="decoding images, once", progress=progress)
            for index, (digest, reason) in zip(missing, decoded, strict=True):
                digests[index] = digest
                if reason:
                    unread[index] = reason
    except OSError as error:
        if error.errno in FULL:
            raise DataError(_no_room(folder, "filled the disk")) from error
        raise
    return digests, unread


def digest_of(content: bytes) -> str:
    """What the images in a store are found by: BLAKE2b-128 of a file's bytes, in hexadecimal."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def estimate(names: Sequence[str], read: Callable[[str], bytes], resize: Resize) -> int:
    """Bytes that decoded images will take, from the headers of all of them or of an even sample of many."""
    sizes = []
    for position in np.linspace(0, len(names) - 1, min(SAMPLE, len(names))).astype(int):
        try:
            width, height = resized_shape(*upright_size(read(names[position])), resize)
        except DecodeError:
            continue
        sizes.append(width * height * 3)
    return int(np.mean(sizes) * len(names)) if sizes else 0


def readable(count: float) -> str:
    """Bytes in a unit that suits them: "0 bytes", "4 kB", "43.2 GB"."""
    for size, unit, digits in ((1e12, "TB", 2), (1e9, "GB", 1), (1e6, "MB", 0), (1e3, "kB", 0)):
        if count >= size:
            return f"{count / size:.{digits}f} {unit}"
    return f"{count:.0f} bytes"


def _check_room(folder: Path, names: Sequence[str], read: Callable[[str], bytes], resize: Resize) -> None:
    needed, free = estimate(names, read, resize), shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(_no_room(folder, f"take about {readable(needed)}, but {readable(free)} are free"))


def _decoder(
    store: Store, read: Callable[[str], bytes], resize: Resize, add: Callable[[str, np.ndarray, str], None]
) -> Callable[[str], tuple[str, str]]:
    """A function that decodes one file, unless its content is there already: its digest, or "" and why not."""
    added: set[str] = set()

    def decode(name: str) -> tuple[str, str]:
        try:
            content = read(name)
        except DecodeError as error:
            return "", error.reason
        digest = digest_of(content)
        if digest in added or store.find([digest])[0] >= 0:
            return digest, ""
        added.add(digest)
        try:
            add(digest, np.asarray(decode_resized(content, resize)), "")
        except DecodeError as error:
            add(digest, np.empty((0, 0, 3), np.uint8), error.reason)
        return digest, ""

    return decode


@contextlib.contextmanager
def _shard_per_thread(folder: Path) -> Iterator[Callable[[str, np.ndarray, str], None]]:
    """A function that appends an image to the calling thread's shard; shards are finished when full and at the end."""
    writers: dict[int, ShardWriter] = {}

    def add(digest: str, pixels: np.ndarray, reason: str) -> None:
        thread = threading.get_ident()
        if thread not in writers:
            writers[thread] = ShardWriter(folder)
        writers[thread].add(digest, pixels, reason)
        if writers[thread].size >= SHARD_BYTES:
            writers.pop(thread).finish()

    def finish() -> None:
        while writers:
            writers[next(iter(writers))].finish()
            del writers[next(iter(writers))]

    try:
        yield add
    except OSError:
        raise
    except BaseException:  # stopped: what is decoded need not be decoded again
        finish()
        raise
    else:
        finish()
    finally:
        for writer in writers.values():  # those that could not be finished
            writer.discard()


def _no_room(directory: Path, what: str) -> str:
    return (
        f"Decoded images {what} in {printable(directory)}. Make room there (harness data cache shows what is kept), or "
        "name a folder on another disk with --cache-dir or $HARNESS_CACHE_DIR."
    )
