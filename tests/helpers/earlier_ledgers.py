"""Makes a ledger look like one of an earlier version, which stored neither identities nor a definition."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path


def as_earlier_version(database: Path, *, before_recipes: bool = False) -> None:
    names = ["definition", "outside", *(["default_recipe"] if before_recipes else [])]
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        for name in names:
            connection.execute("DELETE FROM study_user_attributes WHERE key = ?", (name,))
        connection.execute("DELETE FROM trial_user_attributes WHERE key = 'key'")
        filled = "SELECT study_id, 'filled', 'true' FROM studies"
        connection.execute(f"INSERT INTO study_user_attributes (study_id, key, value_json) {filled}")
