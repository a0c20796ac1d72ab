"""Images decoded and resized once, in memory-mapped files that epochs, runs, processes and data folders share."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import PIL

from harness.data import cache_build, decode
from harness.data.resize import Resize
from harness.data.store import ENTRY, Store, hold, mark_used, read_store
from harness.errors import DataError, UndecodableError, summarise
from harness.files import NO_LOCKS, expanded
from harness.runs.rules import printable

FORMAT = 3  # of the shards; counts up when they or the decoding change
DECODED = "decoded"  # the folder of the stores, one per resize rule
MOST_NAMED = 20  # images that a message names


@dataclasses.dataclass(frozen=True)
class PixelCache:
    """Decoded images, RGB. Image i begins at `offsets[i]` of `shards[shard[i]]`.

    An image that could not be decoded has height and width 0, and `bad` holds the reason under its index.
    """

    shards: tuple[np.ndarray, ...]  # uint8 (bytes,), memory-mapped, read-only
    shard: np.ndarray  # int32 (N,)
    offsets: np.ndarray  # int64 (N,)
    heights: np.ndarray  # int32 (N,)
    widths: np.ndarray  # int32 (N,)
    digests: tuple[str, ...]  # BLAKE2b-128 of each file's bytes, in hexadecimal; "" if it could not be read
    bad: dict[int, str]
    files: tuple[Path, ...] = ()  # of the shards
    in_use: IO[str] | None = None  # open as long as this is read: prune removes nothing meanwhile

    def image(self, index: int) -> np.ndarray:
        """Image `index` as a view, uint8 (H, W, 3)."""
        height, width = int(self.heights[index]), int(self.widths[index])
        start = int(self.offsets[index])
        return self.shards[self.shard[index]][start : start + height * width * 3].reshape(height, width, 3)

    @property
    def nbytes(self) -> int:
        """Bytes of all its pixels."""
        return int((3 * self.heights.astype(np.int64) * self.widths).sum())


def open_cache(
    root: str | os.PathLike[str],
    files: Sequence[str],
    *,
    resize: Resize,
    digests: Sequence[str] | None = None,
    read: Callable[[str], bytes] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    bad_images: str = "fail",
    progress: bool = True,
) -> PixelCache:
    """The images `files`, from the cache; what it does not hold is decoded first, by one process of each machine.

    `digests` are those of the files as far as they are known ("" if not); a file whose digest is in the cache is not
    opened. `read` returns the bytes of one of `files`, by default paths relative to `root`. With `bad_images="fail"`,
    images that cannot be decoded are an error that names them all; with "skip" they stay in, empty, and are named in
    `bad`. Either way the images that could be decoded are kept for the next time.
    """
    root = expanded(root)
    folder = store_folder(resize, cache_dir)
    known = list(digests or [""] * len(files))
    in_use = hold(folder)
    store, unread = read_store(folder), dict[int, str]()
    if (store.find(known) < 0).any():
        read_file = read or (lambda file: decode.read(root / file))
        progress = progress and os.environ.get("RANK", "0") == "0"  # a run says it once, not each of its processes
        with _writing(folder), _lock(folder, root, progress):
            known, unread = cache_build.build(folder, files, known, read_file, resize=resize, progress=progress)
        store = read_store(folder)
    cache = _view(store, known, unread, in_use)
    if cache.bad and (bad_images == "fail" or len(cache.bad) == len(files)):
        bad = {files[index]: reason for index, reason in cache.bad.items()}
        raise UndecodableError(undecodable_message(root, len(files), bad))
    return cache


def check_cache(resize: Resize, digests: Sequence[str], cache_dir: str | os.PathLike[str] | None = None) -> None:
    """Raises DataError if images still have to be decoded and the cache cannot be written to; makes its folder."""
    folder = store_folder(resize, cache_dir)
    try:
        with _writing(folder), tempfile.TemporaryFile(dir=folder):
            pass
    except DataError:
        if (read_store(folder).find(digests) < 0).any():
            raise


def store_folder(resize: Resize, cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where images decoded by a resize rule are kept: its name holds whatever else could change a pixel."""
    rule = f"{resize.size}-{resize.interpolation}-pillow{PIL.__version__}-format{FORMAT}"
    return cache_directory(cache_dir) / DECODED / rule


def _view(store: Store, digests: list[str], unread: Mapping[int, str], in_use: IO[str] | None) -> PixelCache:
    """The images with these digests, from the shards that hold them; `unread` ones have no pixels."""
    places = store.find(digests)
    present = np.flatnonzero(places >= 0)
    if len(present) + len(unread) < len(digests):
        raise DataError("Decoded images could not be read back from the cache. Check the disk of the cache.")
    entries = np.zeros(len(digests), ENTRY)
    entries[present] = store.entries[places[present]]
    # Only the shards that hold one of these images.
    used, part = np.unique(store.shard[places[present]], return_inverse=True)
    shard = np.zeros(len(digests), np.int32)
    shard[present] = part
    bad = {index: store.reasons[digests[index]] for index in present[entries["height"][present] == 0].tolist()}
    for number in used.tolist():
        mark_used(store.shards[number])
    return PixelCache(
        shards=tuple(store.map(number) for number in used.tolist()) or (np.empty(0, np.uint8),),
        shard=shard,
        offsets=entries["offset"].copy(),
        heights=entries["height"].copy(),
        widths=entries["width"].copy(),
        digests=tuple(digests),
        bad=dict(sorted({**bad, **unread}.items())),
        files=tuple(store.shards[number] for number in used.tolist()),
        in_use=in_use,
    )


def cache_directory(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where caches are kept: the argument, else $HARNESS_CACHE_DIR, else vit-harness in the user's cache folder."""
    given = cache_dir or os.environ.get("HARNESS_CACHE_DIR")
    return expanded(given) if given else user_cache_directory()


def user_cache_directory() -> Path:
    """vit-harness in the user's cache folder, which no other user writes to."""
    return (Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "vit-harness").expanduser().absolute()


def undecodable_message(root: Path, total: int, bad: Mapping[str, str]) -> str:
    """One message that names images that cannot be decoded, of `total` ones, each with its reason."""
    listed = summarise((f"{file}: {reason}" for file, reason in bad.items()), MOST_NAMED, "\n  ")
    return (
        f"{len(bad)} of {total} images in {printable(root)} cannot be decoded. Repair or remove them; `harness train` "
        f"leaves them out with --bad-images skip:\n  {listed}"
    )


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """A folder that cannot be written to gives one sentence."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        why = error.strerror or str(error) or type(error).__name__
        raise DataError(
            f"Decoded images cannot be kept in {printable(folder)} ({why}). Name a folder that "
            "can be written to with --cache-dir or $HARNESS_CACHE_DIR."
        ) from error


@contextlib.contextmanager
def _lock(folder: Path, root: Path, progress: bool) -> Iterator[None]:
    """Let one process of this machine at a time decode the images of `root`: it uses all cores.

    Nothing depends on it but time: writers never touch each other's shards. The kernel releases the lock of a process
    that dies.
    """
    with lock_path(folder, root).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if progress:
                line = f"Waiting for another process that is decoding images of {printable(root)}"
                print(line, file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            # Then several processes may decode the same images; each image is used once.
        yield


def lock_path(folder: Path, root: Path) -> Path:
    """What a process of this machine locks in a store while it decodes the images of `root`."""
    return folder / f"{socket.gethostname()}-{hashlib.sha256(os.fsencode(root)).hexdigest()[:32]}.lock"
