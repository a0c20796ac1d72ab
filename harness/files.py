"""Atomic writes and locks of files, and what the system refuses."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from safetensors import SafetensorError

from harness.errors import ConfigError, HarnessError, LockedError, SurroundingsError, printable
from harness.runs.rules import temporary_name

# Errors of file systems without locks, such as Lustre mounted without -o flock.
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)

# Seconds to wait for a lock before it counts as held: `is_locked` takes it for a moment.
LOCK_TIMEOUT = 0.5


def expanded(path: str | os.PathLike[str]) -> Path:
    """The absolute path, ~ being the user's home folder and ~anna that of anna. Raises ConfigError without that."""
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        problem = f"there is no home folder {Path(path).parts[0]} on this machine; give the whole path."
        raise ConfigError(f"{printable(path)}: {problem}") from None


def not_a_file(path: Path) -> str:
    """Why a path is not a regular file. Reading a named pipe or a device could block forever."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "the file does not exist"
    except (OSError, ValueError) as error:
        return (getattr(error, "strerror", None) or str(error)).lower()
    kinds = {stat.S_ISFIFO: "a named pipe", stat.S_ISSOCK: "a socket", stat.S_ISDIR: "a folder"}
    kind = next((name for is_kind, name in kinds.items() if is_kind(mode)), "a device")
    return "" if stat.S_ISREG(mode) else f"it is {kind}, not a file"


def write_atomically(path: Path, content: bytes) -> None:
    with replacing(path) as beside:
        beside.write_bytes(content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file next to `path` to write to; it replaces `path` when the block ends without an error.

    A reader sees the old file or the new one, never a part, even after a power loss: the bytes are on the disk
    before the name changes. A full disk raises SurroundingsError and leaves the old file in place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = temporary_name(path)
    try:
        yield beside
        # safetensors makes files that only their owner can read; the umask should decide.
        beside.chmod(0o666 & ~umask())
        _flush_to_disk(beside)
        try:
            beside.replace(path)
        except IsADirectoryError as error:
            raise HarnessError(f"{path} is a folder in the place of a file. Move it away.") from error
        _flush_to_disk(path.parent)
    except (OSError, SafetensorError) as error:
        if disk_is_full(error):
            raise no_space(path, error) from error
        raise
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path, refusal: str) -> Iterator[None]:
    """Hold a lock that the kernel releases when the process ends, also after kill -9. Creates the folder.

    If another process holds it, raises LockedError(refusal) with {holder} and {folder} filled in. Not filelock: where
    flock is missing, it falls back to a lock file that a killed process leaves behind, and it does not name the holder.
    """
    try:
        file = _open_lock(path)
    except OSError as error:
        raise HarnessError(f"Cannot write to {path.parent}: {error.strerror}. Choose another --runs-dir.") from error
    with file:
        try:
            _take_lock(file)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise LockedError(refusal.format(holder=holder, folder=path.parent)) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        with contextlib.suppress(OSError):  # a full disk fails later, with a better message
            file.truncate(0)
            file.write(f"pid {os.getpid()}")
            file.flush()
        yield


def _open_lock(path: Path) -> TextIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Never through a symbolic link: the file is truncated.
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666), "a+")


def _take_lock(file: TextIO) -> None:
    """Lock an open file. Raises BlockingIOError if another process holds the lock for LOCK_TIMEOUT."""
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock, here or on another machine whose file system passes locks on."""
    try:
        # A named pipe in its place would block until somebody writes to it.
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK))
    except OSError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False  # a file system without locks
    return False


def remove_leftovers(folder: Path, *, recursive: bool = False) -> None:
    """Delete temporary files of killed writers; follows no links. No process may be writing to the folder."""
    if folder.is_symlink():
        return
    for parent, folders, names in os.walk(folder):
        if not recursive:
            folders.clear()
        for name in names:
            path = Path(parent, name)
            if re.fullmatch(r"\..+\.\d+", name) and not path.is_symlink():  # as `temporary_name` names them
                path.unlink(missing_ok=True)


def umask() -> int:
    """The process's umask. `os.umask` reads it only by setting it, for all threads that make files meanwhile."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next((int(line.split()[1], 8) for line in lines if line.startswith("Umask:")), 0o077)


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# What the system refuses when a file cannot be written for lack of something, and what to do.
_LACKS = {
    errno.ENOSPC: ("No space left", "free some space"),
    errno.EDQUOT: ("The disk quota leaves no space", "free some space"),
    errno.EFBIG: ("The file-size limit (ulimit -f) is too small", "raise the limit"),
    errno.EMFILE: ("Too many open files", "raise the limit (ulimit -n)"),
    errno.ENFILE: ("Too many open files on this machine", "close other programs"),
}


def no_space(path: Path, error: Exception | None = None) -> SurroundingsError:
    """The error for a file that could not be written, where `disk_is_full(error)`."""
    lack, remedy = _LACKS[_system_error(error) or errno.ENOSPC]
    if lack == "No space left" and _no_inodes(path):
        lack, remedy = "No inodes left (df -i)", "delete some files"
    return SurroundingsError(
        f"{lack} to save {path}. Earlier saves are intact: {remedy}, then repeat the same command to resume."
    )


def disk_is_full(error: Exception) -> bool:
    """Whether a write failed for lack of space, inodes, file size or open files."""
    return _system_error(error) is not None


def _system_error(error: Exception | None) -> int | None:
    """The error's number if it is one of _LACKS."""
    if isinstance(error, OSError):
        return error.errno if error.errno in _LACKS else None
    # safetensors writes from Rust and reports the system's error as text.
    return next((code for code in _LACKS if f"(os error {code})" in str(error)), None)


def _no_inodes(path: Path) -> bool:
    try:
        system = os.statvfs(path.parent)
    except OSError:
        return False
    return system.f_files > 0 and system.f_favail == 0 and system.f_bavail > 0  # some systems count no inodes
