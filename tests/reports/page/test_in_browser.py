"""The report page in a browser: what it shows, its controls, and what it must never do."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from reports.page.build import build
from tests.helpers.browser import NARROW, TIMEOUT, Reader, read_whole
from tests.helpers.small_sweep import CLASSES, ERRORS, FOLDER, HOSTILE, TEST_IMAGES
from tests.reports.stats.test_leaderboard import write, write_probed
from tests.runs.test_evidence_file import CLAIM

BEST, WORST = "lr 1e-05, batch size 16, augment none", "lr 0.1, batch size 16, augment standard"
SECTIONS = ("leaderboard", "effects", "curves", "study", "mistakes", "gallery", "positions", "use", "provenance")


def column(page: Page, name: str) -> list[str]:
    """Texts of a column of the leaderboard, of the rows that are not filtered out."""
    heads = page.locator("table.board thead th").all_inner_texts()
    place = next(index for index, head in enumerate(heads) if " ".join(head.split()) == name)
    rows = page.locator("table.board tbody tr:visible").all()
    return [row.locator("td").nth(place).inner_text().strip() for row in rows]


def test_everything_is_drawn(report_page: Path, reader: Reader) -> None:
    page = reader.open(report_page, width=NARROW, dark=True)
    assert [page.locator(f"#{name}").count() for name in SECTIONS] == [1] * len(SECTIONS)
    read_whole(page)
    assert page.locator("#verdict .setting").inner_text() == BEST
    # Nothing is wider than the page.
    assert page.evaluate("document.documentElement.scrollWidth") == NARROW
    maps = page.locator("canvas[role=img]")
    expect(maps).to_have_count(5 * 3 + 2 * 7)  # position embeddings: a row for each finished run, and two runs in full
    assert all(maps.evaluate_all("all => all.map((one) => Boolean(one.ariaLabel) && one.clientWidth > 50)"))


def test_figures_of_files_are_loaded_and_described(tmp_path: Path, reader: Reader) -> None:
    write(tmp_path / "a", 0.9, lr=1e-5)
    (tmp_path / "a" / "evidence.json").write_text(json.dumps({"claims": [CLAIM]}))
    (tmp_path / "a" / "figures").mkdir(exist_ok=True)
    Image.new("RGB", (40, 20)).save(tmp_path / "a" / "figures" / "evidence_heads.png")
    page = reader.open(build(tmp_path), charts=False)
    image = page.locator("#evidence img")
    image.scroll_into_view_if_needed()
    expect(image).to_have_js_property("naturalWidth", 40)
    expect(image).to_have_attribute("alt", re.compile("Which heads matter.*"))


def test_text_from_elsewhere_stays_text(report_page: Path, reader: Reader) -> None:
    page = reader.open(report_page)
    read_whole(page)
    assert page.locator("h1").inner_text() == FOLDER
    assert FOLDER in page.title()
    assert page.locator("#use code").first.inner_text().endswith(f'{FOLDER}/lr1e-05_"none"_bs16-0')
    # In the leaderboard's reason, the tables, lists and menus of classes, and a chart's axis.
    assert HOSTILE in page.locator("table.board").inner_text()
    assert HOSTILE in page.locator("#mistakes-classes tbody th").all_inner_texts()
    assert page.locator("#gallery-controls [name=truth] option").all_inner_texts() == ["any class", *CLASSES]
    assert any(HOSTILE[:20] in text for text in page.locator("#mistakes .ytick text").all_text_contents())
    page.locator("#gallery-images .card").first.click()
    assert page.locator("#image-title").inner_text() == f'test/{HOSTILE}/it\'s "0".jpg'
    assert page.locator("img[src=x]").count() == 0
    assert page.locator("[onerror], main b b").count() == 0


def test_the_first_view_is_small(report_page: Path, reader: Reader) -> None:
    page = reader.open(report_page, idle=False)
    page.wait_for_load_state("load")
    expect(page.locator("#leaderboard .board tbody tr").first).to_be_visible()
    root = report_page.parent
    asked = [
        root / unquote(url.removeprefix(root.as_uri() + "/")) for url in reader.requests if url.startswith("file:")
    ]
    assert report_page in asked
    assert sum(path.stat().st_size for path in asked) < 1_000_000
    # The charting library is read, and charts are drawn, when a chart comes near the view.
    assert not [path for path in asked if path.name == "plotly.min.js"]
    page.locator("#effects").scroll_into_view_if_needed()
    expect(page.locator("#effects .plot.drawn").first).to_be_visible()
    assert page.locator("#curves .plot.drawn, #mistakes .plot.drawn").count() == 0
    # Images are loaded only near the view.
    assert not [path for path in asked if path.suffix in (".jpg", ".png") and "positions" not in path.name]


@pytest.fixture
def server(report_page: Path) -> Iterator[str]:
    """The page's address on a web server."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *words: object) -> None:
            pass

    handler = partial(Handler, directory=str(report_page.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}/index.html"
        served.shutdown()


def test_it_loads_from_a_web_server_too(server: str, reader: Reader) -> None:
    page = reader.open(server)
    read_whole(page)
    assert {url.partition("/index.html")[0].split("/")[2] for url in reader.requests if url.startswith("http")} == {
        server.split("/")[2]
    }


def test_sorting(report_page: Path, reader: Reader) -> None:
    page = reader.open(report_page, charts=False)
    scores = [f"{1 - errors / TEST_IMAGES:.4f}" for errors in sorted(ERRORS)]
    assert column(page, "validation F1") == [*scores, "–", "–"]
    head = page.locator("table.board th", has_text="validation F1")
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "descending")
    assert column(page, "validation F1") == [*scores, "–", "–"]
    head.get_by_role("button").press("Enter")
    expect(head).to_have_attribute("aria-sort", "ascending")
    assert column(page, "validation F1") == [*reversed(scores), "–", "–"]
    p, order = page.locator("table.board th button", has_text=re.compile("^p$")), []
    for _ in range(2):
        p.click()
        order.append(column(page, "p"))
    assert order[1] == [*reversed(order[0][:4]), "", "", ""] and order[1][0] == "<0.001"
    page.locator("table.board th", has_text="lr").get_by_role("button").press("Space")
    assert column(page, "lr") == ["1e-05", "1e-05", "1e-05", "0.0001", "0.001", "0.1", "1"]
    assert page.locator("table.board th[aria-sort]").all_inner_texts() == ["lr"]


