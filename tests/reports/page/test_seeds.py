"""Settings with several seeds: every place shows the same mean, standard deviation and number of seeds."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from reports.caveats import caveats
from reports.collection import Collection, collect
from reports.page.build import build
from reports.stats.leaderboard import leaderboard, to_json
from reports.stats.leaderboard_table import render
from reports.wandb_report.findings import findings
from tests.helpers.browser import NARROW, Reader
from tests.helpers.pages import Page, charts, page_data
from tests.helpers.seeds import SCORES, write_seed, write_seeds
from tests.reports.stats.test_leaderboard import write

# Of SCORES: mean and standard deviation with n - 1, by hand in test_setting.py.
POOLED = (("0.9100", "0.0100"), ("0.8700", "0.0964"), ("0.4200", "0.0265"))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write_seeds(tmp_path / "runs")
    return tmp_path / "runs"


def test_every_place_shows_the_same_mean_sd_and_n(runs: Path) -> None:
    collection = collect(runs)
    text = render(collection.board, 200).splitlines()
    report = findings(collection)["leaderboard"].splitlines()
    said = Page(build(runs)).text_of("leaderboard")
    rows = json.loads(to_json(collection.board))["rows"]
    data = charts(runs / "report")
    [points] = [trace for trace in data["effects-setting-0"]["data"] if "error_y" in trace]
    for place, (mean, sd) in enumerate(POOLED, start=1):
        lr = f"{rows[place - 1]['settings']['lr']:g}"
        assert next(line.split() for line in text if line.startswith(f"{place} "))[:5] == [
            str(place),
            lr,
            "3",
            mean,
            sd,
        ]
        assert any(line.startswith(f"| {place} | {lr} | 3 | {mean} | {sd} |") for line in report)
        assert f" {lr} 3 {mean} ± {sd} " in said
        row = rows[place - 1]
        assert (f"{row['metric']['mean']:.4f}", f"{row['metric']['sd']:.4f}", row["n"]) == (mean, sd, 3)
        assert f"{points['y'][place - 1]:.4f}" == mean
        assert f"{points['error_y']['array'][place - 1]:.4f}" == sd
        assert points["text"][place - 1] == f"lr {lr} (mean of 3 seeds, sd {sd})"


def test_the_verdict_is_of_the_setting(runs: Path) -> None:
    said = Page(build(runs)).text_of("verdict")
    assert said.startswith("Best by mean validation F1 (0.9100 ± 0.0100, 3 seeds) lr 0.0001 0.9")
    assert "mean test macro F1" in said and "n = 100 images, 3 seeds, sd 0.0" in said
    assert "best seed 2" in said
    assert "other setting" in said or "others" in said


def test_curves_are_means_with_a_band(runs: Path) -> None:
    build(runs)
    traces = charts(runs / "report")["curves-val-f1"]["data"]
    lines = {trace["name"]: trace for trace in traces if "fill" not in trace}
    bands = {trace["meta"]: trace for trace in traces if trace.get("fill") == "toself"}
    assert list(lines) == ["lr 0.001", "lr 0.0003", "lr 0.0001"]
    line = lines["lr 0.0003"]
    scores = SCORES[3e-4]
    assert line["x"] == [1, 2]
    assert line["y"] == pytest.approx([sum(scores) / 6, sum(scores) / 3], rel=1e-4)
    band = bands[line["meta"]]
    assert band["x"] == [1, 2, 2, 1]
    assert band["y"] == pytest.approx([max(scores) / 2, max(scores), min(scores), min(scores) / 2])
    [level] = page_data(runs / "report")["curves-groups"]["setting"][:1]
    assert (level["text"], len(level["runs"])) == ("lr 0.0001", 1)


def test_a_cell_of_the_heat_map_is_a_setting(tmp_path: Path) -> None:
    for augment in ("none", "standard"):
        for lr, scores in SCORES.items():
            for seed, score in enumerate(scores[:2]):
                write_seed(tmp_path / "runs" / augment, lr, seed, score, 10, augment=augment)
    build(tmp_path / "runs")
    [trace] = charts(tmp_path / "runs" / "report")["effects-heat-0"]["data"]
    assert trace["text"][0][0] == "<b>0.905</b><br>sd 0.007, n = 2 seeds"
    # One setting: the seed is on no axis, and nothing is averaged over it.
    said = Page(tmp_path / "runs" / "report" / "index.html").text_of("effects")
    assert "seed 0" not in said and "averaged over" not in said
    axes = [each["label"] for each in charts(tmp_path / "runs" / "report")["effects-parallel"]["data"][0]["dimensions"]]
    assert axes == ["lr", "augment", "validation F1", "test F1"]


def test_caveats_count_seeds(runs: Path) -> None:
    assert not [caveat for caveat in caveats(collect(runs)) if "seed" in caveat.text]
    write_seed(runs, 1e-5, 0, 0.1, 80)
    [caveat] = [caveat for caveat in caveats(collect(runs)) if "seed" in caveat.text]
    assert caveat.text == "1 of 4 settings have one seed: their intervals are over images alone."
    assert caveat.details == ("lr 1e-05",)


def test_each_setting_with_another_seed(tmp_path: Path) -> None:
    for seed, lr in enumerate((1e-4, 1e-3)):
        write(tmp_path / f"{seed}", 0.5, lr=lr, seed=seed)
    found = collect(tmp_path)
    assert not found.board.repeated and found.board.settings == ("lr",)
    assert any(caveat.text.startswith("Each setting was trained with one seed. ") for caveat in caveats(found))


def test_one_setting_alone(tmp_path: Path) -> None:
    runs = [write(tmp_path / f"r{seed}", 0.5 + seed / 10, seed=seed) for seed in range(3)]
    collection = Collection(tmp_path, leaderboard(runs))
    [row] = collection.setting_rows
    assert collection.setting_label(row) == "all settings equal, 3 seeds as seed 2"
    said = Page(build(tmp_path)).text_of("verdict")
    assert "No other setting has finished." in said


def test_seeds_unfold_below_their_setting(runs: Path, reader: Reader) -> None:
    write(runs / "running", None, state="running", lr=3e-4, seed=3)
    page = reader.open(build(runs), charts=False)
    rows = page.locator("table.board tbody tr:visible")
    expect(rows).to_have_count(3)
    expect(page.locator("#leaderboard [data-count]")).to_have_text("3 settings")
    button = page.locator("table.board .expand").nth(1)
    expect(button).to_have_text("3 of 4")
    button.press("Enter")
    expect(button).to_have_attribute("aria-expanded", "true")
    expect(rows).to_have_count(7)
    seeds = page.locator("table.board tr.seed:visible td.seeds")
    assert seeds.all_inner_texts() == ["seed 2", "seed 1", "seed 0", "seed 3"]
    # Sorted the other way round, they are still below their setting.
    head = page.locator("table.board th", has_text="validation F1")
    for _ in range(2):
        head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    texts = [row.locator("td.seeds").inner_text().strip() for row in rows.all()]
    assert texts == ["3", "3 of 4", "seed 2", "seed 1", "seed 0", "seed 3", "3"]
    # A word of a seed finds its setting.
    page.locator("#leaderboard form [data-words]").fill("lr=0.001_s1")
    expect(page.locator("#leaderboard [data-count]")).to_have_text("1 of 3 settings")
    expect(rows).to_have_count(1)


def test_a_narrow_page_is_not_wider_than_the_window(runs: Path, reader: Reader) -> None:
    page = reader.open(build(runs), width=NARROW)
    page.locator("table.board .expand").first.click()
    page.locator("#curves").scroll_into_view_if_needed()
    expect(page.locator("#curves .plot").first).to_have_class(re.compile(r"\bdrawn\b"))
    assert page.evaluate("document.documentElement.scrollWidth") == NARROW


def test_the_verdict_without_an_interval_begins_with_the_images(runs: Path) -> None:
    for run in runs.iterdir():
        (run / "predictions.csv").unlink()
    assert "mean test macro F1 n = 100 images, 3 seeds, sd 0.0103" in Page(build(runs)).text_of("verdict")


def test_a_setting_is_sorted_by_the_seeds_that_have_finished(runs: Path) -> None:
    write(runs / "lr=0.01_s0", None, state="stopped", lr=0.01, seed=0)
    orders = [cell["data-order"] for cell in Page(build(runs)).all("td", **{"class": "number seeds"})]
    assert (orders[0], orders[-1]) == ("3", "0")


def test_the_axis_of_a_loss_shows_the_highest_seed(tmp_path: Path) -> None:
    for lr, seed, losses in ((1e-4, 0, (1.0, 0.5)), (1e-4, 1, (3.0, 0.5)), (1.0, 0, (90.0, 90.0, 90.0))):
        run = write_seed(tmp_path, lr, seed, 0.9 - lr / 2, 5)
        rows = [{"step": 1, "epoch": 1, "val/loss": losses[0]}, {"step": 2, "epoch": 2, "val/loss": losses[1]}]
        rows += [{"step": step, "epoch": step, "train/loss": loss} for step, loss in enumerate(losses, start=1)]
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        manifest = json.loads((run / "manifest.json").read_text())
        manifest["data"]["classes"] = 2
        (run / "manifest.json").write_text(json.dumps(manifest))
    build(tmp_path)
    assert charts(tmp_path / "report")["curves-val-loss"]["layout"]["yaxis"]["range"][1] > 3
