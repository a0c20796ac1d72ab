"""The page in a browser as people use it: select, open a run, compare, keep the link, take a table or chart along."""

from __future__ import annotations

import csv
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from reports.page.build import build
from tests.helpers.browser import NARROW, TIMEOUT, Reader
from tests.helpers.small_sweep import CLASSES, ERRORS, HOSTILE, TEST_IMAGES, write_small_sweep

BEST, POOR = "lr 1e-05, batch size 16, augment none", "lr 0.001, batch size 16, augment standard"
FAILED = "lr 1, batch size 16, augment none"


def ticked(page: Page) -> list[str]:
    """Places of the selected rows."""
    rows = page.locator("#leaderboard-table tbody tr.ticked .place").all()
    return [row.inner_text().split()[0] for row in rows]


def until(holds: Callable[[], bool]) -> bool:
    """Whether it holds within the time limit: a chart follows a moment later."""
    end = time.monotonic() + TIMEOUT / 1000
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def key_of(page: Page, place: int) -> str:
    return page.locator("#leaderboard-table [data-tick]").nth(place - 1).get_attribute("data-tick") or ""


def test_a_selection_is_everywhere_and_in_the_address(report_page: Path, reader: Reader) -> None:
    page = reader.open(report_page)
    ticks = page.locator("#leaderboard-table [data-tick]")
    ticks.nth(1).check()
    page.locator("#curves").scroll_into_view_if_needed()
    curve = page.locator("[data-chart=curves-val-f1].drawn")
    expect(curve).to_be_visible()
    opacities = "one => Object.fromEntries(one.data.map((trace) => [trace.meta, trace.opacity]))"
    expected = {key_of(page, place): 1 if place == 2 else 0.12 for place in range(1, 6)}
    assert until(lambda: curve.evaluate(opacities) == expected)
    # A click on a line selects its run; on the same line again, it does not.
    click = "(one, key) => one.emit('plotly_click', {points: [{data: one.data.find(({meta}) => meta === key)}]})"
    curve.evaluate(click, key_of(page, 5))
    expect(ticks.nth(4)).to_be_checked()
    assert ticked(page) == ["2", "5"]
    expect(page.locator("#runs-bar output")).to_have_text("2 selected")
    # Back takes one step back, forward repeats it, and a reload keeps it.
    page.go_back()
    expect(ticks.nth(4)).not_to_be_checked()
    assert ticked(page) == ["2"]
    page.go_forward()
    expect(ticks.nth(4)).to_be_checked()
    page.reload()
    expect(ticks.nth(4)).to_be_checked()
    assert ticked(page) == ["2", "5"]
    # A brushed axis selects the lines that pass through it.
    page.locator("[data-chart=effects-parallel]").scroll_into_view_if_needed()
    parallel = page.locator("[data-chart=effects-parallel].drawn")
    key = parallel.evaluate("one => (one.emit('plotly_hover', {curveNumber: 1}), one.data[0].customdata[1])")
    label = page.locator(f"#leaderboard-table [data-open={key}]").get_attribute("aria-label") or ""
    expect(page.locator("#effects-hovered")).to_have_text(re.compile(f"^{label.removeprefix('Open ')}: 0[.]"))
    axis = parallel.locator(".axis-brush .background").last.bounding_box()
    assert axis is not None
    middle = axis["x"] + axis["width"] / 2
    page.mouse.move(middle, axis["y"] + 0.05 * axis["height"])
    page.mouse.down()
    page.mouse.move(middle, axis["y"] + 0.7 * axis["height"], steps=5)
    page.mouse.up()
    expect(page.locator("#runs-bar output")).to_have_text("3 selected")
    assert ticked(page) == ["2", "3", "4"]
    ranges = "one => one.data[0].dimensions.filter((dimension) => dimension.constraintrange).length"
    assert parallel.evaluate(ranges) == 1
    page.get_by_role("button", name="Clear selection").click()
    assert until(lambda: parallel.evaluate(ranges) == 0)
    assert ticked(page) == []


