"""The page of run folders in all their states: its files and its text."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from click.testing import CliRunner

from harness.cli.main import main
from reports.collection import Collection
from reports.errors import ReportError
from reports.page import build as page_builder
from reports.page.build import build
from reports.page.site import Site
from tests import ROOT
from tests.helpers.explained_runs import write_explained_run
from tests.helpers.pages import Page, charts, page_data
from tests.reports.stats.test_leaderboard import CLASSES, LABELS, write, write_probed
from tests.reports.test_runs import write_run

EVIL = '"><img src=x onerror=alert(1)></script>\u2028'


def log(run: Path, losses: Sequence[float], f1: Sequence[float] = ()) -> None:
    """Write metrics of a run with two steps per epoch."""
    rows: list[dict[str, Any]] = [
        {"step": step, "epoch": step / 2, "train/loss": loss} for step, loss in enumerate(losses, start=1)
    ]
    rows += [{"step": 2 * epoch, "epoch": epoch, "val/loss": 1.0, "val/f1": f} for epoch, f in enumerate(f1, start=1)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def describe(run: Path, **parts: Any) -> None:
    """Add entries to a manifest."""
    known = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(known | parts))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Four finished runs, one of them as good as the best by the test images, and one run in each other state."""
    folder = tmp_path / "runs" / "grid"
    write(folder / "best-0", 0.9, 3, lr=1e-5, augment="none", batch_size=16, seed=0)
    write(folder / "good-1", 0.8, 5, lr=1e-5, augment="standard", batch_size=16, seed=0)
    write(folder / "fair-2", 0.7, 30, lr=1e-5, augment="none", batch_size=64, seed=0)
    write(folder / "poor-3", 0.1, 60, lr=0.1, augment="none", batch_size=16, seed=0)
    nan = "The training loss became nan at step 3\n(epoch 1), at learning rate 1e+06."
    write(folder / "z-4", None, state="infeasible", reason=nan, lr=1e6, augment="none", batch_size=16)
    write(folder / "z-5", 0.95, state="stopped", reason="early", lr=1e-3, augment="none", batch_size=16)
    write(folder / "z-6", None, state="running", lr=1e-3, augment="standard", batch_size=16)
    write(folder / "z-7", None, state="failed", reason="No space left", lr=1e-3, augment="standard", batch_size=64)
    (folder / "z-8").mkdir()
    (folder / "z-8" / "config.json").write_text("{")
    log(folder / "best-0", [2.3, 1.5, 1.0, 0.5], [0.8, 0.9])
    log(folder / "poor-3", [2.3, 9.0, 4.0, 2.4], [0.02, 0.1])
    log(folder / "z-6", [2.3, 2.2, 2.1])
    for name in ("best-0", "poor-3", "z-6"):
        describe(folder / name, data={"fingerprint": "f00d", "classes": 10})
    return tmp_path / "runs"


def test_the_verdict(sweep: Path) -> None:
    page = Page(build(sweep))
    assert "grid" in page.text_of("")
    said = page.text_of("verdict")
    assert said.startswith("Best by validation F1 (0.9000) lr 1e-05, augment none, batch size 16 0.969 test macro F1")
    assert "Not certain On the same 100 test images, 1 of 3 other runs may be as good" in said
    assert said.endswith("lr 1e-05, augment standard, batch size 16")


def test_a_verdict_with_an_error_does_not_say_1(tmp_path: Path) -> None:
    run = write(tmp_path / "a", 1.0, 0)
    scores = {"test/f1": 0.9997, "test/f1_low": 0.9983, "test/f1_high": 0.99996}
    (run.path / "summary.json").write_text(json.dumps(run.summary | scores))
    said = Page(build(tmp_path)).text_of("verdict")
    assert "0.999 test macro F1 95 % interval 0.998 to 0.999" in said


