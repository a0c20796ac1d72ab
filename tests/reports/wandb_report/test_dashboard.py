"""Workspaces and reports, made by the real client at a local stand-in for W&B's server, of runs that it has."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from harness import track
from harness.cli import main
from harness.config import RunConfig
from reports.collection import Collection
from reports.page.section import TITLES
from reports.runs import Run, read_runs
from reports.stats.leaderboard import Leaderboard, leaderboard
from reports.wandb_report import dashboard
from reports.wandb_report.dashboard import Scope
from reports.wandb_report.findings import findings
from reports.wandb_report.panels import IMAGES, TABLES
from reports.wandb_report.remote import read_remote_runs
from tests.helpers.forked import in_child
from tests.helpers.wandb_server import API_KEY, ENTITY, View, WandbServer
from tests.reports.test_runs import write_run

# The server's threads hold nothing that a forked child uses, and the child ends before they do. wandb-workspaces uses
# what pydantic calls deprecated.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Pydantic V1 style"),
]

LABELS = np.repeat(np.arange(4), 8)
CLASSES = ("cat", "dog", "a|b", "<b>ox</b>")
SECTIONS = ["leaderboard", "effects", "curves", "mistakes", "gallery", "positions", "provenance"]

# Sends finished run folders as the program that trains them does.
PROGRAM = """
import csv, json, os, sys
from pathlib import Path
from harness import track
from harness.config import RunConfig

NAMES = ("config", "summary", "manifest")
for path in map(Path, sys.argv[1:]):
    config, summary, manifest = (json.loads(path.joinpath(f"{name}.json").read_text()) for name in NAMES)
    os.environ["WANDB_RUN_ID"] = manifest["wandb_run_id"]
    tracker = track.start(RunConfig(**config), path, run_id=manifest["wandb_run_id"])
    for line in (path / "metrics.jsonl").read_text().splitlines():
        row = {key: float("nan") if value is None else value for key, value in json.loads(line).items()}
        tracker.log(row)
        if "val/f1" in row:
            tracker.log({"step": row["step"], "best/val_f1": row["val/f1"]})
    if summary["state"] == "finished":
        for key, name in (("test/per_class", "per_class"), ("test/predictions", "predictions")):
            columns, *rows = csv.reader((path / f"{name}.csv").read_text().splitlines())
            numbers = 3 if name == "predictions" else 1
            # A run's table of predictions has no columns of the top five classes.
            tracker.table(key, columns[:5], [(*row[:numbers], *map(float, row[numbers:5])) for row in rows])
    if summary["state"] != "running":
        tracker.summarize(summary)
    tracker.finish(0 if summary["state"] == "finished" else 1)
