"""A lock on the trial queue of a sweep: runners that start at the same moment queue its trials one after the other."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy

from harness.files import NO_LOCKS
from harness.sweep.search.ledger_errors import ledger_file
from harness.sweep.search.storage import default_storage
from harness.time_limit import waiting_reported

# Seconds of waiting after which the user reads why nothing happens.
QUIET_SECONDS = 10.0

WAITING = "Another runner is queueing trials of this sweep: waiting for it."

# Locks that a server releases when the connection ends, also after kill -9; both wait (postgresql.org/docs, "Advisory
# Locks"; dev.mysql.com/doc, GET_LOCK). {key} is a signed 64-bit number.
SERVER_LOCKS = {"postgresql": "SELECT pg_advisory_lock({key})", "mysql": "SELECT GET_LOCK('{key}', -1)"}


@contextlib.contextmanager
def ledger_lock(name: str, folder: Path, storage: str | None) -> Iterator[None]:
    """Hold the lock on the trial queue of the sweep `name`. The system releases it when the process ends.

    Where the file system or the database has no locks, trials that two runners have queued twice are found when they
    are claimed.
    """
    file = ledger_file(folder, storage)
    url = storage or default_storage(folder)
    with _server_lock(name, url) if file is None else _file_lock(file, is_database="://" in url):
        yield


@contextlib.contextmanager
def _file_lock(file: Path, *, is_database: bool) -> Iterator[None]:
    """flock on a file beside the queue. Linux passes it on to the server of an NFS (flock(2))."""
    path = file.with_name(f".{file.name}.queueing")
    descriptor = None
    with contextlib.suppress(OSError):  # opening the queue itself reports what is wrong
        if not is_database:
            file.parent.mkdir(parents=True, exist_ok=True)  # as `open_storage` does for a journal
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    if descriptor is None:
        yield
        return
    with os.fdopen(descriptor) as held:
        try:
            with waiting_reported(functools.partial(print, flush=True), WAITING, QUIET_SECONDS):
                fcntl.flock(held, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        yield


@contextlib.contextmanager
def _server_lock(name: str, url: str) -> Iterator[None]:
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
    with contextlib.ExitStack() as held:
        # Opening the queue itself reports what is wrong with the URL or the server.
        with contextlib.suppress(sqlalchemy.exc.SQLAlchemyError, ImportError):
            engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool, isolation_level="AUTOCOMMIT")
            lock = SERVER_LOCKS.get(engine.dialect.name)
            if lock is not None:
                connection = held.enter_context(engine.connect())
                connection.execute(sqlalchemy.text(lock.format(key=key)))
        yield