def test_the_leaderboard_has_every_run_and_its_numbers(sweep: Path) -> None:
    index = build(sweep)
    page = Page(index)
    rows = page.all("tr")[1:10]
    assert [row["data-standing"] for row in rows] == ["best", "equal", "apart", "apart", *["unranked"] * 5]
    assert [row["data-state"] for row in rows[4:]] == ["infeasible", "stopped", "running", "failed", "unknown"]
    said = page.text_of("leaderboard")
    best = json.loads((sweep / "grid" / "best-0" / "summary.json").read_text())
    assert f"1 best best-0 copy 1e-05 none 16 0.9000 {best['test/f1']:.4f} {best['test/f1_low']:.4f} to" in said
    assert "The training loss became nan at step 3 (epoch 1), at learning rate 1e+06." in said
    assert "1 of 3 other runs may be as good as the best: how that was decided" in said
    assert "after Holm's correction for 3 comparisons" in said
    # Sorted by number and not by text, whatever it is written like.
    orders = [cell.get("data-order") for cell in page.all("td", **{"data-setting": "lr"})]
    assert [order and float(order) for order in orders[:5]] == [1e-5, 1e-5, 1e-5, 0.1, 1e6]
    [bar] = [found for found in page.all("b") if "left" in found.get("style", "")][:1]
    assert bar["style"] == f"left: {100 * best['test/f1']:.2f}%".replace(".0%", "%")


def test_commands_reproduce_runs(sweep: Path) -> None:
    describe(
        sweep / "grid" / "best-0",
        arguments=["--data=my images", "--lr=1e-05", f"--runs-dir={sweep}", "--name=best", "--fresh=True"],
        command="harness sweep run x.yaml",
    )
    page = Page(build(sweep))
    commands = {
        button["aria-label"]: shlex.split(button["data-copy"]) for button in page.all("button", **{"class": "copy"})
    }
    best = "Copy the command: lr 1e-05, augment none, batch size 16"
    # Runs of versions without recipes had the defaults of the study.
    assert commands[best] == ["harness", "train", "--recipe=study", "--data=my images", "--lr=1e-05"]
    # Without them, by what the config says; where a run is kept is not part of it.
    other = commands["Copy the command: lr 0.1, augment none, batch size 16"]
    expected = ["--lr=0.1", "--epochs=3", "--augment=none", "--batch-size=16", "--seed=0"]
    assert other == ["harness", "train", "--recipe=study", *expected]
    winner = str(sweep / "grid" / "best-0")
    assert commands["Copy the command: Predict the top-5 classes of images"][:3] == ["harness", "predict", winner]


def test_caveats_come_before_the_numbers(sweep: Path) -> None:
    describe(
        sweep / "grid" / "good-1",
        data={"fingerprint": "f00d", "skipped": {"train/a.jpg": "truncated"}},
        notes=["valid: 4 of train's 20 images set aside, as there is no such folder", "left out: 1 file"],
        processes=1,
        git={"commit": "abc", "changed": True},
    )
    summary = json.loads((sweep / "grid" / "good-1" / "summary.json").read_text())
    (sweep / "grid" / "good-1" / "summary.json").write_text(json.dumps(summary | {"micro_batch": 4}))
    page = Page(build(sweep))
    grave, mild = ([li for li in page.all("li") if li.get("class") == kind] for kind in ("grave", "mild"))
    assert (len(grave), len(mild)) == (5, 5)
    said = page.text_of("")
    for sentence in (
        "1 run ended as infeasible; not ranked.",
        "1 run ended as failed; not ranked.",
        "No space left",
        "1 run without a state in summary.json; not ranked.",
        "config.json is damaged (",
        "; manifest.json is missing",
        "1 image could not be read and was left out.",
        "train/a.jpg: truncated",
        "A split is not the data set's own. valid: 4 of train's 20 images set aside",
        "1 run still running or killed; not ranked.",
        "(epoch 1.5 of 3, step 3)",
        "Memory ran out in 1 run",
        "micro-batches of 4 instead of 16",
        "1 run started from code with changes that were not committed.",
        "Each setting was trained with one seed (0)",
    ):
        assert sentence in said
    assert page.source.index("Before you trust") < page.source.index('id="leaderboard"')


def test_different_data_sets_are_a_grave_caveat(sweep: Path) -> None:
    describe(sweep / "grid" / "good-1", data={"fingerprint": "beef"})
    page = Page(build(sweep))
    assert "The runs have 2 different data sets." in page.text_of("")
    assert "Provenance Differences between the runs data fingerprint" in page.text_of("provenance")