"""


def write(folder: Path, number: int, errors: int, state: str = "finished", **settings: Any) -> Path:
    """A run with so many errors on 32 test images, known to W&B as `r-<number>`."""
    config = RunConfig(data="images", recipe="study", runs_dir=str(folder), **settings)
    predicted = LABELS.copy()
    predicted[:errors] = 3
    summary = {
        "state": state,
        "best/val_f1": 1 - errors / 32,
        "attention/n": 32,
        "attention/entropy": 3.5,
        "positions/verdict": "retained",
        "positions/change": 0.25,
    }
    if state == "infeasible":
        summary |= {"reason": "The loss became nan."}
    path = write_run(
        folder / f"{config.run_name}-r-{number}",
        LABELS.tolist(),
        predicted.tolist(),
        classes=CLASSES,
        config=config.to_dict(),
        summary=summary,
    )
    rows = [
        {"step": 10, "epoch": 0.5, "train/loss": None, "train/lr": config.lr},
        {"step": 20, "epoch": 1, "train/loss": 1.5, "train/lr": config.lr},
        {"step": 20, "epoch": 1, "val/loss": 0.25, "val/f1": summary["best/val_f1"]},
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (path / "manifest.json").write_text(json.dumps({"wandb_run_id": f"r-{number}"}))
    return path


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[WandbServer, Path]]:
    """A sweep of four runs, two of them finished, in a folder and at the server."""
    track.preload()
    dashboard.require()  # imported once, for every process that is forked from this one
    folder = tmp_path_factory.mktemp("runs") / "small"
    paths = [
        write(folder, 0, 2, lr=1e-5, augment="none"),
        write(folder, 1, 9, lr=1e-3, augment="standard"),
        write(folder, 2, 0, "infeasible", lr=10.0, augment="none"),
        write(folder, 3, 0, "running", lr=1e-4, augment="none"),
    ]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    with WandbServer() as server:
        environment = kept | {
            "WANDB_BASE_URL": server.url,
            "WANDB_API_KEY": API_KEY,
            "WANDB_ERROR_REPORTING": "0",
            "WANDB_PROJECT": "zoo",
            "WANDB_SWEEP_ID": "5eed",
            "WANDB_RUN_GROUP": "small",
            "WANDB_MODE": "online",
        }
        server.add_sweep("5eed")
        subprocess.run([sys.executable, "-c", PROGRAM, *paths], env=environment, check=True, timeout=120)
        server.runs["r-3"].exit_code = None  # it is still running
        yield server, folder


@pytest.fixture
def server(sent: tuple[WandbServer, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """Somebody is logged in to it, and nothing was made there yet."""
    server, _ = sent
    log_in(monkeypatch, server)
    server.views.clear()
    server.read_only.clear()
    yield server
    assert server.refused == []


@pytest.fixture(scope="module")
def made(sent: tuple[WandbServer, Path]) -> tuple[View, View, list[str]]:
    """The workspace and the report of the folder, and what was printed."""
    server, folder = sent
    with pytest.MonkeyPatch.context() as patch:
        log_in(patch, server)
        code, lines = report(folder)
    assert code == 0
    return *views(server), lines


def log_in(patch: pytest.MonkeyPatch, server: WandbServer) -> None:
    patch.setenv("WANDB_BASE_URL", server.url)
    patch.setenv("WANDB_API_KEY", API_KEY)
    patch.setenv("WANDB_ERROR_REPORTING", "0")


@pytest.fixture
def folder(sent: tuple[WandbServer, Path]) -> Path:
    return sent[1]


def report(*words: object) -> tuple[int, list[str]]:
    """Exit code and lines of `harness report WORDS --wandb`."""

    def work() -> tuple[int, list[str]]:
        done = CliRunner().invoke(main.main, ["report", *map(str, words), "--wandb"])
        assert done.exception is None or isinstance(done.exception, SystemExit)
        return done.exit_code, done.output.splitlines()

    return in_child(work)


def views(server: WandbServer) -> tuple[View, View]:
    """The one workspace and the one report."""
    [workspace] = [view for view in server.views.values() if view.type == "project-view"]
    [written] = [view for view in server.views.values() if view.type == "runs"]
    return workspace, written


def without_ids(spec: Any) -> Any:
    """A spec without the names that wandb-workspaces makes up for panels and sets of runs."""
    if isinstance(spec, dict):
        return {key: without_ids(value) for key, value in spec.items() if key not in ("id", "__id__")}
    return [without_ids(one) for one in spec] if isinstance(spec, list) else spec


def as_loaded(spec: Any) -> Any:
    """A report's spec without what wandb-workspaces itself forgets when it loads one: widths and places of tables."""
    if isinstance(spec, dict):
        forgotten = {"width", *(["layout"] if spec.get("viewType") == "Weave" else [])}
        return {key: as_loaded(value) for key, value in spec.items() if key not in forgotten}
    return [as_loaded(one) for one in spec] if isinstance(spec, list) else spec


def numbers(run: Run) -> dict[str, float | None]:
    return {key: run.metric(key) for key in ("best/val_f1", "test/f1", "test/f1_low", "test/f1_high", "test/n")}


def compared(board: Leaderboard, run: Run) -> tuple[float | None, ...] | None:
    """The comparison of the best setting with that of a run."""
    [comparison] = [row.comparison for row in (*board.ranked, *board.unranked) if run in row.setting.all_runs]
    return comparison and (comparison.difference, comparison.low, comparison.p_holm)


def test_runs_of_w_and_b_give_the_same_leaderboard(server: WandbServer, folder: Path) -> None:
    def read() -> list[Any]:
        import wandb

        runs = read_remote_runs(wandb.Api(), ENTITY, "zoo", "5eed")
        assert [run.state for run in runs] == ["finished", "finished", "infeasible", "running"]
        return [
            (
                (row.run.manifest["wandb_run_id"], row.run.name, row.run.state, row.place, row.settings, row.reason),
                numbers(row.run),
                row.run.rows,
                compared(board, row.run),
                (row.run.predictions.files, row.run.predictions.classes, row.run.predictions.predicted.tolist()),
                row.run.predictions.probabilities.tolist(),
            )
            for board in [leaderboard(runs)]
            for row in (*board.finished, *board.others)
        ]

    board = leaderboard(read_runs(folder))
    rows = (*board.finished, *board.others)
    found = in_child(read)
    assert len(found) == len(rows) == 4
    by_id = {one[0][0]: one for one in found}
    for row in rows:
        known, scores, history, comparison, said, probabilities = by_id[row.run.manifest["wandb_run_id"]]
        assert known == (known[0], row.run.name, row.run.state, row.place, row.settings, row.reason)
        assert history == row.run.rows
        if row.run.finished:
            predictions = row.run.predictions
            assert scores == numbers(row.run)
            assert said == (predictions.files, predictions.classes, predictions.predicted.tolist())
            assert probabilities == predictions.probabilities.tolist()
            assert comparison == compared(board, row.run)
    assert [one[0][3] for one in found] == [1, 2, None, None]
    assert found[1][3][0] > 0