def test_the_probe_stays_above_the_sorted_runs(tmp_path: Path, reader: Reader) -> None:
    write(tmp_path / "a", 0.9, lr=1e-5, head_init="zero")
    write_probed(tmp_path / "b", 0.7, 5, (0.8, 0.84), lr=1e-5, head_init="probe")
    page = reader.open(build(tmp_path), charts=False)
    assert column(page, "validation F1") == ["0.8000", "0.9000", "0.7000"]
    for order in ("descending", "ascending"):
        head = page.locator("table.board th", has_text="validation F1")
        head.get_by_role("button").click()
        expect(head).to_have_attribute("aria-sort", order)
        scores = ["0.9000", "0.7000"] if order == "descending" else ["0.7000", "0.9000"]
        assert column(page, "validation F1") == ["0.8000", *scores]
    # The probe is not a run: it is neither counted nor filtered out.
    page.locator("#leaderboard form [data-words]").fill("zero")
    expect(page.locator("#leaderboard form [data-count]")).to_have_text("1 of 2 runs")
    assert column(page, "validation F1") == ["0.8000", "0.9000"]
    # Its row has the columns of the others in the CSV file, too.
    rows = page.evaluate("takeAlong.rowsOf(document.getElementById('leaderboard-table'))")
    place = rows[0].index("validation F1")
    assert [(row[0], row[place]) for row in rows[1:]] == [("probe", "0.8000"), ("1 best", "0.9000")]