def test_charts_are_figures_that_plotly_takes(sweep: Path) -> None:
    index = build(sweep)
    page, found = Page(index), charts(index.parent)
    for figure in found.values():
        go.Figure(coloured(figure))
    shown = {plot["data-chart"] for plot in page.all("div", **{"class": "plot"})}
    assert shown <= found.keys()
    assert {"effects-parallel", "effects-heat-0", "effects-heat-1", "effects-setting-0", "curves-loss"} <= shown
    assert all(plot["aria-label"] and plot["role"] == "group" for plot in page.all("div", **{"class": "plot"}))


def coloured(figure: Any) -> Any:
    """With a colour in place of each that the browser fills in by its theme."""
    if isinstance(figure, dict):
        return {key: coloured(value) for key, value in figure.items()}
    if isinstance(figure, list):
        return [coloured(value) for value in figure]
    return "#123456" if isinstance(figure, str) and figure.startswith("var(--") else figure


def test_the_heat_map_has_means_counts_and_why_a_cell_is_empty(sweep: Path) -> None:
    write(sweep / "grid" / "again-9", 0.7, 4, lr=1e-5, augment="none", batch_size=16, seed=1)
    found = charts(build(sweep).parent)
    heat = found["effects-heat-0"]["data"][0]
    assert (heat["x"], heat["y"]) == (["1e-05", "0.001", "0.1", "1e+06"], ["16", "64"])
    assert heat["z"] == [[pytest.approx(0.8), None, 0.1, None], [0.7, None, None, None]]
    assert heat["text"][0][0] == "<b>0.800</b><br>sd 0.141, n = 2 seeds"
    notes = [(note["x"], note["y"], note["text"]) for note in found["effects-heat-0"]["layout"]["annotations"]]
    assert notes == [(1, 0, "stopped"), (3, 0, "infeasible")]
    assert (heat["zmin"], heat["zmax"]) == (0.1, 0.8)
    assert found["effects-heat-1"]["data"][0]["zmax"] == 0.8  # one scale for all


def test_curves_say_which_runs_diverged(sweep: Path) -> None:
    index = build(sweep)
    loss = charts(index.parent)["curves-loss"]
    by_name = {trace["name"]: trace for trace in loss["data"]}
    poor = by_name["lr 0.1, augment none, batch size 16"]
    assert (poor["x"], poor["y"], poor["line"]["dash"]) == ([0.5, 1, 1.5, 2], [2.3, 9, 4, 2.4], "dot")
    assert by_name["lr 1e-05, augment none, batch size 16"]["line"]["dash"] == "solid"
    assert loss["layout"]["shapes"][0]["y0"] == pytest.approx(2.302585)  # ln 10
    said = Page(index).text_of("curves")
    log(sweep / "grid" / "z-6", [2.31, 2.31, 2.31])  # has only begun
    assert "1 of 3 diverged" in Page(build(sweep)).text_of("curves")
    assert "1 of 3 diverged lr 0.1, augment none, batch size 16: last training loss 2.4, guessing gives 2.3" in said


