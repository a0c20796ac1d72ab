"""Shared by the tests of sweeps: their databases do not wait for the disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy


@pytest.fixture(autouse=True, scope="session")
def unsynchronised_databases() -> Iterator[None]:
    """No test cuts the power, so that SQLite need not wait for each transaction (sqlite.org/pragma.html)."""

    def do_not_wait(connection: Any, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous = OFF")

    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", do_not_wait)
    yield
    sqlalchemy.event.remove(sqlalchemy.Engine, "connect", do_not_wait)
