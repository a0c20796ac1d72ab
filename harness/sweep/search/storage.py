"""Opens the storage of a study: a database, or a journal file that machines share."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import sqlalchemy
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages._cached_storage import _CachedStorage, _StudyInfo
from optuna.trial import TrialState

from harness.errors import HarnessError, first_line
from harness.files import expanded
from harness.sweep.search.journal import Journal

# Seconds to wait, again and again, while another machine creates the tables of a database.
TABLES_PAUSES = (0.1, 0.3, 1.0, 2.0)

# The trial queue of a sweep on a cluster, in the sweep's folder: SQLite is unsafe on a disk that nodes share
# (sqlite.org/faq.html#q5).
JOURNAL = "journal.log"

DATABASE_PACKAGES = ("sqlalchemy", "optuna", "sqlite3")
BEGUN = tuple(state for state in TrialState if state != TrialState.WAITING)


class CachedStorage(_CachedStorage):
    """Optuna's cache of a database reads finished trials once. This one also reads waiting trials once.

    A sweep queues all of its trials when it begins, and a waiting trial does not change until a worker claims it.
    """

    def __init__(self, backend: RDBStorage) -> None:
        super().__init__(backend)
        # By study: the trial id up to which every trial has been read, and the largest trial id read.
        self._read_ids: dict[int, tuple[int, int]] = {}

    def _read_trials_from_remote_storage(self, study_id: int) -> None:
        with self._lock:
            study = self._studies.setdefault(study_id, _StudyInfo())
            complete, newest = self._read_ids.get(study_id, (-1, -1))
            # Waiting trials first: one that is claimed in between is read with the others, now or next time.
            queued = self._backend._get_trials(study_id, (TrialState.WAITING,), set(), complete)
            begun = self._backend._get_trials(study_id, BEGUN, study.unfinished_trial_ids, complete)
            self._add_trials_to_cache(study_id, [*queued, *begun])
            for trial in (*queued, *begun):
                if trial.state.is_finished():
                    study.unfinished_trial_ids.discard(trial._trial_id)
                else:
                    study.unfinished_trial_ids.add(trial._trial_id)
            # Between the two reads, a trial may have been queued, and a newer one queued and claimed: ids that only the
            # second read returned count as complete the next time.
            complete = max(newest, *(trial._trial_id for trial in queued), complete)
            self._read_ids[study_id] = complete, max(complete, *(trial._trial_id for trial in begun), newest)


def default_storage(folder: Path) -> str:
    """The journal of a sweep that began on a cluster, else SQLite."""
    if (folder / JOURNAL).exists():
        return str(folder / JOURNAL)
    return f"sqlite:///{(folder / 'study.db').resolve()}"


def open_storage(url: str) -> BaseStorage:
    """Open a database by its URL, or a journal by the path of its file. Raises HarnessError."""
    try:
        if "://" not in url:
            expanded(url).parent.mkdir(parents=True, exist_ok=True)
            return JournalStorage(Journal(expanded(url).resolve()))
        # Seconds that a writer waits for another one.
        arguments = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
        storage = _database(url, arguments)
        if url.startswith("sqlite"):
            _lock_before_reading(storage.engine)
        return CachedStorage(storage)
    except Exception as error:
        # Optuna, SQLAlchemy and database drivers have no common base class of errors.
        package = type(error).__module__.partition(".")[0]
        is_known = isinstance(error, ImportError | ValueError | OSError) or package in DATABASE_PACKAGES
        if isinstance(error, HarnessError) or is_damage(error) or not is_known:
            raise
        raise HarnessError(f"--storage {url} cannot be opened: {first_line(error)}.") from error


def is_damage(error: BaseException | None) -> bool:
    """Whether the cause of an error is that SQLite found its file damaged (sqlite.org/rescode.html)."""
    while error is not None:
        if isinstance(error, sqlite3.Error):
            # The lower byte; the upper ones say where in the file.
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        error = error.__cause__ or getattr(error, "orig", None)
    return False


def _database(url: str, arguments: dict[str, Any]) -> RDBStorage:
    for pause in TABLES_PAUSES:
        try:
            return RDBStorage(url, engine_kwargs=arguments)
        except (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError):
            pass  # PostgreSQL, if another machine is creating the tables of the empty database
        except sqlalchemy.exc.OperationalError:  # SQLite, for the same reason; but also a database that is away
            if not _has_tables(url, arguments):
                raise
        time.sleep(pause)
    return RDBStorage(url, engine_kwargs=arguments)


def _has_tables(url: str, arguments: dict[str, Any]) -> bool:
    """Whether the database has any table; False if it cannot be read."""
    engine = sqlalchemy.create_engine(url, **arguments)
    try:
        return bool(sqlalchemy.inspect(engine).get_table_names())
    except sqlalchemy.exc.SQLAlchemyError:
        return False
    finally:
        engine.dispose()


def _lock_before_reading(engine: sqlalchemy.Engine) -> None:
    """Make SQLite lock at the start of a transaction, so that two workers cannot claim the same trial.

    By default it locks at the first write. Optuna asks for a lock while reading (SELECT ... FOR UPDATE), which SQLite
    does not have.
    """

    @sqlalchemy.event.listens_for(engine, "connect")
    def disable_implicit_transactions(connection: Any, _: object) -> None:
        connection.isolation_level = None

    @sqlalchemy.event.listens_for(engine, "begin")
    def lock(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