def test_a_study_is_shown_when_all_its_settings_are_there(tmp_path: Path) -> None:
    settings = [(1e-5, "none", 16), (1e-3, "standard", 16), (1e-1, "standard", 16), (1e-5, "standard", 16)]
    for number, (lr, augment, batch) in enumerate(settings):
        write(tmp_path / f"r-{number}", 0.9 - number / 10, 10 * number, lr=lr, augment=augment, batch_size=batch)
    assert "study" not in Page(build(tmp_path)).text
    write(tmp_path / "r-4", None, state="running", lr=1e-5, augment="standard", batch_size=64, model="vit_b_16")
    page = Page(build(tmp_path))
    said = page.text_of("study")
    f1 = json.loads((tmp_path / "r-1" / "summary.json").read_text())["test/f1"]
    assert f"2 standard 1e-03 16 0.2089 {f1:.4f}" in said
    assert f"{f1 - 0.2089:+.4f}" in said
    assert "5 standard 1e-05 64 0.9496 running" in said
    assert "epochs 5 3 differs" in said
    assert "image size 224 the weights' own" in said and "own differs" not in said.replace("unknown", "")
    # The mean over seeds; those that have not finished do not count.
    write(tmp_path / "again-5", 0.1, 0, lr=1e-3, augment="standard", batch_size=16, seed=1)
    write(tmp_path / "failed-6", None, state="failed", lr=1e-3, augment="standard", batch_size=16, seed=2)
    write(tmp_path / "failed-7", None, state="failed", lr=1e-5, augment="none", batch_size=16, seed=2)
    again = json.loads((tmp_path / "again-5" / "summary.json").read_text())["test/f1"]
    mean, sd = (f1 + again) / 2, abs(f1 - again) / 2**0.5
    pooled = f"2 standard 1e-03 16 0.2089 {mean:.4f} ± {sd:.4f}, 2 seeds"
    assert pooled in Page(build(tmp_path)).text_of("study")
    # Of several settings with these values, the one that validation chose.
    write(tmp_path / "decay-8", 0.05, 0, lr=1e-3, augment="standard", batch_size=16, weight_decay=0.5, seed=1)
    said = Page(build(tmp_path)).text_of("study")
    assert f"{pooled} best of 2 settings on validation" in said
    assert said.count("best of 2 settings") == 1
    assert "training images about 13,500 unknown differs" in said


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    evil = EVIL.replace("/", "")  # a folder's name cannot hold it
    folder = tmp_path / evil
    for number in range(3):
        files = [f"test/{EVIL}/{index}.jpg" for index in range(100)]
        predicted = LABELS.copy()
        predicted[: 10 * number] = 9
        run = write_run(
            folder / f"{evil}{number}",
            LABELS.tolist(),
            predicted.tolist(),
            classes=(EVIL, *CLASSES[1:]),
            files=files,
            config={"augment": f"{EVIL}{number}", EVIL: number, "data": EVIL},
            summary={"best/val_f1": 1 - number / 10},
        )
        describe(run, command=EVIL, versions={EVIL: EVIL}, notes=[f"{EVIL} set aside"], problems={EVIL: EVIL})
        log(run, [2.0, 1.0])
    write(folder / "failed", None, state=EVIL, reason=EVIL, augment="x")
    index = build(folder, tmp_path / "page")
    page = Page(index)  # takes it apart as written, and finds every element closed
    assert not page.all("img", src="x")
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert all(script.get("src", "").startswith("assets/") for script in page.all("script"))
    assert "<img src=x onerror=alert(1)>" in page.text_of("leaderboard")
    for path in (index.parent / "data").rglob("*.js"):
        assert not set("<>\u2028") & set(path.read_text(encoding="ascii"))
    # Plotly takes text for markup, but for the ticks of parallel coordinates.
    found = charts(index.parent)
    for axis in found["effects-parallel"]["data"][0]["dimensions"]:
        axis.pop("ticktext", None)
    assert "<img" not in json.dumps(found)
    assert "&lt;img" in json.dumps(found)


def test_the_page_loads_nothing_from_elsewhere(sweep: Path) -> None:
    index = build(sweep)
    page = Page(index)
    addresses = [
        attributes[name] for _, attributes in page.elements for name in ("src", "href") if attributes.get(name)
    ]
    assert addresses
    for address in addresses:
        assert address.startswith(("#", "data:,")) or (index.parent / address).is_file(), address
    [policy] = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert "default-src 'none'" in policy["content"] and "connect-src 'none'" in policy["content"]
    for path in (index.parent / "assets").iterdir():
        if path.name != "plotly.min.js":
            assert "http" not in path.read_text().replace("http://www.w3.org/", "")
    styles = [path for path in addresses if path.endswith((".css", ".js"))]
    first_view = sum((index.parent / path).stat().st_size for path in [index.name, *set(styles)])
    assert first_view < 300_000


def test_ids_are_unique_and_links_lead_somewhere(sweep: Path) -> None:
    page = Page(build(sweep))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {link["href"][1:] for link in page.all("a")} <= set(ids)


