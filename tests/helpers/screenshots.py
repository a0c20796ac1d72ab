"""Images for README and docs, into docs/images/: screenshots of the report and figures of the demo's runs.

    make demo
    python -m tests.helpers.screenshots demo/runs

They show the built-in scenes only. Look at each of them before you commit it.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Locator, Page, expect

from reports.collection import collect
from reports.page.build import build
from reports.runs import Run
from tests import ROOT
from tests.helpers.browser import WIDE, Reader, started

IMAGES = ROOT / "docs" / "images"
MAX_BYTES = 400_000

FIGURES_WIDTH = 1600  # px, of the figures of a run side by side
GAP = 12  # px
CARDS = 9  # of the gallery
COMPARISON_HEIGHT = 1300  # px
ATTENTION_PAGE = "*bat_diamond-0001.jpg"


def save(image: Image.Image, name: str) -> None:
    """Write a PNG in 256 colours. Raises ValueError if it is too large."""
    path = IMAGES / f"{name}.png"
    rgb = image.convert("RGB")
    rgb.quantize(palette=rgb.quantize(256), dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size} bytes; the limit is {MAX_BYTES}.")


def screenshot(page: Page, first: Locator, last: Locator, *, margin: int = 10) -> Image.Image:
    """The page's main column from the top of one element to the bottom of another."""
    first.scroll_into_view_if_needed()
    last.scroll_into_view_if_needed()
    page.wait_for_load_state("networkidle")
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(1000)  # the browser decodes the sheets of images that came into view
    start, end, column = (locator.bounding_box() for locator in (first, last, page.locator("main")))
    assert start and end and column
    top = start["y"] - margin
    height = end["y"] + end["height"] + margin - top
    clip = {"x": column["x"] - margin, "y": top, "width": column["width"] + 2 * margin, "height": height}
    return Image.open(io.BytesIO(page.screenshot(clip=clip, full_page=True)))


def open_gallery(page: Page, other: str) -> Locator:
    """Show the relevance of two runs over each image; returns the last card of the screenshot."""
    page.locator("#gallery").scroll_into_view_if_needed()
    cards = page.locator("#gallery-images .card")
    expect(cards.first).to_be_visible()
    page.locator("#runs-bar [name=other]").select_option(label=other)
    page.locator("#gallery-controls [name=map]").select_option(label="relevance")
    page.locator("#gallery-controls [name=order]").select_option("unsure")
    expect(cards.first.locator(".overlay")).to_have_count(2)
    return cards.nth(CARDS - 1)


def open_comparison(page: Page) -> Image.Image:
    """The panel that compares the best run with the third, down to the confusions."""
    for place in (0, 2):
        page.locator("#leaderboard-table [data-tick]").nth(place).check()
    page.locator("#runs-bar [name=compare]").click()
    view = page.locator("#compare-view")
    expect(view.locator("[data-curve].drawn")).to_have_count(3)
    page.set_viewport_size({"width": WIDE, "height": COMPARISON_HEIGHT})
    page.wait_for_timeout(1000)  # charts take the new width
    image = Image.open(io.BytesIO(view.screenshot()))
    page.set_viewport_size({"width": WIDE, "height": 900})
    page.keyboard.press("Escape")
    page.locator("#runs-bar [name=clear]").click()
    return image


def side_by_side(images: list[Image.Image], width: int) -> Image.Image:
    """Images in a row of that width, scaled to one height."""
    height = (width - GAP * (len(images) - 1)) / sum(image.width / image.height for image in images)
    row = Image.new("RGB", (width, round(height)), "white")
    left = 0.0
    for image in images:
        scaled = image.resize((round(image.width / image.height * height), round(height)), Image.Resampling.LANCZOS)
        row.paste(scaled, (round(left), 0))
        left += scaled.width + GAP
    return row


def stacked(rows: list[Image.Image]) -> Image.Image:
    made = Image.new("RGB", (max(row.width for row in rows), sum(row.height + GAP for row in rows) - GAP), "white")
    top = 0
    for row in rows:
        made.paste(row, (0, top))
        top += row.height + GAP
    return made


def opened(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB")


def figures(run: Run) -> Image.Image:
    """A scene of each class, the training curves, the confusion matrix, and the attention heads."""
    classes = sorted(path for path in Path(str(run.config["data"]), "test").iterdir() if path.is_dir())
    scenes = [opened(min(folder.iterdir())) for folder in classes]
    names = ("confusion_matrix", "attention_heads")
    return stacked(
        [
            side_by_side(scenes, FIGURES_WIDTH),
            side_by_side([opened(run.path / "figures" / "loss_curve.png")], FIGURES_WIDTH),
            side_by_side([opened(run.path / "figures" / f"{name}.png") for name in names], FIGURES_WIDTH),
        ]
    )


def main(runs_dir: str) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    collection = collect(runs_dir)
    best, worst = collection.board.finished[0].run, collection.board.finished[-1].run
    with started() as browser:
        reader = Reader(browser)
        page = reader.open(build(runs_dir), width=WIDE)
        save(open_comparison(page), "compare")
        last = open_gallery(page, collection.label(worst))
        page.add_style_tag(content="#runs-bar { display: none; }")  # it is at the foot of the window, not of the page
        save(screenshot(page, page.locator("main > header"), page.locator("#leaderboard")), "report")
        save(screenshot(page, page.locator("#gallery-title"), last), "gallery")
        page.locator("#gallery-images .card").filter(has_not=page.locator(".warning")).first.click()
        save(Image.open(io.BytesIO(page.get_by_role("dialog").screenshot())), "image-view")
        assert not reader.complaints, reader.complaints
    save(figures(best), "run")
    save(opened(next((best.path / "attention" / "pictures").glob(ATTENTION_PAGE))), "attention-page")
    save(opened(best.path.parent / "positions.png"), "positions")


if __name__ == "__main__":
    main(*sys.argv[1:])
