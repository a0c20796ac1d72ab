"""Where it looks: every test picture with its maps, of any run or of two side by side."""

from __future__ import annotations

from reports.album import make_album
from reports.section import Collection, Section
from reports.site import Site


def section(collection: Collection, site: Site) -> Section | None:
    album = make_album(collection, site)
    return Section(
        "gallery",
        "Where it looks",
        "gallery.html.j2",
        {"album": album},
        scripts=("pictures.js", "gallery.js"),
        styles=("gallery.css",),
    )
