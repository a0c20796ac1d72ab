"""What is wrong with the file or the database of a trial queue, in words."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import optuna
import sqlalchemy.exc

from harness.errors import HarnessError, first_line
from harness.files import expanded
from harness.runs.folder import refuse_links_in
from harness.sweep.search.storage import default_storage, is_damage
from harness.sweep.spec.sweep_file import Sweep


@contextlib.contextmanager
def ledger_errors_in_words(file: Path) -> Iterator[None]:
    """Raise HarnessError if the database of the trial queue of a sweep file is damaged, full, locked or away."""
    try:
        yield
    except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError, sqlite3.Error) as error:
        cause = first_line(error.__cause__ or error)
        if is_damage(error):
            raise HarnessError(
                f"The trial queue of {file} is damaged ({cause}). Move its database (study.db in the sweep's folder, "
                f"or that of --storage) away, and make it again from the run folders: harness sweep rebuild {file}"
            ) from error
        raise HarnessError(
            f"The trial queue of {file} cannot be read or written ({cause}). Running trials have saved their state. "
            "Repeat the command when the storage is available again."
        ) from error


def check_sweep_folder(sweep: Sweep, folder: Path, storage: str | None) -> None:
    """Raises HarnessError if the folder is a link, or if it holds runs and the file of their trial queue is lost.

    A new queue would train them all again.
    """
    refuse_links_in(folder, folder / "logs")
    path = ledger_file(folder, storage)
    if path is None or has_content(path):
        return
    runs = len(list(folder.glob("*/manifest.json")))
    # The queue is looked for again: another runner may have begun the sweep since, and these runs.
    if runs and not has_content(path):
        raise HarnessError(
            f"{folder} holds {runs} run{'s' * (runs != 1)}, but the trial queue of the sweep {sweep.name}, {path}, is "
            f"{'empty' if path.exists() else 'missing'}. Make it again from the runs: harness sweep rebuild "
            f"{sweep.path}. To start over instead, move the folder away."
        )


def has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def ledger_file(folder: Path, storage: str | None) -> Path | None:
    """The file of a trial queue; None if it is in a database on a server."""
    url = storage or default_storage(folder)
    if "://" not in url:
        return expanded(url)
    try:
        parsed = sqlalchemy.engine.make_url(url)
    except sqlalchemy.exc.ArgumentError:
        return None  # opening it reports what is wrong
    return Path(parsed.database) if parsed.drivername.startswith("sqlite") and parsed.database else None
