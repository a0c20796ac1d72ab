"""Mistakes, attention gallery and position embeddings in the HTML of the page, for all kinds of runs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from click.testing import CliRunner

from harness.cli import main
from reports.page import build
from tests.helpers.explained import made_up_archive
from tests.helpers.explained_runs import write_explained_run
from tests.helpers.pages import Page, page_data
from tests.reports.test_runs import write_run

HOSTILE = "<img src=x onerror=alert(1)>"


def test_sections_and_what_they_need(tmp_path: Path) -> None:
    for place in range(2):
        write_explained_run(tmp_path / "runs" / f"r{place}", config={"lr": 10.0**-place})
    index = build.build(tmp_path / "runs", tmp_path / "page")
    found = Page(index)
    for name in ("mistakes", "gallery", "positions"):
        assert found.text_of(name)
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    # The ids that the scripts use exist.
    for script in ("gallery.js", "image_view.js", "mistakes.js", "positions.js"):
        used = re.findall(r'getElementById\("([\w-]+)"\)', (tmp_path / "page" / "assets" / script).read_text())
        assert used and set(used) <= set(ids)
    addresses = {attributes.get(name, "") for _, attributes in found.elements for name in ("src", "href")} - {""}
    for address in addresses:
        if not address.startswith(("#", "data:")):
            assert (tmp_path / "page" / address).is_file(), address
    runs = [run for setting in page_data(tmp_path / "page")["runs"]["settings"] for run in setting["runs"]]
    assert {run["label"] for run in runs} == {"lr 1", "lr 0.1"}
    for key in (run["key"] for run in runs):
        for kind in ("gallery", "mistakes", "heads", "positions", "run"):
            assert (tmp_path / "page" / "data" / f"{kind}-{key}.js").is_file()


def test_text_from_runs_stays_text(tmp_path: Path) -> None:
    name = HOSTILE.replace("/", "")
    folder = tmp_path / 'it\'s "quoted"' / name
    write_explained_run(folder, made_up_archive(classes=(HOSTILE, "b", "c")), config={"augment": HOSTILE})
    write_explained_run(folder.parent / "other", config={"augment": "'\"><script>alert(2)</script>"})
    shutil.rmtree(folder.parent / "other" / "attention")
    found = Page(build.build(folder.parent, tmp_path / "page"))
    assert HOSTILE not in found.source and "<script>alert" not in found.source
    assert HOSTILE in found.text_of("leaderboard")
    said = "Not shown (attention.npz is missing): augment '\"><script>alert(2)</script>."
    assert said in found.text_of("gallery")


def test_runs_without_maps(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a")
    write_run(tmp_path / "runs" / "b", config={"lr": 1e-3}, summary={"state": "failed"})
    (tmp_path / "runs" / "b" / "predictions.csv").unlink()
    found = Page(build.build(tmp_path / "runs", tmp_path / "page"))
    assert "No run has attention maps of its test images." in found.text_of("gallery")
    assert "Not shown (failed, no maps yet): lr 0.001." in found.text_of("gallery")
    assert "No run has position embeddings to compare." in found.text_of("positions")
    assert not found.all("dialog", id="image-view") and not found.all("form", id="gallery-controls")
    assert found.all("p", id="mistakes-count")


def test_as_many_runs_as_asked_for(tmp_path: Path) -> None:
    for place in range(3):
        write_explained_run(tmp_path / "runs" / f"r{place}", config={"lr": 10.0**-place})

    def report(*words: str) -> tuple[int, str]:
        out = tmp_path / "page"
        done = CliRunner().invoke(main.main, ["report", str(tmp_path / "runs"), "-o", str(out), *words])
        return done.exit_code, done.output if done.exit_code else Page(out / "index.html").text_of("gallery")

    assert "To add the other" not in report()[1]
    assert (
        "The best and the worst runs are shown, 2 in all. To add the other 1: harness report --gallery all"
        in report("--gallery", "2")[1]
    )
    assert "The best run is shown. To add the other 2:" in report("--gallery", "1")[1]
    none = report("--gallery", "0")[1]
    assert "No run is shown. To add the other 3:" in none and "No run has attention maps" not in none
    assert "To add the other" not in report("--gallery", "all")[1]
    assert len(list((tmp_path / "page" / "maps").iterdir())) == 3
    code, said = report("--gallery", "some")
    assert code == 2 and "--gallery is 'some'; it must be all, or a number of runs." in said


def test_missing_images_are_reported_once_with_the_command_that_makes_them(tmp_path: Path) -> None:
    for place in range(8):
        write_explained_run(tmp_path / f"r{place}", config={"lr": 2.0**-place})
        if place:
            shutil.rmtree(tmp_path / f"r{place}" / "attention" / "sprites")
    found = Page(build.build(tmp_path))
    said = found.text_of("gallery")
    assert said.count("no small images") == 1
    sentence = "7 of 8 runs: no small images, maps alone. harness explain RUN --redraw makes the images of a run, on a"
    assert sentence in said and "; and 1 more." in said
    shutil.rmtree(tmp_path / "r0" / "attention" / "sprites")
    said = Page(build.build(tmp_path)).text_of("gallery")
    assert "8 of 8 runs: no small images, maps alone." in said and said.endswith("on a machine that has its data set.")