def test_a_folder_is_reported_and_reported_again_in_place(server: WandbServer, folder: Path) -> None:
    code, lines = report(folder)
    assert code == 0
    workspace, written = views(server)
    assert lines == [
        f"{server.url}/{ENTITY}/zoo?nw={Scope(ENTITY, 'zoo', 'small').view}",
        f"{server.url}/{ENTITY}/zoo/reports/Report-on-small--{written.id}",
    ]
    assert workspace.display_name == written.display_name == "Report on small"
    assert written.description.startswith("Made by `harness report` from 4 runs.")
    specs = [without_ids(view.spec) for view in (workspace, written)]

    # What a person, or a later version of W&B, may have made of it.
    views(server)[0].spec["section"]["panelBankConfig"]["sections"][0]["panels"] = [{"viewType": "Other", "config": 1}]
    assert report(folder) == (0, lines)
    assert [view.saves for view in views(server)] == [2, 2]
    assert [without_ids(view.spec) for view in views(server)] == specs

    # By its names in W&B it is the same workspace and report, of the same runs, and of those that will come.
    for number, name in enumerate(("small", "5eed"), start=3):
        assert report(f"{ENTITY}/zoo/{name}") == (0, lines)
        assert [view.saves for view in views(server)] == [number, number]
        [runset] = views(server)[0].spec["section"]["runSets"]
        assert [one["value"] for one in leaves(runset["filters"])] == [name, name]


def leaves(filters: Any) -> list[Any]:
    """The comparisons of a filter, without what joins them."""
    if isinstance(filters, list):
        return [leaf for one in filters for leaf in leaves(one)]
    return leaves(filters["filters"]) if "filters" in filters else [filters]


def test_the_workspace(made: tuple[View, View, list[str]]) -> None:
    section = made[0].spec["section"]
    bank = section["panelBankConfig"]["sections"]
    assert [section["name"] for section in bank] == [TITLES[section] for section in SECTIONS]
    assert all(one["isOpen"] for one in bank)
    [runset] = section["runSets"]
    assert runset["sort"]["keys"] == [{"key": {"section": "summary", "name": "best/val_f1"}, "ascending": False}]
    assert json.dumps(["r-0", "r-1", "r-2", "r-3"]) in json.dumps(runset["filters"])
    assert runset["grouping"] == []
    assert runset["runFeed"]["columnOrder"][:3] == ["run:displayName", "summary:best/val_f1", "summary:test/f1"]
    assert runset["runFeed"]["columnOrder"][-2:] == ["config:lr.value", "config:augment.value"]

    configs = {one["name"]: [panel["config"] for panel in one["panels"]] for one in bank}
    curves = [config for config in configs["Curves"] if "metrics" in config]
    assert {config["metrics"][0]: config.get("yLogScale", False) for config in curves} == {
        "train/loss": True,
        "val/loss": True,
        "val/f1": False,
        "val/accuracy": False,
        "val/balanced_accuracy": False,
        "train/lr": True,
        "train/images_per_second": False,
    }
    assert {config["xAxis"] for config in curves} == {"step"}
    media = {key for found in configs.values() for config in found for key in config.get("mediaKeys", [])}
    assert media == {key for keys in IMAGES.values() for key in keys}
    assert [axis["accessor"] for axis in configs[TITLES["effects"]][1]["columns"]] == [
        "config:lr.value",
        "config:augment.value",
        "summary:best/val_f1",
    ]
    words = configs["Leaderboard"][0]["value"]
    assert "| 1 | 1e-05 | none | 0.9375 |" in words
    assert "Best by best/val\\_f1: lr 1e-05, augment none." in words
    text = json.dumps(configs["Mistakes"])
    assert all(f'"{key}"' in json.dumps(configs) for keys in TABLES.values() for key in keys)
    assert "\\\\<b\\\\>ox\\\\</b\\\\>" in text and "<b>" not in text