def test_every_choice_of_a_menu_shows_rows(tmp_path: Path, reader: Reader) -> None:
    write(tmp_path / "a", 0.9, lr=0.00034127361, seed=0)
    write(tmp_path / "b", None, state="failed", lr=0.00034127361, seed=1)
    write(tmp_path / "c", 0.8, lr=1e-5, seed=0)
    write(tmp_path / "d", 0.8, lr=1e-5, seed=1)
    page = reader.open(build(tmp_path), charts=False)
    rate, states = (page.locator(f"#leaderboard-filters [data-field={name}]") for name in ("lr", "state"))
    count = page.locator("#leaderboard [data-count]")
    assert rate.locator("option").all_inner_texts() == ["all", "1e-05", "0.0003413"]
    rate.select_option("0.0003413")
    expect(count).to_have_text("1 of 2 settings")
    expect(rate).to_have_value("0.0003413")
    rate.select_option("")
    assert states.locator("option").all_inner_texts() == ["all", "finished", "failed"]
    states.select_option("finished")
    expect(count).to_have_text("2 settings")
    states.select_option("failed")
    expect(count).to_have_text("1 of 2 settings")
    expect(states).to_have_value("failed")


def test_classes_are_sorted(report_page: Path, reader: Reader) -> None:
    page = reader.open(report_page, charts=False)
    page.locator("#mistakes").scroll_into_view_if_needed()
    page.locator("#runs-bar [name=run]").select_option("lr 0.001, batch size 16, augment standard")
    expect(page.locator("#mistakes-count")).to_contain_text(f"30 of {TEST_IMAGES} test images are predicted wrong")
    table = page.locator("#mistakes-classes")
    heading = table.locator("th", has_text="F1")
    expect(heading).to_have_attribute("aria-sort", "ascending")

    def scores() -> list[float]:
        return [float(text) for text in table.locator("tbody td:nth-child(2)").all_inner_texts()]

    expect(table.locator("tbody tr")).to_have_count(len(CLASSES))
    assert scores() == sorted(scores()) and scores()[0] < scores()[-1]
    heading.get_by_role("button").click()
    expect(heading).to_have_attribute("aria-sort", "descending")
    assert scores() == sorted(scores(), reverse=True)
    table.locator("th", has_text="class").first.get_by_role("button").click()
    names = table.locator("tbody th").all_inner_texts()
    assert sorted(names) == sorted(CLASSES) and names != list(reversed(names))
    assert names.index("air hockey") < names.index("bobsled") < names.index("wingsuit flying")
    # Another run keeps the order.
    page.locator("#runs-bar [name=run]").select_option(BEST)
    expect(table.locator("tbody tr").first.locator("td").first).to_have_text("1.000")
    assert table.locator("tbody th").all_inner_texts() == names


def test_the_leaderboard_fits_where_there_is_room(report_page: Path, reader: Reader) -> None:
    page = reader.open(report_page, charts=False)
    widths = "one => [one.scrollWidth, one.clientWidth]"
    needed, there = page.locator("#leaderboard .scroll").evaluate(widths)
    assert needed == there
    # The reason why a run has no place, however long, is a line of its row.
    row = page.locator("table.board tr", has_text="failed-5")
    expect(row.get_by_text("The loss became nan")).to_be_visible()
    assert row.bounding_box()["height"] < 60


def test_columns_that_do_not_fit_are_behind_a_button(tmp_path: Path, reader: Reader) -> None:
    names = [f"a_rather_long_setting_{number}" for number in range(6)]
    write(tmp_path / "a", 0.9, lr=1e-5, **dict.fromkeys(names, "one value"))
    write_probed(tmp_path / "b", 0.7, 5, (0.8, 0.84), lr=1e-3, **dict.fromkeys(names, "another value"))
    page = reader.open(build(tmp_path), charts=False)
    region, button = page.locator("#leaderboard .scroll"), page.locator("#leaderboard-columns")
    widths = "one => [one.scrollWidth, one.clientWidth]"
    expect(button).to_have_text("3 more columns")
    shown = page.locator("table.board thead th:visible").all_inner_texts()
    assert "images/s" not in shown and "state" in shown
    button.click()
    needed, there = region.evaluate(widths)
    assert needed > there
    expect(page.locator("table.board th", has_text="images/s")).to_be_attached()
    button.click()
    expect(button).to_have_text("3 more columns")


