"""A folder for the temporary files of a process and of all that it starts.

Torch elastic leaves its log folder behind, torch an empty folder for compiled code, and wandb the copies of tables that
a forked process has made. What they write to $TMPDIR is removed with this folder. Importing this is cheap.
"""

from __future__ import annotations

import multiprocessing.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from harness.errors import SurroundingsError
from harness.launch.stop_signals import handling_stop_signals

_PREFIX = "harness-"
_MOST_BYTES = 70  # of a folder with sockets of multiprocessing: they add /pymp-12345678/listener-12345678
_folders: dict[int, Path] = {}  # by process id: a forked process does not use the folder of its parent


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is $TMPDIR inside the context, one per process. It is removed at the end, also after a stop signal.

    Below the folder of a parent process its name is short: wandb makes sockets in $TMPDIR, and the path of a socket has
    at most 107 bytes (unix(7)).
    """
    process = os.getpid()
    if process in _folders:
        yield _folders[process]
        return
    earlier = os.environ.get("TMPDIR")
    with handling_stop_signals(_exit):
        try:
            is_below = any(part.startswith(_PREFIX) for part in Path(tempfile.gettempdir()).parts)
            folder = tempfile.mkdtemp(prefix="" if is_below else _PREFIX)
        except OSError as error:
            raise _no_folder(error) from error
        try:
            os.environ["TMPDIR"], tempfile.tempdir = folder, None  # tempfile has kept the earlier one
            _folders[process] = Path(folder)
            yield Path(folder)
        finally:
            _folders.pop(process, None)
            shutil.rmtree(folder, ignore_errors=True)
            del os.environ["TMPDIR"]
            if earlier is not None:
                os.environ["TMPDIR"] = earlier
            tempfile.tempdir = None


def make_socket_folder() -> None:
    """Make the folder of multiprocessing's sockets: in $TMPDIR if the path is short enough for one, else in /tmp.

    Call it before `temporary_folder`. Raises SurroundingsError.
    """
    earlier = tempfile.tempdir
    try:
        if len(os.fsencode(tempfile.gettempdir())) > _MOST_BYTES:
            tempfile.tempdir = "/tmp"
        multiprocessing.util.get_temp_dir()
    except OSError as error:
        raise _no_folder(error) from error
    finally:
        tempfile.tempdir = earlier


def _no_folder(error: OSError) -> SurroundingsError:
    return SurroundingsError(
        f"No folder can be made for temporary files ({error.strerror}). Free some space in /tmp, or name a folder on "
        "another disk: export TMPDIR=FOLDER."
    )


def _exit(signum: int, frame: FrameType | None) -> None:
    """Leave the context, where the signal's default action would end the process at once."""
    sys.exit(128 + signum)
