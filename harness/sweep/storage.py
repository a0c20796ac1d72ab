"""Where a study is kept: a database, or a journal file that machines share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from harness.errors import HarnessError


def default_storage(folder: Path) -> str:
    return f"sqlite:///{(folder / 'study.db').resolve()}"


def open_storage(url: str) -> BaseStorage:
    """A database by its URL, or a journal by the path of its file."""
    try:
        if "://" not in url:
            Path(url).expanduser().parent.mkdir(parents=True, exist_ok=True)
            path = str(Path(url).expanduser().resolve())
            # The kind of lock that network file systems keep; one left by a killed process is broken after 30 s.
            return JournalStorage(JournalFileBackend(path, lock_obj=JournalFileOpenLock(path)))
        # Seconds that a writer waits for another.
        arguments = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
        storage = RDBStorage(url, engine_kwargs=arguments)
        if url.startswith("sqlite"):
            _take_turns(storage.engine)
        return storage
    except (ImportError, ValueError, OSError) as error:
        raise HarnessError(f"--storage {url} cannot be opened: {str(error).splitlines()[0]}") from error
    except Exception as error:
        # SQLAlchemy's and the database's own.
        if type(error).__module__.partition(".")[0] not in ("sqlalchemy", "optuna", "sqlite3"):
            raise
        raise HarnessError(f"--storage {url} cannot be opened: {str(error).splitlines()[0]}") from error


def _take_turns(engine: sqlalchemy.Engine) -> None:
    """Have SQLite lock before it reads, not first when it writes: else two that look for work take the same trial.

    Optuna asks for such a lock (SELECT ... FOR UPDATE), which SQLite has not got.
    """

    @sqlalchemy.event.listens_for(engine, "connect")
    def leave_transactions_to_us(connection: Any, _: object) -> None:
        connection.isolation_level = None

    @sqlalchemy.event.listens_for(engine, "begin")
    def lock(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