def test_filtering(report_page: Path, reader: Reader) -> None:
    page = reader.open(report_page, charts=False)
    choices = page.locator("#leaderboard form")
    count = choices.locator("[data-count]")
    expect(count).to_have_text("7 runs")
    page.get_by_label("Filter").fill("standard bs16")
    expect(count).to_have_text("3 of 7 runs")
    assert column(page, "augment") == ["standard"] * 3
    choices.locator("[data-field=lr]").select_option("0.1")
    assert column(page, "lr") == ["0.1"]
    page.get_by_label("Filter").fill("")
    choices.locator("[data-field=lr]").select_option("all")
    choices.locator("[data-field=state]").select_option("failed")
    assert column(page, "run")[0].startswith("failed-5")
    choices.locator("[data-field=state]").select_option("all")
    page.get_by_label("only the best and runs as good as it").check()
    shown = column(page, "#")
    assert shown[0] == "1 best" and len(shown) < 7
    assert all("best" in place for place in shown)


@pytest.mark.parametrize("has_clipboard", [True, False])
def test_a_command_is_copied(report_page: Path, reader: Reader, has_clipboard: bool) -> None:
    page = reader.open(report_page, charts=False, permissions=["clipboard-read", "clipboard-write"])
    if not has_clipboard:  # as on a server without https
        page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    button = page.locator("table.board .copy").nth(1)
    button.click()
    command = button.get_attribute("data-copy")
    assert command is not None
    assert command.startswith("harness train ") and """ '--data=data/it'"'"'s "sports"' """ in command
    expect(page.get_by_role("status").filter(has_text="Copied")).to_have_text(f"Copied: {command}")
    field = page.get_by_label("Filter")
    field.focus()
    page.keyboard.press("Control+V")
    expect(field).to_have_value(command)


def test_two_runs_side_by_side(report_page: Path, reader: Reader) -> None:
    page = reader.open(report_page, charts=False)
    controls = page.locator("#gallery-controls")
    controls.scroll_into_view_if_needed()
    cards = page.locator("#gallery-images .card")
    expect(cards).to_have_count(40)
    expect(cards.first.locator(".guess")).to_have_count(1)
    bar = page.locator("#runs-bar")
    runs = bar.locator("[name=other] option").all_inner_texts()
    assert set(runs) == {"no other run", WORST, *bar.locator("[name=run] option").all_inner_texts()}
    bar.locator("[name=other]").select_option(WORST)
    expect(cards.first.locator(".guess")).to_have_count(2)
    expect(cards.first.locator(".overlay")).to_have_count(2)
    # The best run is right on all, the worst on the last quarter.
    controls.locator("[name=outcome]").select_option("right, the other run wrong")
    expect(page.locator("#gallery-count")).to_have_text(
        f"Images 1 to 40 of {max(ERRORS)}, filtered from {TEST_IMAGES}."
    )
    expect(cards.first.locator(".guess.right")).to_have_count(1)
    expect(cards.first.locator(".guess.wrong")).to_have_count(1)
    cards.first.click()
    expect(page.locator("dialog .run-panel")).to_have_count(2)
    assert page.locator("dialog .run-panel h4").all_inner_texts() == [BEST, WORST]