def test_a_filter_that_nothing_passes_offers_the_way_back(report_page: Path, reader: Reader) -> None:
    page = reader.open(report_page, charts=False)
    field, none = page.get_by_label("Filter"), page.locator("#leaderboard-none")
    count = page.locator("#leaderboard [data-count]")
    field.fill("f1>0.8 augment:standard")
    expect(count).to_have_text("2 of 7 runs")
    page.reload()
    expect(count).to_have_text("2 of 7 runs")
    expect(field).to_have_value("f1>0.8 augment:standard")
    field.fill("speed>3")
    expect(none).to_contain_text(
        "None of the 7 runs passes the filter speed>3. There is no field speed; fields are state"
    )
    none.get_by_role("button", name="Show all").click()
    expect(count).to_have_text("7 runs")
    expect(none).to_be_hidden()


def test_every_control_survives_a_reload(report_page: Path, reader: Reader) -> None:
    page = reader.open(report_page, charts=False)
    chosen = {
        "#gallery-controls [name=outcome]": "right",
        "#gallery-controls [name=order]": "sure",
        "#gallery-controls [name=view]": "strips",
        "#gallery-controls [name=map]": "head 2",
        "[data-curves] [data-group]": "augment",
        "[data-curves] [data-smooth]": "0.1",
        "#matrix-controls [name=order]": "f1",
    }
    for section in ("curves", "mistakes", "gallery"):
        page.locator(f"#{section}").scroll_into_view_if_needed()
    expect(page.locator("#gallery-images .card").first).to_be_visible()
    for control, value in chosen.items():
        page.locator(control).select_option(value)
    page.locator("[data-curves] [data-log]").check()
    page.locator("[data-legend] button", has_text="standard").click()
    page.locator("#gallery-controls [name=least]").fill("60")
    page.locator("#gallery-controls [name=least]").press("Tab")
    page.locator("#gallery-pages [data-step='1']").click()
    page.locator("#mistakes-classes th button", has_text="images").click()
    page.locator("#leaderboard-table th button", has_text="lr").click()
    page.get_by_label("Filter").fill("standard")
    shown = page.locator("#gallery-count").inner_text()
    assert shown.startswith("Images 16 to 30 of ")

    def holds() -> None:
        page.locator("#gallery").scroll_into_view_if_needed()
        expect(page.locator("#gallery-count")).to_have_text(shown)
        for control, value in chosen.items():
            expect(page.locator(control)).to_have_value(value)
        expect(page.locator("#gallery-controls [name=least]")).to_have_value("60")
        expect(page.locator("[data-curves] [data-log]")).to_be_checked()
        pressed = page.locator("[data-legend] button[aria-pressed=true]")
        expect(pressed).to_have_text("augment standard")
        for table, order in (("#mistakes-classes", "images"), ("#leaderboard-table", "lr")):
            expect(page.locator(f"{table} th[aria-sort]")).to_have_text(order)
        expect(page.get_by_label("Filter")).to_have_value("standard")

    page.reload()
    holds()
    # An image has its own address; Back closes it.
    page.locator("#gallery-images .card").first.click()
    name = page.locator("#image-title").inner_text()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#image-title")).not_to_have_text(name)
    page.reload()
    expect(page.locator("#image-title")).not_to_have_text(name)
    expect(page.locator("#image-view")).to_contain_text(f"17 of {shown.split(' of ')[1].split(',')[0]}")
    page.go_back()
    expect(page.locator("#image-view")).to_be_hidden()
    holds()
    # A shared link opens the same view elsewhere; Back undoes the last choice.
    shared = reader.open(page.url, charts=False)
    shared.locator("#gallery").scroll_into_view_if_needed()
    expect(shared.locator("#gallery-count")).to_have_text(shown)
    page.get_by_role("button", name="Reset filters").click()
    expect(page.locator("#gallery-controls [name=outcome]")).to_have_value("")
    page.go_back()
    holds()