def test_building_again_touches_only_what_changed(sweep: Path) -> None:
    index = build(sweep)
    before = {path: path.stat().st_mtime_ns for path in index.parent.rglob("*") if path.is_file()}
    time.sleep(0.01)
    build(sweep)
    assert {path: path.stat().st_mtime_ns for path in index.parent.rglob("*") if path.is_file()} == before
    log(sweep / "grid" / "z-6", [2.3, 2.2, 2.1, 2.0])
    build(sweep)
    changed = {path.name for path, then in before.items() if path.stat().st_mtime_ns != then}
    assert len(changed) == 3 and {"index.html", "curves-loss.js"} < changed  # and the data of the run


def test_stale_files_of_the_page_are_removed(sweep: Path) -> None:
    index = build(sweep)
    assert (index.parent / "data" / "effects-heat-1.js").exists()
    for name in ("good-1", "z-6", "z-7"):
        shutil.rmtree(sweep / "grid" / name)
    (index.parent / "mine.txt").write_text("mine")
    build(sweep)
    assert not (index.parent / "data" / "effects-heat-1.js").exists()
    assert (index.parent / "mine.txt").exists()


def test_one_run_alone(tmp_path: Path) -> None:
    write(tmp_path / "only", 0.5)
    page = Page(build(tmp_path))
    assert "Nothing to compare with No other run has finished." in page.text_of("verdict")
    assert "only" in page.text_of("verdict")
    assert "effects" not in page.text and "curves" not in page.text


def test_nothing_has_finished_yet(tmp_path: Path) -> None:
    run = write(tmp_path / "a", None, state="running")
    log(run.path, [2.0])
    for name in ("predictions.csv", "per_class.csv", "manifest.json"):
        (run.path / name).unlink()
    page = Page(build(tmp_path))
    assert "No verdict yet No run has finished." in page.text_of("verdict")
    assert "use" not in page.text
    assert "manifest.json is missing (epoch 0.5 of 3, step 1)" in page.text_of("leaderboard")
    # What nobody has logged yet has no empty chart.
    assert {plot["data-chart"] for plot in page.all("div", **{"class": "plot"})} == {"curves-loss"}


def test_missing_values_are_left_out(tmp_path: Path) -> None:
    for name in ("a", "b"):
        run = write(tmp_path / name, 0.5, lr=len(name), augment=name)
        (run.path / "summary.json").write_text('{"state": "finished", "best/val_f1": 0.5}')
        (run.path / "predictions.csv").unlink()
    said = Page(build(tmp_path)).text_of("leaderboard")
    assert "1 best a copy a 0.5000 – finished – - –" in said
    assert "accuracy" not in said
    assert "the best run's predictions cannot be used: predictions.csv is missing" in said


ODD: list[Any] = [None, "text", [1], {"a": [None]}, 10**400, float("nan"), True, -1]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:10])
def test_later_versions_and_damage_give_a_page(tmp_path: Path, odd: Any) -> None:
    """Every value that sections read, replaced by one of an unexpected type."""
    for number in range(3):
        write(tmp_path / f"r{number}", 0.5 + number / 10, lr=0.1 * number, augment="none", later={"x": number})
    odd_run = tmp_path / "r1"
    config = dict.fromkeys(
        ("lr", "batch_size", "augment", "epochs", "seed", "model", "data", "weights", "image_size"), odd
    )
    (odd_run / "config.json").write_text(json.dumps(config | {"new_setting": odd}))
    parts = ("data", "weights", "git", "hardware", "versions", "notes", "problems", "command", "arguments", "started")
    (odd_run / "manifest.json").write_text(json.dumps(dict.fromkeys((*parts, "processes", "earlier_starts"), odd)))
    (odd_run / "metrics.jsonl").write_text(
        "".join(json.dumps({"step": odd, "epoch": e, "train/loss": odd, "val/f1": 0.1}) + "\n" for e in (odd, 1, 2))
    )
    Page(build(tmp_path))
    deep = {"images": odd, "skipped": odd, "classes": odd, "fingerprint": odd, "root": odd}
    hardware = {"gpus": odd, "memory_bytes": odd, "cpu": odd}
    manifest = {"data": deep, "hardware": hardware, "git": {"commit": odd, "changed": odd}, "weights": {"report": odd}}
    (odd_run / "manifest.json").write_text(json.dumps(manifest))
    summary = json.loads((odd_run / "summary.json").read_text())
    scores = dict.fromkeys(("test/f1", "test/f1_low", "best/epoch", "test/n", "seconds/train", "reason"), odd)
    (odd_run / "summary.json").write_text(json.dumps(summary | scores))
    page = Page(build(tmp_path))
    assert len(page.all("tr", **{"data-state": "finished"})) == 3


