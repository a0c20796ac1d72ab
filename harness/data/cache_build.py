"""Decoding what a store of decoded images does not hold yet, on every core, each into its own shard."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from harness.data.claims import CLAIMS, claim, first_byte, part_of
from harness.data.decode import DecodeError, upright_size
from harness.data.parallel import on_every_core, progress_of
from harness.data.resize import Resize, decode_resized, resized_shape
from harness.data.store import BUILDING, ShardWriter, new_digests, remove_abandoned
from harness.errors import DataError
from harness.runs.rules import printable

FULL = (errno.ENOSPC, errno.EDQUOT)
SAMPLE = 512  # images whose headers are read to estimate the size of a cache
POLL = 0.2  # seconds until a process tries again to claim what others decode
JUST_NOW = 60.0  # seconds; a shard that was not written to for longer belongs to a process that is gone
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

    Other machines may build the same store: they divide the images, and each returns when all are decoded. Returns the
    digest of every file, and the reason for each file that cannot be read. Images that are complete when this is
    interrupted stay decoded; on a full disk, shards that are not complete are removed.
    """
    remove_abandoned(folder)
    seen: set[Path] = set()  # shards that were read
    present = new_digests(folder, seen)  # of images that need not be decoded
    # In the order of their digests, in which --shuffle blocks reads them (stored_order).
    missing = sorted((index for index, digest in enumerate(digests) if digest not in present), key=digests.__getitem__)
    if not missing:  # another process has decoded them by now
        return list(digests), {}
    _check_room(folder, [files[index] for index in missing], read, resize)
    start, digests, unread = first_byte(digests), list(digests), {}

    def claimed(claims: IO[str], left: list[int]) -> Iterator[int]:
        """Those of `missing` that no other machine decodes, claimed when they are due; the others go to `left`."""
        for part, indices in itertools.groupby(missing, key=lambda index: part_of(digests[index])):
            if claim(claims, start + part):
                present.update(new_digests(folder, seen))  # another machine may have decoded the part meanwhile
                yield from indices
            else:
                left.extend(indices)

    try:
        with progress_of("decoding images, once", len(missing), show=progress) as count:
            waits = False
            while missing:
                left: list[int] = []
                with (folder / CLAIMS).open("a") as claims, _shard_per_thread(folder) as add:
                    decode = _decoder(files, digests, present, read, resize, add)
                    for index, digest, reason in on_every_core(decode, claimed(claims, left), count):
                        digests[index] = digest
                        if reason:
                            unread[index] = reason
                if len(left) == len(missing):
                    if progress and not waits:
                        print("Waiting for another machine that decodes the rest", file=sys.stderr, flush=True)
                    waits = True
                    count(0)
                    time.sleep(POLL)
                missing = left
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
    for path in folder.glob(f"*{BUILDING}"):
        with contextlib.suppress(OSError):  # complete by now
            if time.time() - path.stat().st_mtime < JUST_NOW:
                free += path.stat().st_size  # most likely of these images, which another machine decodes as well
    if needed > free:
        raise DataError(_no_room(folder, f"take about {readable(needed)}, but {readable(free)} are free"))


def _decoder(
    files: Sequence[str],
    digests: Sequence[str],
    present: set[str],
    read: Callable[[str], bytes],
    resize: Resize,
    add: Callable[[str, np.ndarray, str], None],
) -> Callable[[int], tuple[int, str, str]]:
    """A function that decodes one of `files`, unless it is `present`: its index and digest, or "" and why not."""

    def decode(index: int) -> tuple[int, str, str]:
        if digests[index] in present:
            return index, digests[index], ""
        try:
            content = read(files[index])
        except DecodeError as error:
            return index, "", error.reason
        digest = digest_of(content)
        if digest in present:
            return index, digest, ""
        present.add(digest)
        try:
            add(digest, np.asarray(decode_resized(content, resize)), "")
        except DecodeError as error:
            add(digest, np.empty((0, 0, 3), np.uint8), error.reason)
        return index, digest, ""

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
            writers[thread].finish()
            del writers[thread]

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