def test_images_are_filtered(report_page: Path, reader: Reader) -> None:
    page = reader.open(report_page, charts=False)
    controls = page.locator("#gallery-controls")
    controls.scroll_into_view_if_needed()
    count = page.locator("#gallery-count")
    expect(count).to_have_text(f"Images 1 to 40 of {TEST_IMAGES}.")
    # Over an image, a map starts at its mean, here an even share; alone at 0.
    card, map_ = page.locator("#gallery-images .card").first, page.locator("#gallery-images .card .map").first
    sheet = "one => [one.style.backgroundImage.split('/').at(-1), one.clientWidth]"
    expect(card.locator(".ends")).to_contain_text(f"scale {100 / 49:.3g} % to ")
    assert map_.evaluate(sheet) == ['above-000.png")', 112]
    legend = page.locator("#gallery-scale")
    expect(legend).to_contain_text("from its mean (from 0 where the page lacks the image) to its own largest value")
    expect(legend).to_contain_text("a nearly even map's go further")
    controls.locator("[name=view]").select_option("map alone")
    controls.locator("[name=size]").select_option("large")
    expect(card.locator(".ends")).to_contain_text("scale 0 to ")
    expect(legend).to_contain_text("Each map's colours go from 0 to its own largest value;")
    assert map_.evaluate(sheet) == ['own-000.png")', 224]
    controls.locator("[name=truth]").select_option(HOSTILE)
    expect(count).to_have_text(f"Images 1 to 8 of 8, filtered from {TEST_IMAGES}.")
    controls.locator("[name=outcome]").select_option("wrong")
    expect(count).to_have_text(f"None of the {TEST_IMAGES} images passes the filters.")
    controls.get_by_role("button", name="Reset filters").click()
    controls.locator("[name=least]").fill("95")
    controls.locator("[name=least]").press("Tab")
    expect(count).to_have_text(f"Images 1 to 6 of 6, filtered from {TEST_IMAGES}.")


def test_light_and_dark(report_page: Path, reader: Reader) -> None:
    page = reader.open(report_page, dark=True)

    def lightness() -> int:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(", ")) // 3

    def ink_of_a_chart() -> str:
        chart = page.locator("#curves .plot.drawn .xtick text").first
        return str(chart.evaluate("one => getComputedStyle(one).fill"))

    page.locator("#curves").scroll_into_view_if_needed()
    expect(page.locator("#curves .plot.drawn .xtick text").first).to_be_attached()
    assert lightness() < 50
    button, dark_ink = page.locator("#theme"), ink_of_a_chart()
    button.click()
    expect(button).to_have_text("Theme: light")
    assert lightness() > 200
    expect(page.locator("#curves .plot .xtick text").first).not_to_have_css("fill", dark_ink)
    page.reload()
    expect(button).to_have_text("Theme: light")
    assert lightness() > 200
    button.click()
    button.click()
    expect(button).to_have_text("Theme: auto")
    assert lightness() < 50


def test_it_prints(report_page: Path, reader: Reader) -> None:
    page = reader.open(report_page, dark=True)
    # Nothing is scrolled to: the data of charts is read when the page has been left alone for seconds.
    names = page.locator(".plot").evaluate_all("all => all.map((one) => `data/${one.dataset.chart}.js`)")
    assert not any(url.endswith("plotly.min.js") for url in reader.requests)
    page.wait_for_function("globalThis.Plotly && document.querySelector('#mistakes-classes tbody tr')")
    for _ in range(TIMEOUT // 100):
        page.wait_for_timeout(100)
        if all(any(name in url for url in reader.requests) for name in names):
            break
    page.wait_for_function("!document.querySelector('head script[src^=\"data/\"]')")  # the last one is read
    assert page.locator(".plot.drawn").count() == 0
    content = page.pdf(prefer_css_page_size=True, print_background=True)
    assert content.startswith(b"%PDF-") and len(content) > 50_000
    assert content.count(b"/Type /Page\n") > 2 or content.count(b"/Type /Page") > 2
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light"
    for hidden in (".rail", ".filters", ".copy", "#gallery-controls", "#runs-bar"):
        assert not page.locator(hidden).first.is_visible(), hidden
    expect(page.locator(".plot:not(.drawn)")).to_have_count(0)
    expect(page.locator("table.board")).to_be_visible()