def test_there_is_nothing_to_report(tmp_path: Path) -> None:
    for arguments, said in (([str(tmp_path)], "There are no runs in"), ([str(tmp_path / "none")], "is not a folder")):
        done = CliRunner().invoke(main, ["report", *arguments])
        assert done.exit_code == 1
        assert said in done.output
    assert "for runs in W&B, add --wandb" in done.output
    assert not list(tmp_path.iterdir())


def test_an_output_folder_that_cannot_be_written(tmp_path: Path) -> None:
    write(tmp_path / "runs" / "a", 0.5)
    (tmp_path / "file").write_text("mine")
    for place, problem in {
        tmp_path / "file": "file is a file, not a folder",
        tmp_path / "file" / "page": "page cannot be made: Not a directory",
        Path("/proc/page"): "The folder /proc/page cannot be made: No such file or directory",
    }.items():
        with pytest.raises(ReportError, match=f"{problem}.*Choose another folder with -o"):
            build(tmp_path / "runs", place)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_page_folder_that_is_a_link_is_refused_unless_the_user_named_it(tmp_path: Path) -> None:
    write(tmp_path / "runs" / "a", 0.5)
    (tmp_path / "outside").mkdir()
    (tmp_path / "runs" / "report").symlink_to(tmp_path / "outside")
    with pytest.raises(ReportError, match="report is a symbolic link, which is not followed"):
        build(tmp_path / "runs")
    assert not list((tmp_path / "outside").iterdir())
    assert build(tmp_path / "runs", tmp_path / "runs" / "report").is_file()


@pytest.mark.parametrize("linked", ["figures/positions.png", "figures", "attention/sprites/000.jpg", "attention"])
def test_what_a_link_leads_to_is_not_published(tmp_path: Path, linked: str) -> None:
    run = write_explained_run(tmp_path / "runs" / "a")
    (run / "figures").mkdir(exist_ok=True)
    (run / "figures" / "positions.png").write_bytes(b"secret")
    (run / "attention" / "sprites" / "000.jpg").write_bytes(b"secret")
    (run / linked).rename(tmp_path / "outside")
    (run / linked).symlink_to(tmp_path / "outside")
    page = build(tmp_path / "runs").parent
    hidden = "positions.png" if linked.startswith("figures") else "000.jpg"
    assert not [path for path in page.rglob(hidden) if path.read_bytes() == b"secret"]


