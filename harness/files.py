"""Atomic writes and locks of files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from harness.errors import HarnessError, TrainingError

# Errors of file systems without locks, such as Lustre mounted without -o flock.
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


def write_atomically(path: Path, content: bytes) -> None:
    with replacing(path) as beside:
        beside.write_bytes(content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file next to `path` to write to; it replaces `path` when the block ends without an error.

    A reader sees the old file or the new one, never a part, even after a power loss: the bytes are on the disk
    before the name changes. A full disk raises TrainingError and leaves the old file in place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield beside
        # safetensors makes files that only their owner can read; the umask should decide.
        beside.chmod(0o666 & ~_umask())
        _flush_to_disk(beside)
        beside.replace(path)
        _flush_to_disk(path.parent)
    except (OSError, SafetensorError) as error:
        if disk_is_full(error):
            raise no_space(path) from error
        raise
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path, refusal: str) -> Iterator[None]:
    """Hold a lock that the kernel releases when the process ends, also after kill -9. Creates the folder.

    If another process holds it, raises HarnessError(refusal) with {holder} and {folder} filled in. Not filelock: where
    flock is missing, it falls back to a lock file that a killed process leaves behind, and it does not name the holder.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise HarnessError(f"Cannot write to {path.parent}: {error.strerror}. Choose another --runs-dir.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise HarnessError(refusal.format(holder=holder, folder=path.parent)) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        with contextlib.suppress(OSError):  # a full disk fails later, with a better message
            file.truncate(0)
            file.write(f"pid {os.getpid()}")
            file.flush()
        yield


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files of killed writers. No process may be writing to the folder."""
    for path in folder.glob(".*"):
        if re.fullmatch(r"\..+\.\d+", path.name):  # as `replacing` names them
            path.unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def no_space(path: Path) -> TrainingError:
    return TrainingError(
        f"No space left to save {path}. Earlier saves are intact: free some space, then repeat the same command "
        "to resume."
    )


def disk_is_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    # safetensors writes from Rust and reports the system's error as text.
    return any(f"os error {code}" in str(error) for code in (errno.ENOSPC, errno.EDQUOT))
