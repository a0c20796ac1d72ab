"""Optuna's journal file, so that a killed writer or a full disk leaves a journal that can still be read."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any, BinaryIO

from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.storages.journal._file import get_lock_file

from harness.errors import HarnessError
from harness.files import disk_is_full, no_space

REBUILD = "`harness sweep rebuild FILE` makes it again from the run folders"


class Journal(JournalFileBackend):
    """A journal that drops the line which a writer could not finish, and reports damage as a HarnessError."""

    def __init__(self, path: Path) -> None:
        # This lock also works on network file systems. One that a killed process left behind expires after 30 s.
        super().__init__(str(path), lock_obj=JournalFileOpenLock(str(path)))

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        try:
            yield from super().read_logs(log_number_from)
        except FileNotFoundError as error:
            raise HarnessError(f"The trial queue {self._file_path} was deleted: {REBUILD}.") from error
        except OSError as error:
            raise HarnessError(f"The trial queue {self._file_path} cannot be read ({error.strerror}).") from error
        except ValueError as error:
            raise HarnessError(
                f"The trial queue {self._file_path} is damaged ({error}). Move the file away; {REBUILD}."
            ) from error

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        content = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        path = Path(self._file_path)
        try:
            # Not in append mode, which would create a journal that was deleted.
            with get_lock_file(self._lock), path.open("r+b", buffering=0) as file:
                end = _end_of_last_line(file)
                try:
                    file.truncate(end)
                    _write(file, end, content)
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(end)
                    raise
        except FileNotFoundError as error:
            raise HarnessError(f"The trial queue {path} was deleted: {REBUILD}.") from error
        except OSError as error:
            if disk_is_full(error):
                raise no_space(path, error) from error
            raise HarnessError(f"The trial queue {path} cannot be written ({error.strerror}).") from error


def _write(file: BinaryIO, position: int, content: bytes) -> None:
    """Write all of it. A disk that is nearly full takes a part, and refuses the next write with ENOSPC."""
    file.seek(position)
    while content:
        content = content[file.write(content) :]


def _end_of_last_line(file: BinaryIO) -> int:
    """Position after the last complete line."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - 4096)
        file.seek(start)
        if (newline := file.read(end - start).rfind(b"\n")) >= 0:
            return start + newline + 1
        end = start
    return 0