def test_the_report(made: tuple[View, View, list[str]]) -> None:
    blocks = made[1].spec["blocks"]
    headings = [block["children"][0]["text"] for block in blocks if block["type"] == "heading"]
    assert headings == ["Before you trust the numbers", *(TITLES[section] for section in SECTIONS)]
    warned = next(block["content"] for block in blocks if block["type"] == "markdown-block")
    assert [line[:2] for line in warned.splitlines()] == ["* "] * len(warned.splitlines())
    assert "lr 10, augment none: The loss became nan." in warned
    grids = [block for block in blocks if block["type"] == "panel-grid"]
    assert len(grids) == len(SECTIONS)
    for grid in grids:
        [runset] = grid["metadata"]["runSets"]
        assert runset["project"]["name"] == "zoo"
        assert '"r-3"' in json.dumps(runset["filters"])
        places = [panel["layout"] for panel in grid["metadata"]["panelBankSectionConfig"]["panels"]]
        assert all(place["x"] + place["w"] <= 24 for place in places)
        assert len({(place["x"], place["y"]) for place in places}) == len(places)


def test_saved_and_loaded_it_is_equal(made: tuple[View, View, list[str]], server: WandbServer) -> None:
    saved, (space, written) = made[:2], made[2]
    server.views |= {view.id: view for view in saved}

    def load() -> list[str]:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws

        loaded = [ws.Workspace.from_url(space)._to_model().spec, wr.Report.from_url(written)._to_model().spec]
        return [spec.model_dump_json(by_alias=True, exclude_none=True) for spec in loaded]

    loaded_space, loaded_report = map(json.loads, in_child(load))
    assert loaded_space == saved[0].spec
    assert as_loaded(loaded_report) == as_loaded(saved[1].spec)


def test_runs_repeated_with_other_seeds_are_grouped(tmp_path: Path) -> None:
    for number, (lr, seed) in enumerate([(1e-3, 0), (1e-3, 1), (1e-4, 0), (1e-4, 1)]):
        write(tmp_path / "runs", number, number, lr=lr, seed=seed)
    collection = Collection(tmp_path, leaderboard(read_runs(tmp_path / "runs")))
    space = dashboard.workspace(Scope("me", "zoo", "seeds"), collection, findings(collection))
    assert [group.name for group in space.runset_settings.groupby] == ["lr"]
    assert space.runset_settings.filters == ""


def test_sections_that_no_run_has_anything_for_are_left_out(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    collection = Collection(tmp_path, leaderboard(read_runs(tmp_path)))
    written = dashboard.report(Scope("me", "zoo", "one"), collection, findings(collection))
    headings = [block.text for block in written.blocks if type(block).__name__ == "H2"]
    with_content = [TITLES[section] for section in SECTIONS if section not in ("gallery", "positions")]
    assert headings == ["Before you trust the numbers", *with_content]  # few images: it may be guessing


def test_nobody_is_logged_in(server: WandbServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    code, lines = report(folder)
    assert (code, lines) == (1, ["Error: Not logged in to W&B. Run `wandb login`, then repeat the command."])


def test_without_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("wandb_workspaces", "wandb_workspaces.reports.v2", "wandb_workspaces.workspaces"):
        monkeypatch.setitem(sys.modules, name, None)
    code, [line] = report(folder)
    assert code == 1
    assert "pip install 'vit-harness[reports]'" in line


def test_without_permission(server: WandbServer, folder: Path) -> None:
    server.read_only.add("zoo")
    code, [line] = report(folder)
    assert code == 1
    assert line == f"Error: W&B does not allow this: permission denied to write to {ENTITY}/zoo."
    assert server.views == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (f"{ENTITY}/nowhere", f"W&B has no project {ENTITY}/nowhere, or you may not see it."),
        (f"{ENTITY}/zoo/other", f"There are no runs in {ENTITY}/zoo of a sweep or group other."),
        ("nowhere", "nowhere is neither a folder of runs nor ENTITY/PROJECT or ENTITY/PROJECT/SWEEP in W&B."),
    ],
)
def test_runs_that_are_not_there(server: WandbServer, words: str, said: str) -> None:
    assert report(words) == (1, [f"Error: {said}"])


def test_runs_that_were_not_sent(server: WandbServer, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "small")
    write(tmp_path / "small", 4, 1, lr=1e-6)
    code, [said, *_] = report(tmp_path / "small")
    assert code == 0
    assert said.startswith("1 of 5 runs are not in W&B yet")
    for path in (tmp_path / "small").glob("*-r-?"):
        (path / "manifest.json").write_text('{"wandb_run_id": "other"}')
    code, [said] = report(tmp_path / "small")
    assert (code, said.startswith(f"Error: {ENTITY}/zoo has none of the runs in {tmp_path}/small yet.")) == (1, True)
    for path in (tmp_path / "small").glob("*-r-?"):
        shutil.rmtree(path / "wandb", ignore_errors=True)
    code, [said] = report(tmp_path / "small")
    assert (code, said.endswith("they were made with W&B disabled.")) == (1, True)