def test_the_panel_of_a_run(tmp_path: Path, reader: Reader) -> None:
    runs = write_small_sweep(tmp_path)
    folder = next(runs.glob("lr0.001*"))
    (folder / "notes.md").write_text(f"# Try again\n{HOSTILE} with warmup")
    (next(runs.glob('lr1e-05_"none"*')) / "attention" / "attention.npz").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tags": f"night run, {HOSTILE},"}))
    page = reader.open(build(runs, tmp_path / "page"))
    # Its tags filter.
    page.locator("#leaderboard-table [data-tag]", has_text="#night run").click()
    expect(page.get_by_label("Filter")).to_have_value('tag="night run"')
    expect(page.locator("#leaderboard [data-count]")).to_have_text("1 of 7 runs")
    expect(page.locator("[data-field=tag]")).to_have_value("night run")
    page.locator("[data-field=tag]").select_option("all")
    # All sections show the best run, and name what it lacks.
    page.locator("#gallery").scroll_into_view_if_needed()
    expect(page.locator("#gallery-count")).to_contain_text(f"The page has no maps of {BEST}. Choose another run below;")
    expect(page.locator("#heads-missing")).to_have_text(f"The page has no head statistics of {BEST}.")
    page.get_by_role("button", name=f"Open {POOR}").click()
    view = page.locator("#run-view")
    expect(view.locator("h2")).to_have_text(POOR)
    expect(view).to_contain_text(f"Tags: night run, {HOSTILE}")
    expect(view.locator(".notes")).to_have_text(f"# Try again\n{HOSTILE} with warmup")
    differing = view.locator("section", has_text="Differences from the best run").locator("tbody tr").all_inner_texts()
    assert [row.split("\t") for row in differing] == [["lr", "0.001", "1e-05"], ["augment", "standard", "none"]]
    scores = view.locator("section", has_text="Scores").first.inner_text()
    assert f"{1 - ERRORS[1] / TEST_IMAGES:.4f}" in scores
    expect(view.locator("#run-losses.drawn")).to_be_visible()
    assert view.locator("#run-losses").evaluate("one => one.data.map(({name}) => name)") == [
        "training loss",
        "validation loss",
    ]
    expect(view.locator("th button, th", has_text=HOSTILE).first).to_be_visible()
    assert view.locator("img[src=x]").count() == 0
    command = view.locator(".commands .copy").first.get_attribute("data-copy") or ""
    assert command.startswith("harness train") and "--lr=0.001" in command
    # Its link keeps it; Escape closes it; Back opens it again.
    page.reload()
    expect(view.locator("h2")).to_have_text(POOR)
    page.keyboard.press("Escape")
    expect(view).to_be_hidden()
    expect(page).not_to_have_url(re.compile("view="))
    page.go_back()
    expect(view.locator("h2")).to_have_text(POOR)
    # Its mistakes are one step away, each time.
    for _ in range(2):
        steps = page.evaluate("history.length")
        view.get_by_role("button", name="Its mistakes").click()
        expect(view).to_be_hidden()
        expect(page.locator("#mistakes-count")).to_contain_text(f"{POOR}: {ERRORS[1]} of {TEST_IMAGES}")
        expect(page.locator("#mistakes-title")).to_be_in_viewport()
        assert page.evaluate("history.length") <= steps + 1
        page.locator("#main").evaluate("() => scrollTo(0, 0)")
        page.get_by_role("button", name=f"Open {POOR}").click()


