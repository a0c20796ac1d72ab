"""Commands that use the best run."""

from __future__ import annotations

from harness.runs.rules import printable
from reports.collection import Collection
from reports.command import reproducing, using
from reports.page.section import Section
from reports.page.site import Site


def section(collection: Collection, site: Site) -> Section | None:
    best = collection.best
    if best is None:
        return None
    context = {
        "label": collection.label(best),
        "path": printable(best.path),
        "commands": [*using(best), ("Train the same settings again", reproducing(best))],
        "has_model": (best.path / "checkpoints" / "best.safetensors").is_file(),
    }
    return Section("use", "use.html.j2", context)
