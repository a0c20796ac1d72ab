"""Where it looks: every test image with its maps, of any run or of two side by side."""

from __future__ import annotations

from reports.collection import Collection
from reports.page.gallery_data import make_album
from reports.page.section import Section
from reports.page.site import Site


def section(collection: Collection, site: Site) -> Section | None:
    album = make_album(collection, site)
    return Section(
        "gallery",
        "Where it looks",
        "gallery.html.j2",
        {"album": album},
        scripts=("pictures.js", "picture.js", "gallery.js"),
        styles=("gallery.css",),
    )