def test_a_panel_that_was_closed_while_it_loads_stays_closed(report_page: Path, reader: Reader) -> None:
    page = reader.open(report_page, charts=False)
    waiting: list[Route] = []
    page.route(re.compile("/data/run-"), lambda route: waiting.append(route))
    opener = page.get_by_role("button", name=f"Open {POOR}")
    opener.click()
    view = page.locator("#run-view")
    expect(view).to_have_text("Loading…")
    page.keyboard.press("Escape")
    expect(view).to_be_hidden()
    for _ in range(TIMEOUT // 20):
        if waiting:
            break
        page.wait_for_timeout(20)
    waiting.pop().continue_()
    # All that the panel reads; it has what it waits for before this does.
    names = ("run", "mistakes", "positions", "heads")
    page.evaluate(
        "([names, key]) => Promise.all(names.map((name) => report.load(`${name}-${key}`))).then(() => null)",
        [names, opener.get_attribute("data-open")],
    )
    expect(view).to_be_hidden()


def test_a_reload_keeps_the_place(report_page: Path, reader: Reader) -> None:
    page = reader.open(f"{report_page.as_uri()}#at=provenance", charts=False)
    assert until(lambda: page.evaluate("scrollY") > 0)
    page.evaluate("scrollTo(0, 0)")
    page.reload()
    expect(page.locator("#leaderboard [data-count]")).to_have_text("7 runs")
    assert page.evaluate("scrollY") == 0


def test_a_run_without_results_has_a_panel(report_page: Path, reader: Reader) -> None:
    page = reader.open(report_page, charts=False)
    page.get_by_role("button", name=f"Open {FAILED}").click()
    view = page.locator("#run-view")
    expect(view.locator("h2")).to_have_text(FAILED)
    expect(view).to_contain_text(f"failed, not ranked. The loss became nan {HOSTILE}.")
    # A press between its parts does not close it, nor one that selects text and ends beside it; one beside it does.
    box = view.bounding_box()
    assert box is not None
    inside, beside = box["x"] + 5, box["x"] - 50
    page.mouse.click(inside, 400)
    page.mouse.move(inside, 400)
    page.mouse.down()
    page.mouse.move(beside, 400)
    page.mouse.up()
    expect(view).to_be_visible()
    page.mouse.click(beside, 400)
    expect(view).to_be_hidden()
    page.locator("#mistakes").scroll_into_view_if_needed()
    expect(page.locator("#mistakes-count")).to_contain_text(f"{FAILED} has no predictions of test images.")
    page.locator("#gallery").scroll_into_view_if_needed()
    expect(page.locator("#gallery-count")).to_contain_text(f"The page has no maps of {FAILED}.")


def test_runs_are_compared(report_page: Path, reader: Reader) -> None:
    page = reader.open(report_page, charts=False)
    compare = page.locator("#runs-bar").get_by_role("button", name="Compare")
    expect(compare).to_be_disabled()
    for place in (1, 4):
        page.locator("#leaderboard-table [data-tick]").nth(place - 1).check()
    compare.click()
    view = page.locator("#compare-view")
    expect(view.locator("h2")).to_have_text("2 compared")
    assert view.locator("ol.compared li").all_inner_texts() == [BEST, POOR]
    settings = view.locator("section", has_text="Settings that differ").locator("tbody tr").all_inner_texts()
    assert [row.split("\t") for row in settings] == [["lr", "1e-05", "0.001"], ["augment", "none", "standard"]]
    classes = view.locator("section", has_text="F1 of each class").locator("tbody tr")
    assert classes.count() == len(CLASSES)
    assert classes.first.inner_text().split("\t")[1:] == ["1.000", "0.500", "0.500"]
    confusions = view.locator("section", has_text="Confusions, number of images").locator("tbody tr").all_inner_texts()
    assert sum(int(row.split("\t")[2]) for row in confusions) == ERRORS[1]
    # Images that only one of the two gets right, with both maps.
    expect(view.locator("h4").first).to_have_text(f"{ERRORS[1]} won: only the first is right")
    expect(view.locator("h4").nth(1)).to_have_text("0 lost: only the first is wrong")
    cards = view.locator(".card")
    expect(cards).to_have_count(8)
    expect(cards.first.locator(".overlay")).to_have_count(2)
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    expect(view.locator("h2")).to_have_text("2 compared")
    view.get_by_role("button", name="Positions and heads").click()
    expect(view).to_be_hidden()
    heads = page.locator("#positions-maps h4")
    expect(heads).to_have_text([BEST, POOR])


def test_a_patch_is_chosen_in_all_position_maps(report_page: Path, reader: Reader) -> None:
    page = reader.open(report_page, charts=False)
    page.locator("#positions-maps").scroll_into_view_if_needed()
    runs = page.locator("#positions-maps .position-maps")
    expect(runs).to_have_count(2)  # the best and the worst that finished
    status = page.locator("#positions-maps [role=status]")
    expect(status).to_have_text(["Patch in row 4, column 4."] * 2)  # the middle one of 7 x 7
    runs.first.get_by_role("group").focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    expect(status).to_have_text(["Patch in row 3, column 5."] * 2)
    # A tile under the pointer is that of its patch; another map then gives the numbers of two patches.
    tiles = runs.nth(1).locator("canvas").first
    box = tiles.bounding_box()
    assert box is not None and box["width"] == pytest.approx(box["height"], abs=1)
    tiles.hover(position={"x": 0.5 / 7 * box["width"], "y": 6.5 / 7 * box["height"]})
    expect(status.first).to_have_text("Patch in row 7, column 1.")
    one = runs.first.locator("canvas").nth(2)
    one.hover(position={"x": 0.5 / 7 * box["width"], "y": 6.5 / 7 * box["height"]})
    expect(status.first).to_contain_text("with the patch in row 7, column 1: 1.00 before, 1.00 after.")
    # The best run's embedding is as before: so are the colours of its maps, and not those of the other run.
    pixels = "all => all.slice(0, 2).map((one) => one.toDataURL())"
    before, after = runs.first.locator("canvas").evaluate_all(pixels)
    assert before == after
    before, after = runs.nth(1).locator("canvas").evaluate_all(pixels)
    assert before != after
    # All settings are there, by learning rate.
    page.locator("#positions-sweep").scroll_into_view_if_needed()
    expect(page.locator("#positions-sweep .position-row").first.locator("canvas")).to_have_count(3)
    assert page.locator("#positions-sweep b:not(.tag)").all_inner_texts() == [
        *["learning rate 1e-05"] * 3,
        "learning rate 0.001",
        "learning rate 0.1",
    ]


def test_a_patch_is_chosen_by_a_tap(report_page: Path, reader: Reader) -> None:
    page = reader.open(report_page, width=NARROW, charts=False, has_touch=True)
    page.locator("#positions-maps").scroll_into_view_if_needed()
    run = page.locator("#positions-maps .position-maps").first
    expect(run.get_by_role("status")).to_have_text("Patch in row 4, column 4.")
    tiles, one = run.locator("canvas").first, run.locator("canvas").nth(2)
    for canvas in (tiles, one):
        box = canvas.bounding_box()
        assert box is not None
        canvas.tap(position={"x": 0.5 / 7 * box["width"], "y": 6.5 / 7 * box["height"]})
        expect(run.get_by_role("status")).to_contain_text("Patch in row 7, column 1")
    expect(run.get_by_role("status")).to_contain_text("with the patch in row 7, column 1: 1.00 before, 1.00 after.")


def test_a_cell_of_the_confusion_matrix_leads_to_its_images(report_page: Path, reader: Reader) -> None:
    page = reader.open(report_page)
    page.locator("#runs-bar [name=run]").select_option(POOR)
    page.locator("[data-chart=confusion]").scroll_into_view_if_needed()
    matrix = page.locator("[data-chart=confusion].drawn")
    expect(matrix).to_be_visible()
    cell = matrix.locator(".heatmaplayer image").bounding_box()
    assert cell is not None and cell["width"] == pytest.approx(cell["height"], rel=0.02)  # square cells
    assert matrix.evaluate("one => [one.data[0].text[0][1], one.data[0].text[1][0]]") == ["4", ""]
    assert matrix.evaluate("one => one.data[0].customdata[1][0][2]") == "0 of 8"  # hovering an empty cell
    cells = matrix.locator(".nsewdrag")
    cells.click(position={"x": 3.5 / 8 * cell["width"], "y": 2.5 / 8 * cell["height"]})
    expect(page.locator("#gallery-count")).to_have_text(f"Images 1 to 4 of 4, filtered from {TEST_IMAGES}.")
    chosen = [page.locator(f"#gallery-controls [name={name}]") for name in ("truth", "predicted")]
    shown = [one.evaluate("({selectedOptions}) => selectedOptions[0].textContent") for one in chosen]
    assert shown == ["archery", "bobsled"]
    # A class of the table leads to all of its images.
    page.locator("#mistakes-classes").get_by_role("button", name="high jump").click()
    expect(page.locator("#gallery-count")).to_have_text(f"Images 1 to 8 of 8, filtered from {TEST_IMAGES}.")


def test_tables_and_charts_are_taken_along(report_page: Path, reader: Reader, tmp_path: Path) -> None:
    page = reader.open(report_page)
    page.get_by_label("Filter").fill("state:finished")
    with page.expect_download() as download:
        page.locator("#leaderboard").get_by_role("button", name="Save this table as CSV").click()
    download.value.save_as(tmp_path / "board.csv")
    with (tmp_path / "board.csv").open(newline="") as file:
        heading, *rows = list(csv.reader(file))
    assert len(rows) == len(ERRORS) and heading[-1] == "images/s"
    assert [row[heading.index("lr")] for row in rows] == ["1e-05", "1e-05", "1e-05", "0.001", "0.1"]
    assert rows[0][heading.index("validation F1")] == "1.0000"
    assert page.evaluate("takeAlong.csv([['=1+1', '-3', 'a\"b', '@x']])") == '\'=1+1,-3,"a""b",\'@x\r\n'
    chart = page.locator(".chart", has=page.locator("[data-chart=curves-loss]"))
    chart.scroll_into_view_if_needed()
    expect(chart.locator(".plot.drawn")).to_be_visible()
    # The hover text and the saved chart name the smoothing.
    page.locator("[data-smooth]").select_option("mean of 10 % of each line")
    expect(chart.locator(".gtitle")).to_have_text("mean of 10 % of each line")
    assert "mean of 10 % of each line" in chart.locator(".plot").evaluate("one => one.data[0].hovertemplate")
    with page.expect_download() as download:
        chart.get_by_role("button", name="Save this chart as SVG").click()
    download.value.save_as(tmp_path / "chart.svg")
    saved = (tmp_path / "chart.svg").read_text()
    assert saved.startswith("<svg") and "mean of 10 % of each line" in saved
    page.locator("[data-smooth]").select_option("not smoothed")
    expect(chart.locator(".gtitle")).to_have_count(0)
    assert "mean of" not in chart.locator(".plot").evaluate("one => one.data[0].hovertemplate")


def test_keys_reach_a_section_in_three_stops(report_page: Path, reader: Reader) -> None:
    page = reader.open(report_page, charts=False)
    link = page.locator(".rail a", has_text="Leaderboard")
    link.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Filter")).to_be_focused()
    # An empty value would mean that it is not the current one.
    expect(link).to_have_attribute("aria-current", "true")
    page.locator("#leaderboard-table [data-tick]").first.focus()
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#run-view h2")).to_have_text(BEST)
    page.keyboard.press("Escape")
    assert ticked(page) == ["1"] and "at=leaderboard" in page.url


def test_on_a_phone(report_page: Path, reader: Reader) -> None:
    page = reader.open(report_page, width=NARROW, charts=False)
    page.locator("#runs-bar [name=run]").select_option(POOR)
    page.get_by_role("button", name="Open run").click()
    expect(page.locator("#run-view h2")).to_have_text(POOR)
    sizes = "one => [one.scrollWidth, one.clientWidth]"
    needed, there = page.locator("#run-view").evaluate(sizes)
    assert needed == there <= NARROW
    page.keyboard.press("Escape")
    assert page.evaluate("document.documentElement.scrollWidth") == NARROW


def test_a_link_to_runs_that_are_gone(report_page: Path, reader: Reader) -> None:
    gone = "r0123456789"
    page = reader.open(f"{report_page.as_uri()}#select={gone}&run={gone}&view=run", charts=False)
    expect(page.locator("#leaderboard [data-count]")).to_have_text("7 runs")
    assert ticked(page) == []
    expect(page.locator("#run-view")).to_be_hidden()
