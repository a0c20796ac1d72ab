"""Where a study is kept: a database, or a journal file that machines share."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import sqlalchemy
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages._cached_storage import _CachedStorage, _StudyInfo
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState

from harness.errors import HarnessError

# Seconds for another machine to make the tables of a database.
TABLES_TIMEOUT = 3.0

BEGUN = tuple(state for state in TrialState if state != TrialState.WAITING)


class CachedStorage(_CachedStorage):
    """Optuna's cache of a database, which reads finished trials once; this one does so with waiting trials, too.

    A sweep queues all of its trials when it begins, and a trial in the queue does not change until it is begun.
    """

    def __init__(self, backend: RDBStorage) -> None:
        super().__init__(backend)
        # Ids by study: up to the first no trial is unknown, the second is the newest of all that were ever read.
        self._known: dict[int, tuple[int, int]] = {}

    def _read_trials_from_remote_storage(self, study_id: int) -> None:
        with self._lock:
            study = self._studies.setdefault(study_id, _StudyInfo())
            complete, newest = self._known.get(study_id, (-1, -1))
            # First those in the queue: one that leaves it meanwhile is among the others, then or the next time.
            queued = self._backend._get_trials(study_id, (TrialState.WAITING,), set(), complete)
            begun = self._backend._get_trials(study_id, BEGUN, study.unfinished_trial_ids, complete)
            self._add_trials_to_cache(study_id, [*queued, *begun])
            for trial in (*queued, *begun):
                if trial.state.is_finished():
                    study.unfinished_trial_ids.discard(trial._trial_id)
                else:
                    study.unfinished_trial_ids.add(trial._trial_id)
            # Between the two reads one may have been queued, and a newer one queued and begun.
            complete = max(newest, *(trial._trial_id for trial in queued), complete)
            self._known[study_id] = complete, max(complete, *(trial._trial_id for trial in begun), newest)


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
        storage = _database(url, arguments)
        if url.startswith("sqlite"):
            _take_turns(storage.engine)
        return CachedStorage(storage)
    except (ImportError, ValueError, OSError) as error:
        raise HarnessError(f"--storage {url} cannot be opened: {str(error).splitlines()[0]}") from error
    except Exception as error:
        # SQLAlchemy's and the database's own.
        if type(error).__module__.partition(".")[0] not in ("sqlalchemy", "optuna", "sqlite3"):
            raise
        raise HarnessError(f"--storage {url} cannot be opened: {str(error).splitlines()[0]}") from error


def _database(url: str, arguments: dict[str, Any]) -> RDBStorage:
    try:
        return RDBStorage(url, engine_kwargs=arguments)
    except (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError):
        # Another machine that begins at the same moment makes the tables of an empty database; soon they are there.
        time.sleep(TABLES_TIMEOUT)
        return RDBStorage(url, engine_kwargs=arguments)


def _take_turns(engine: sqlalchemy.Engine) -> None:
    """Have SQLite lock before it reads, not first when it writes: else two that look for work take the same trial.

    Optuna asks for such a lock (SELECT ... FOR UPDATE), which SQLite does not have.
    """

    @sqlalchemy.event.listens_for(engine, "connect")
    def leave_transactions_to_us(connection: Any, _: object) -> None:
        connection.isolation_level = None

    @sqlalchemy.event.listens_for(engine, "begin")
    def lock(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
