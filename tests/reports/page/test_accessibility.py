"""Accessibility of the report page: axe's rules, and its use by keyboard."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.helpers.browser import NARROW, WIDE, Reader, read_whole


def findings(page: Page) -> list[str]:
    """Serious and critical violations that axe-core finds, with their elements."""
    # Preloading would fetch the style sheets, which a page that was opened from a file may not do.
    options = {"resultTypes": ["violations"], "preload": False}
    found = Axe().run(page, options=options).response["violations"]
    return [
        f"{one['id']}: {one['help']}: {[node['html'][:200] for node in one['nodes'][:3]]} of {len(one['nodes'])}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


# Both widths, and both themes: colours do not depend on the width.
@pytest.mark.parametrize(("width", "dark"), [(WIDE, False), (NARROW, True)], ids=["wide-light", "narrow-dark"])
def test_axe_finds_nothing_serious(report_page: Path, reader: Reader, width: int, dark: bool) -> None:
    page = reader.open(report_page, width=width, dark=dark)
    read_whole(page)
    assert findings(page) == []
    page.locator("details").evaluate_all("all => all.forEach((one) => { one.open = true; })")
    page.locator("#runs-bar [name=other]").select_option(index=2)
    page.locator("#gallery-images .card").first.click()
    expect(page.locator("dialog .run-panel")).to_have_count(2)
    assert findings(page) == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious_in_the_panels(report_page: Path, reader: Reader, dark: bool) -> None:
    page = reader.open(report_page, dark=dark, charts=False)
    page.locator("#runs-bar [name=run]").select_option(index=3)
    page.locator("#runs-bar [name=open]").click()
    expect(page.locator("#run-view .commands")).to_be_visible()
    assert findings(page) == []
    page.keyboard.press("Escape")
    for place in (0, 3):
        page.locator("#leaderboard-table [data-tick]").nth(place).check()
    page.locator("#runs-bar [name=compare]").click()
    expect(page.locator("#compare-view .card").first).to_be_visible()
    assert findings(page) == []


def focused(page: Page) -> dict[str, str]:
    """The focused element, and whether its focus is visible."""
    found = page.evaluate("""() => {
      const element = document.activeElement;
      const style = getComputedStyle(element);
      const box = element.getBoundingClientRect();
      const name = element.id || element.dataset.name || element.getAttribute("name") || "";
      const outlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1;
      const bar = element.closest(".modebar--hover");
      const faint = bar && getComputedStyle(bar).opacity < 1;
      const seen = outlined && !faint && box.width > 0 && box.height > 0;
      const place = element.closest("section, .rail, dialog");
      return {
        element: [element.localName, name || element.className || element.textContent.trim().slice(0, 40)].join(" "),
        in: place ? place.id || place.className : "",
        seen: seen ? "yes" : "no",
      };
    }""")
    return dict(found)


def test_tab_reaches_everything(report_page: Path, reader: Reader) -> None:
    page = reader.open(report_page, charts=False)
    read_whole(page)
    page.evaluate("scrollTo(0, 0)")
    page.keyboard.press("Tab")
    assert focused(page)["element"] == "a skip"
    walked = []
    for _ in range(400):
        now = focused(page)
        if now["element"].startswith("body"):
            break
        walked.append(now)
        page.keyboard.press("Tab")
    else:
        pytest.fail(f"Tab never reaches the end: {walked[-10:]}")
    assert [stop for stop in walked if stop["seen"] == "no"] == []
    # One stop per control: none is skipped, none traps the focus.
    stops = page.locator(
        "a[href], button:not([disabled]):not([tabindex='-1']), select:not([disabled]), input:not([disabled]), summary, "
        "[tabindex='0']:not(button)"
    )
    there = sum(stop.is_visible() for stop in stops.all())
    assert len(walked) == there
    assert {stop["in"] for stop in walked} >= {
        "rail",
        "leaderboard",
        "curves",
        "mistakes",
        "gallery",
        "positions",
        "use",
    }


def test_the_skip_link_skips(report_page: Path, reader: Reader) -> None:
    page = reader.open(report_page, charts=False)
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the results")
    expect(skip).to_be_in_viewport()
    skip.press("Enter")
    expect(page.locator("main")).to_be_focused()


def test_the_gallery_by_keyboard(report_page: Path, reader: Reader) -> None:
    page = reader.open(report_page, charts=False)
    page.locator("#gallery").scroll_into_view_if_needed()
    cards = page.locator("#gallery-images .card")
    expect(cards).to_have_count(40)
    cards.first.focus()
    for key, place in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", 39), ("Home", 0)):
        page.keyboard.press(key)
        expect(cards.nth(place)).to_be_focused()
    page.keyboard.press("ArrowDown")
    second_row = cards.evaluate_all("all => all.findIndex((one) => one.offsetTop > all[0].offsetTop)")
    assert second_row > 1
    expect(cards.nth(second_row)).to_be_focused()
    page.keyboard.press("PageDown")
    expect(page.locator("#gallery-count")).to_have_text("Images 41 to 64 of 64.")
    expect(cards.first).to_be_focused()

    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    title = dialog.locator("#image-title")
    opened = title.inner_text()
    page.keyboard.press("ArrowRight")
    expect(title).not_to_have_text(opened)
    # Tab stays inside.
    for _ in range(40):
        page.keyboard.press("Tab")
        assert page.evaluate(
            "document.activeElement === document.body || Boolean(document.activeElement.closest('dialog'))"
        )
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    # The focus is on the image that the dialog showed last.
    expect(cards.nth(1)).to_be_focused()
