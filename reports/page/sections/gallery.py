"""The attention gallery: every test image with its maps, of one run or of two side by side."""

from __future__ import annotations

from reports.collection import Collection
from reports.page.gallery_data import write_gallery
from reports.page.section import Section
from reports.page.site import Site


def section(collection: Collection, site: Site) -> Section | None:
    return Section(
        "gallery",
        "gallery.html.j2",
        {"gallery": write_gallery(collection, site)},
        scripts=("image_tiles.js", "image_view.js", "gallery_cards.js", "gallery_filter.js", "gallery.js"),
        styles=("gallery.css",),
    )
