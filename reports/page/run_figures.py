"""Figures of a run folder, copied to the page."""

from __future__ import annotations

import functools

from harness.runs.reading import UnreadableError, refuse_links
from harness.runs.sprite_files import read_image
from reports.page.site import Site
from reports.runs import Run


def copied_figure(site: Site, key: str, run: Run, name: str) -> str | None:
    """The address of figures/<name>.png of a run, copied if it changed; None without one or behind a link.

    `key` is the run's, of `Collection.key`.
    """
    path = run.path / "figures" / f"{name}.png"
    try:
        if not path.is_file():
            return None
        refuse_links(path, run.path)
        about = path.stat()
        stamp = f"{path.name} {about.st_mtime_ns} {about.st_size}"
        return site.made(f"figures/{key}/{name}.png", stamp, functools.partial(read_image, path))
    except UnreadableError:
        return None
