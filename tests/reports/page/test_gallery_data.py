"""The data of the gallery: values for filters, shared images, the limit on runs, and missing files."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.explain.archive import write_archive
from harness.explain.drawing import canvas
from harness.runs.attention_files import Archive
from reports.collection import Collection
from reports.page import map_sheets
from reports.page.gallery_data import Gallery, best_and_worst, write_gallery
from reports.page.site import Site
from reports.runs import Run, read_runs
from reports.stats.leaderboard import leaderboard
from tests.helpers.explained import made_up_archive
from tests.helpers.explained_runs import colours, damaged, write_explained_run
from tests.helpers.pages import page_data


def gallery_of(runs: Path, page: Path, gallery: int | None = 24) -> tuple[Gallery, Site]:
    collection = Collection(runs, leaderboard(read_runs(runs)), gallery)
    with Site(page) as site:
        written = write_gallery(collection, site)
    return written, site


def data(page: Path, name: str) -> Any:
    return page_data(page)[name]


def files(page: Path) -> dict[str, int]:
    """Of a page, with the times they were written at."""
    return {str(path.relative_to(page)): path.stat().st_mtime_ns for path in page.rglob("*") if path.is_file()}


def test_values_for_filters_and_sorting(tmp_path: Path) -> None:
    seen = made_up_archive(outlier_attention=np.array([0, 0.5, 0, 0, 0, 0], np.float32))
    seen.labels[4], seen.label_probability[4] = -1, np.nan
    write_explained_run(tmp_path / "runs" / "a", with_labels(seen))
    written, _ = gallery_of(tmp_path / "runs", tmp_path / "page")
    (run,) = written.runs
    assert (run.label, run.note, written.missing, written.left_out) == ("a", "", (), 0)
    about = data(tmp_path / "page", f"gallery-{run.key}")
    images = data(tmp_path / "page", about["images"])
    assert images["files"] == seen.files.tolist() and images["classes"] == ["ant", "bee", "cat"]
    assert images["labels"] == [0, 1, 2, 0, 1, 2] and about["predicted"] == [0, 2, 2, 1, 1, 0]
    assert about["probability"] == [0.5, 0.59, 0.68, 0.77, 0.86, 0.95]
    assert about["truth"][:2] == [0.5, 0.205]
    assert [bool(flag) for flag in about["outliers"]] == [False, True, False, False, False, False]
    assert about["outliers"][1] == [0, 0.5]
    assert about["maps"] == [
        *("relevance", "LeGrad", "mean over layers", "rollout"),
        *("layer 1", "layer 2", "layer 3", "head 1", "head 2"),
    ]
    assert (about["side"], about["layers"], about["heads"], about["headLayer"]) == (7, 3, 2, 3)
    assert about["ends"][2][3] == float(f"{float(seen.rollout[2].max()):.3g}")
    low, high = canvas.above_mean(seen.rollout[2])
    assert [about["above"][end][2][3] for end in ("from", "to")] == pytest.approx([low, high], rel=2e-3)
    assert about["tested"] == 6
    assert about["sharedEnd"] == pytest.approx(0.1)


def with_labels(seen: Archive) -> Archive:
    """For run folders, whose test images all have one."""
    labels = np.arange(len(seen), dtype=np.int32) % len(seen.classes)
    return dataclasses.replace(seen, labels=labels)


def test_unknown_labels_and_odd_numbers_are_null(tmp_path: Path) -> None:
    folder = write_explained_run(tmp_path / "runs" / "a")
    seen = made_up_archive(label_probability=np.full(6, np.nan, np.float32), labels=np.full(6, -1, np.int32))
    seen.rollout[3, 5] = np.nan

    write_archive(folder / "attention" / "attention.npz", seen)
    written, _ = gallery_of(tmp_path / "runs", tmp_path / "page")
    about = data(tmp_path / "page", f"gallery-{written.runs[0].key}")
    assert about["truth"] == [None] * 6 and about["notFinite"] == [3]
    assert data(tmp_path / "page", about["images"])["labels"] == [-1] * 6


def test_images_are_stored_once_for_all_runs_that_share_them(tmp_path: Path) -> None:
    seen = made_up_archive(n=60)
    for name, some in (("a", colours(60)), ("b", colours(60)), ("c", colours(60, seed=4))):
        write_explained_run(tmp_path / "runs" / name, seen, images=some, config={"lr": 1e-3, "name": name})
    written, _ = gallery_of(tmp_path / "runs", tmp_path / "page")
    page = tmp_path / "page"
    about = {run.label[-1]: data(page, f"gallery-{run.key}") for run in written.runs}
    assert about["a"]["images"] == about["b"]["images"] != about["c"]["images"]
    assert len(list((page / "images").glob("*/*.jpg"))) == 2 * 2  # two sheets, of two kinds of images
    images = data(page, about["a"]["images"])
    assert (images["columns"], images["rows"], images["perSheet"]) == (10, [5, 1], 50)
    # Laid out in another way, as by another version, they are others.
    path = tmp_path / "runs" / "b" / "attention" / "sprites" / "sprites.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"columns": 5, "rows": 10}))
    gallery_of(tmp_path / "runs", tmp_path / "page")
    assert len(list((page / "images").iterdir())) == 3
    # Image 57 by what is written alone.
    place = images["places"][57]
    sheet, within = divmod(place, images["perSheet"])
    row, column = divmod(within, images["columns"])
    with Image.open(page / images["sheets"][sheet]) as file:
        side = file.width // images["columns"]
        middle = np.asarray(file)[row * side + side // 2, column * side + side // 2]
    assert np.abs(middle.astype(int) - colours(60)[57, 0, 0]).max() <= 6


def test_maps_of_an_image_are_where_the_page_looks_for_them(tmp_path: Path) -> None:
    seen = made_up_archive(n=53)
    write_explained_run(tmp_path / "runs" / "a", seen)
    written, _ = gallery_of(tmp_path / "runs", tmp_path / "page")
    about = data(tmp_path / "page", f"gallery-{written.runs[0].key}")
    assert (len(about["own"]), len(about["shared"]), about["perSheet"]) == (2, 2, 50)
    sheet, row = divmod(52, about["perSheet"])
    number, pitch = about["maps"].index("layer 2"), about["side"] + 1
    with Image.open(tmp_path / "page" / about["own"][sheet]) as file:
        entries = np.asarray(file)[row * pitch :, number * pitch :][:7, :7]
    values = seen.layers[52, 1].astype(np.float32).reshape(7, 7)
    np.testing.assert_array_equal(entries, np.rint(values / values.max() * (map_sheets.LEVELS - 1)))


def test_scores_of_maps_come_from_what_was_measured(tmp_path: Path) -> None:
    folder = write_explained_run(tmp_path / "runs" / "a")
    written, _ = gallery_of(tmp_path / "runs", tmp_path / "page")
    assert data(tmp_path / "page", f"gallery-{written.runs[0].key}")["scores"] == {}
    gains = {
        name: {"gain": {"value": 0.1, "low": 0.0, "high": 0.2}} for name in ("mean of layers", "last layer", "centre")
    }
    evidence = {"claims": [], "results": {"faithfulness": {"n": 34, "maps": gains}}}
    (folder / "evidence.json").write_text(json.dumps(evidence))
    gallery_of(tmp_path / "runs", tmp_path / "page")
    scores = data(tmp_path / "page", f"gallery-{written.runs[0].key}")["scores"]
    assert scores.keys() == {"mean over layers", "layer 3"}  # the names of these maps on the page
    assert scores["layer 3"] == "faithfulness 0.100 (0.000 to 0.200) against 0.100 for a centre prior, n = 34"


def test_a_second_build_draws_nothing_again(tmp_path: Path) -> None:
    write_explained_run(tmp_path / "runs" / "a")
    write_explained_run(tmp_path / "runs" / "b", config={"lr": 1e-3})
    gallery_of(tmp_path / "runs", tmp_path / "page")
    before = files(tmp_path / "page")
    _, site = gallery_of(tmp_path / "runs", tmp_path / "page")
    assert site.written == 0 and files(tmp_path / "page").keys() == before.keys()
    # Another look at the images by one run: only its files are others.
    shutil.rmtree(tmp_path / "runs" / "b")
    changed = made_up_archive()
    changed.rollout[:] = changed.rollout[::-1]
    write_explained_run(tmp_path / "runs" / "b", changed, config={"lr": 1e-3})
    written, _ = gallery_of(tmp_path / "runs", tmp_path / "page")
    after = files(tmp_path / "page")
    key = next(run.key for run in written.runs if "0.001" in run.label)
    others = {name for name in after if before.get(name) != after[name] and not name.startswith(".report")}
    assert others and all(key in name for name in others)


def test_a_limit_keeps_the_best_and_the_worst_runs(tmp_path: Path) -> None:
    for place in range(7):
        write_explained_run(
            tmp_path / "runs" / f"r{place}", config={"lr": 10.0**-place}, summary={"best/val_f1": 0.9 - place / 10}
        )
    written, _ = gallery_of(tmp_path / "runs", tmp_path / "page", gallery=4)
    assert [run.label for run in written.runs] == ["lr 1", "lr 0.1", "lr 1e-05", "lr 1e-06"]
    assert written.left_out == 3
    assert len(list((tmp_path / "page" / "maps").iterdir())) == 4
    written, _ = gallery_of(tmp_path / "runs", tmp_path / "page", gallery=None)
    assert (len(written.runs), written.left_out) == (7, 0)
    written, _ = gallery_of(tmp_path / "runs", tmp_path / "page", gallery=0)
    assert (len(written.runs), written.left_out) == (0, 7)
    assert not (tmp_path / "page" / "maps").exists()  # of the page before


def of_states(**counts: int) -> list[Run]:
    """Runs in the order of their states; their names are their numbers."""
    states = [state for state, count in counts.items() for _ in range(count)]
    return [Run(Path(str(number)), {}, {"state": state}, {}) for number, state in enumerate(states)]


def numbers(runs: list[Run]) -> list[int]:
    return [int(run.name) for run in runs]


def test_best_and_worst() -> None:
    runs = of_states(finished=30)
    assert best_and_worst(runs, None) == runs and best_and_worst(runs, 30) == runs
    assert numbers(best_and_worst(runs, 24)) == [*range(20), *range(26, 30)]
    assert numbers(best_and_worst(runs, 3)) == [0, 1, 29]
    assert numbers(best_and_worst(runs, 1)) == [0]
    assert numbers(best_and_worst(of_states(finished=6, failed=3), 4)) == [0, 1, 4, 5]  # none that failed
    assert numbers(best_and_worst(of_states(finished=6, failed=3), 8)) == list(range(8))


def test_missing_files_are_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for name in ("good", "without", "broken", "maps", "sprites", "some"):
        write_explained_run(runs / name, config={"lr": 1e-3, "name": name})
    write_explained_run(runs / "running", config={"lr": 1e-3, "name": "running"}, summary={"state": "running"})
    for name in ("without", "running"):
        shutil.rmtree(runs / name / "attention")
    (runs / "broken" / "attention" / "attention.npz").write_bytes(b"no archive")
    path = runs / "maps" / "attention" / "attention.npz"
    with np.load(path) as arrays:
        kept: Any = {name: arrays[name] for name in arrays.files if name != "layers"}
    np.savez(path, **kept)
    shutil.rmtree(runs / "sprites" / "attention" / "sprites")
    about = runs / "some" / "attention" / "sprites" / "sprites.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"pictures": [0, 3], "pixels": "others"}))
    written, _ = gallery_of(runs, tmp_path / "page")
    notes = {run.label: run.note for run in written.runs}
    assert notes.keys() == {"good", "sprites", "some"}
    assert notes["good"] == ""
    assert notes["sprites"] == "no small images, maps alone"
    assert {run.label: run.remedy for run in written.runs if run.remedy} == {"sprites": "harness explain RUN --redraw"}
    assert notes["some"] == "2 of 6 images are there; the others are shown as maps only"
    without = {labels: reason for reason, labels in written.missing}
    assert without[("without",)] == "attention.npz is missing"
    assert without[("running",)] == "running, no maps yet"
    assert without[("broken",)].startswith("attention.npz is damaged (")
    assert without[("maps",)].startswith("attention.npz is damaged (")
    keys = {run.label: run.key for run in written.runs}
    set_of = {
        name: data(tmp_path / "page", data(tmp_path / "page", f"gallery-{key}")["images"]) for name, key in keys.items()
    }
    assert "sheets" not in set_of["sprites"]
    assert set_of["some"]["places"] == [0, -1, -1, 1, -1, -1]


def test_damaged_files_never_stop_the_gallery(tmp_path: Path) -> None:
    write_explained_run(tmp_path / "runs" / "a")
    folder = write_explained_run(tmp_path / "runs" / "b", config={"lr": 1e-3}) / "attention"
    whole = {path: path.read_bytes() for path in (folder / "attention.npz", folder / "sprites" / "sprites.json")}
    said = 0
    for seed in range(40):
        for path, content in whole.items():
            path.write_bytes(damaged(content, seed))
            written, _ = gallery_of(tmp_path / "runs", tmp_path / "page")
            path.write_bytes(content)
            said += len(written.missing) + sum(bool(run.note) for run in written.runs)
    assert said > 40


def test_names_are_text_wherever_they_come_from(tmp_path: Path) -> None:
    hostile = "<img src=x onerror=alert(1)>\u2028</script>"
    seen = made_up_archive(classes=(hostile, "b", "c"))
    write_explained_run(tmp_path / "runs" / "a", seen)
    written, _ = gallery_of(tmp_path / "runs", tmp_path / "page")
    about = data(tmp_path / "page", f"gallery-{written.runs[0].key}")
    raw = (tmp_path / "page" / "data" / f"{about['images']}.js").read_text()
    assert "<" not in raw and "\u2028" not in raw
    assert data(tmp_path / "page", about["images"])["classes"][0] == "<img src=x onerror=alert(1)>\\u2028</script>"