def test_the_command_prints_the_path_and_opens_it(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("click.launch", opened.append)
    target = sweep.parent / "public it's"
    done = CliRunner().invoke(main, ["report", str(sweep), "-o", str(target), "--open"])
    assert (done.exit_code, done.output) == (0, f"{target / 'index.html'}\n")
    assert opened == [str(target / "index.html")]


def test_in_an_environment_without_torch_and_wandb(sweep: Path) -> None:
    code = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "torchmetrics", "wandb", "optuna", "accelerate"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
from reports.page.build import build
print(build(sys.argv[1]))
"""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(sweep)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "may be as good" in Page(Path(done.stdout.strip())).text_of("verdict")
    assert "curves-loss" in page_data(sweep / "report")


def test_sync_ignores_the_page(sweep: Path) -> None:
    page = build(sweep).parent
    run = next(path.parent for path in sweep.rglob("summary.json"))
    alone, beside = (CliRunner().invoke(main, ["sync", *map(str, given)]) for given in ([page], [page, run]))
    assert (alone.exit_code, alone.output) == (1, "Error: Only the folder of a report was given. Give run folders.\n")
    assert beside.output == f"Error: {run} holds no W&B files (wandb/). Give run folders.\n"


def test_an_interval_without_width_is_drawn(tmp_path: Path) -> None:
    run = write(tmp_path / "a", 1.0, 0)
    (run.path / "summary.json").write_text(json.dumps(run.summary | {"test/f1_low": 1.0}))
    page = Page(build(tmp_path))
    assert "bar: 0.95 to 1" in page.text_of("leaderboard")
    assert [bar["style"] for bar in page.all("i")] == ["left: 100%; width: 0%".replace("%", ".0%")] * 2


def test_a_win_is_over_the_runs_that_can_be_compared(tmp_path: Path) -> None:
    for name, value, errors in (("a", 0.9, 0), ("b", 0.5, 50), ("c", 0.4, 60)):
        write(tmp_path / name, value, errors, augment=name)
    assert "it beats all 2 others" in Page(build(tmp_path)).text_of("verdict")
    (tmp_path / "c" / "predictions.csv").unlink()
    said = Page(build(tmp_path)).text_of("verdict")
    assert (
        "it beats 1 of 2 others by more than chance explains. 1 more cannot be compared: see the leaderboard." in said
    )
    (tmp_path / "b" / "predictions.csv").unlink()
    assert "The other runs cannot be compared with it: see the leaderboard." in Page(build(tmp_path)).text_of("verdict")


def test_a_run_that_lacks_a_setting_empties_no_cell_of_the_heat_map(tmp_path: Path) -> None:
    for number, (lr, batch) in enumerate(((0.1, 16), (0.1, 64), (0.2, 16), (0.2, 64))):
        write(tmp_path / f"r{number}", 0.5 + number / 10, lr=lr, batch_size=batch)
    write(tmp_path / "old", None, state="failed", lr=0.1 + 1e-5)  # told from 0.1 in five digits
    heat = charts(build(tmp_path).parent)["effects-heat-0"]["data"][0]
    assert heat["x"] == ["0.1", "0.2"]
    assert heat["z"] == pytest.approx(np.array([[0.5, 0.7], [0.6, 0.8]]))


def test_runs_of_two_sweeps_with_the_same_names_are_told_apart(tmp_path: Path) -> None:
    for place in ("first", "second"):
        for name, lr in (("a", 0.1), ("b", 0.2)):
            write(tmp_path / place / name, 0.5, lr=lr)
    page = Page(build(tmp_path))
    copies = {button["aria-label"] for button in page.all("button", **{"class": "copy"})}
    assert {f"Copy the command: {place}/{name}" for place in ("first", "second") for name in "ab"} <= copies


def test_runs_that_finished_without_the_metric(tmp_path: Path) -> None:
    write(tmp_path / "a", float("nan"))
    index = build(tmp_path)
    said = Page(index).text_of("verdict")
    assert said.startswith("No verdict yet No run has finished with a best/val_f1.")
    assert "1 run finished, but cannot be ranked." in Page(index).text_of("")


def test_values_are_chosen_as_they_are_written(tmp_path: Path) -> None:
    for number, augment in enumerate(("two  spaces", "none")):
        write(tmp_path / f"r{number}", 0.5, augment=augment, data=".")
    page = Page(build(tmp_path))
    assert page.all("option", value="two  spaces")  # a browser's own reading of an option's text joins spaces
    assert " 2 finished . " in page.text_of("")


def test_a_run_that_is_removed_while_it_is_read(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def section(collection: Collection, site: Site) -> None:
        shutil.rmtree(sweep / "grid" / "best-0")
        (sweep / "grid" / "best-0" / "config.json").stat()

    monkeypatch.setattr(page_builder, "SECTIONS", (section,))
    with pytest.raises(ReportError, match=r"deleted while it was read \(.*best-0/config.json\)\. Repeat the command"):
        build(sweep)
    monkeypatch.undo()
    assert "validation F1 (0.8000)" in Page(build(sweep)).text_of("verdict")


def test_the_probe_stands_above_the_runs(tmp_path: Path) -> None:
    write(tmp_path / "a", 0.9, lr=1e-5, head_init="zero")
    write_probed(tmp_path / "b", 0.8, 5, (0.85, 0.84), lr=1e-5, head_init="probe")
    page = Page(build(tmp_path))
    said = page.text_of("leaderboard")
    row = "probe linear probe of the frozen backbone, the start of 1 run 0.8500 0.8400"
    assert row in said
    assert said.index(row) < said.index("1 best a")
    assert "linear probe F1 0.840" in page.text_of("verdict")
