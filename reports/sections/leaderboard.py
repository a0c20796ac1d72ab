"""Which setting won, and whether the win is real."""

from __future__ import annotations

from reports.section import Collection, Section
from reports.site import Site


def section(collection: Collection, site: Site) -> Section | None:
    rows = [{"key": collection.key(row.run), "label": collection.label(row.run), "row": row} for row in collection.rows]
    return Section("leaderboard", "Leaderboard", "leaderboard.html.j2", {"rows": rows, "notes": collection.board.notes})
