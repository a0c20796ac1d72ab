"""Images decoded and resized once, as one memory-mapped file that epochs, runs and processes share."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
import socket
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import PIL

from harness.data import cache_build
from harness.data.decode import DecodeError, read
from harness.data.resize import Resize
from harness.errors import DataError, UndecodableError
from harness.files import NO_LOCKS
from harness.runs.rules import printable


@dataclasses.dataclass(frozen=True)
class PixelCache:
    """Decoded images, RGB, one after another in `pixels`; image i begins at offsets[i].

    An image that could not be decoded has height and width 0, and `bad` holds the reason under its index.
    """

    pixels: np.ndarray  # uint8 (bytes,), memory-mapped, read-only
    offsets: np.ndarray  # int64 (N,)
    heights: np.ndarray  # int32 (N,)
    widths: np.ndarray  # int32 (N,)
    digests: tuple[str, ...]  # BLAKE2b-128 of each file's bytes, in hexadecimal
    bad: dict[int, str]

    def image(self, index: int) -> np.ndarray:
        """Image `index` as a view, uint8 (H, W, 3)."""
        height, width = int(self.heights[index]), int(self.widths[index])
        start = int(self.offsets[index])
        return self.pixels[start : start + height * width * 3].reshape(height, width, 3)


def open_cache(
    root: str | os.PathLike[str],
    files: Sequence[str],
    *,
    resize: Resize,
    cache_dir: str | os.PathLike[str] | None = None,
    bad_images: str = "fail",
    progress: bool = True,
) -> PixelCache:
    """The images `files` (relative to `root`), from the cache; the first process to ask builds it, others wait.

    With `bad_images="fail"`, images that cannot be decoded are an error that names them all; with "skip" they
    stay in, empty, and are named in `bad`. Either way the images that could be decoded are kept for the next time.
    """
    root = Path(root).expanduser().absolute()
    directory = cache_directory(cache_dir)
    folder = directory / _key(root, files, resize)
    cache = _load(folder, root, files)
    if cache is None:
        cache = _build_once(folder, root, files, resize, progress)
    if cache.bad and (bad_images == "fail" or len(cache.bad) == len(files)):
        raise UndecodableError(undecodable_message(root, files, cache.bad))
    return cache


def cache_directory(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where caches are kept: the argument, else $HARNESS_CACHE_DIR, else vit-harness in the user's cache folder."""
    given = cache_dir or os.environ.get("HARNESS_CACHE_DIR")
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "vit-harness"
    return Path(given or default).expanduser().absolute()


def undecodable_message(root: Path, files: Sequence[str], bad: Mapping[int, str], limit: int = 20) -> str:
    """One message that names images that cannot be decoded, each with its reason."""
    lines = [f"{printable(files[index])}: {reason}" for index, reason in sorted(bad.items())]
    more = [f"and {len(lines) - limit} more"] if len(lines) > limit else []
    head = (
        f"{len(lines)} of {len(files)} images in {printable(root)} cannot be decoded. "
        "Repair or remove them, or leave them out with --bad-images skip:"
    )
    return "\n  ".join([head, *lines[:limit], *more])


def _key(root: Path, files: Sequence[str], resize: Resize) -> str:
    """Changes with anything that could change a pixel, as far as sizes and times tell; contents are not read."""
    key = hashlib.sha256()
    rule = {"format": cache_build.FORMAT, "pillow": PIL.__version__, **dataclasses.asdict(resize)}
    key.update(json.dumps(rule, sort_keys=True).encode())
    key.update(os.fsencode(root))
    for file in files:
        try:
            status = (root / file).stat()
        except OSError as error:
            path = printable(root / file)
            raise DataError(f"{path}: {error.strerror}. It was there a moment ago; start again.") from None
        key.update(b"\0%s\0%d\0%d" % (os.fsencode(file), status.st_size, status.st_mtime_ns))
    return key.hexdigest()[:32]


def _load(folder: Path, root: Path, files: Sequence[str], *, fresh: bool = False) -> PixelCache | None:
    """The cache in `folder`; None if there is none, it is damaged, or an image it could not read now can be.

    A `fresh` one, built a moment ago, is taken as it is.
    """
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        with np.load(folder / "index.npz", allow_pickle=False) as index:
            offsets, heights, widths = index["offsets"], index["heights"], index["widths"]
            digests = tuple(digest.decode() for digest in index["digests"].tolist())
        size = (folder / "pixels.bin").stat().st_size
        whole = len(offsets) == len(heights) == len(widths) == len(digests) == len(files)
        ends = offsets + 3 * heights.astype(np.int64) * widths
        if not whole or not np.array_equal(offsets, np.append(0, ends)[:-1]) or size != (ends[-1] if len(ends) else 0):
            return None
        # A file that could not be read (permissions, a network disk) has the same size and time once it can be.
        if not fresh and any(_can_be_read(root / files[index]) for index in meta["unread"]):
            return None
        pixels = np.asarray(np.memmap(folder / "pixels.bin", np.uint8, "r")) if size else np.empty(0, np.uint8)
        bad = {int(index): reason for index, reason in meta["bad"].items()}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return PixelCache(pixels, offsets, heights, widths, digests, bad)


def _can_be_read(path: Path) -> bool:
    try:
        read(path)
    except DecodeError:
        return False
    return True


def _build_once(folder: Path, root: Path, files: Sequence[str], resize: Resize, progress: bool) -> PixelCache:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock(folder, progress):
            cache = _load(folder, root, files)
            if cache is None:
                _remove_abandoned(folder)
                shutil.rmtree(folder, ignore_errors=True)
                cache_build.build(folder, root, files, resize=resize, progress=progress)
                cache = _load(folder, root, files, fresh=True)
    except OSError as error:
        raise DataError(
            f"Decoded images cannot be kept in {printable(folder.parent)} ({error.strerror}). Name a folder that "
            "can be written to with --cache-dir or $HARNESS_CACHE_DIR."
        ) from error
    if cache is None:
        raise DataError(f"The images decoded into {printable(folder)} could not be read back. Check that disk.")
    return cache


@contextlib.contextmanager
def _lock(folder: Path, progress: bool) -> Iterator[None]:
    """Hold the right to build `folder`. The kernel gives it back if this process dies."""
    with folder.with_suffix(".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # One line per machine, not one per process of a run.
            if progress and os.environ.get("LOCAL_RANK", "0") == "0":
                print(
                    f"Waiting for another process that is decoding into {printable(folder)}",
                    file=sys.stderr,
                    flush=True,
                )
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            # Then several may build at once, each beside the others; the first to finish wins.
        yield


def _remove_abandoned(folder: Path) -> None:
    """Delete what killed builds left behind: of this cache, and of others on this machine that nobody is building."""
    for path in folder.parent.glob(f"*{cache_build.BUILDING}{socket.gethostname()}-*"):
        owner = path.with_name(path.name.split(cache_build.BUILDING)[0])
        if owner == folder:
            shutil.rmtree(path, ignore_errors=True)
            continue
        with contextlib.suppress(OSError), owner.with_suffix(".lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
