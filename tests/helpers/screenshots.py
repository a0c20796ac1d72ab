"""Pictures of the report page for the README, into docs/.

    python -m tests.helpers.screenshots RUNS_DIR "augment none, lr 0.1, batch size 64"

of a sweep on photographs; the second word says which run stands beside the best one in the gallery.
"""

from __future__ import annotations

import io
import sys

from PIL import Image
from playwright.sync_api import Page, expect

from reports.page.build import build
from tests import ROOT
from tests.helpers.browser import NARROW, Reader, started

DOCS = ROOT / "docs"


def save(page: Page, name: str, *, top: str, height: int) -> None:
    """What a window of that height shows from an element on, in 256 colours."""
    width = page.evaluate("innerWidth")
    page.set_viewport_size({"width": width, "height": height})
    place = page.locator(top)
    place.evaluate("one => one.scrollIntoView()")
    for chart in page.locator(".plot").all():
        if chart.evaluate(
            "one => one.getBoundingClientRect().top < innerHeight && one.getBoundingClientRect().bottom > 0"
        ):
            expect(chart.locator(".main-svg").first).to_be_visible()
    place.evaluate("one => one.scrollIntoView()")
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(1000)  # sheets of images that have just come into view are decoded
    with Image.open(io.BytesIO(page.screenshot())) as taken:
        image = taken.convert("RGB")
        image.quantize(palette=image.quantize(256), dither=Image.Dither.FLOYDSTEINBERG).save(
            DOCS / f"{name}.png", optimize=True
        )


def main(runs_dir: str, beside: str) -> None:
    index = build(runs_dir)
    with started() as browser:
        reader = Reader(browser)
        page = reader.open(index)
        save(page, "report", top="#leaderboard", height=1080)
        page.locator("#gallery").scroll_into_view_if_needed()
        cards = page.locator("#gallery-images .card")
        expect(cards.first).to_be_visible()
        page.locator("#gallery-controls [name=other]").select_option(label=beside)
        page.locator("#gallery-controls [name=outcome]").select_option("won")
        page.locator("#gallery-controls [name=map]").select_option(label="relevance")
        expect(cards.first.locator(".overlay")).to_have_count(2)
        save(page, "report-gallery", top="#gallery", height=820)
        save(reader.open(index, width=NARROW, dark=True), "report-phone", top="body", height=844)
        assert not reader.complaints, reader.complaints


if __name__ == "__main__":
    main(*sys.argv[1:])
