from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports import columns
from reports.runs import Run, read_run, read_runs
from reports.stats.leaderboard import Leaderboard, leaderboard, to_json
from reports.stats.leaderboard_table import render, wide_columns
from reports.stats.setting import ranked
from tests.reports.test_runs import write_run

LABELS = np.repeat(np.arange(10), 10)
CLASSES = tuple("abcdefghij")


def write(folder: Path, value: float | None, errors: int = 5, *, state: str = "finished", **config: Any) -> Run:
    """A run with that `best/val_f1` and so many errors on 100 test images."""
    predicted = LABELS.copy()
    predicted[:errors] = 9
    summary = {"state": state, "best/val_f1": value, "reason": config.pop("reason", None)}
    return read_run(
        write_run(folder, LABELS.tolist(), predicted.tolist(), classes=CLASSES, config=config, summary=summary)
    )


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    write(tmp_path / "poor-3", 0.1, 60, lr=0.1, augment="none", batch_size=16)
    write(tmp_path / "best-0", 0.9, 3, lr=1e-5, augment="none", batch_size=16)
    write(tmp_path / "good-1", 0.8, 5, lr=1e-5, augment="standard", batch_size=16)
    write(tmp_path / "fair-2", 0.7, 30, lr=1e-5, augment="none", batch_size=64)
    broken = "The training loss became nan at step 3\n(epoch 1), at learning rate 1e+06."
    write(tmp_path / "z-4", None, state="infeasible", reason=broken, lr=1e6, augment="none", batch_size=16)
    write(tmp_path / "z-5", 0.95, state="stopped", reason="early", lr=1e-3, augment="none", batch_size=16)
    write(tmp_path / "z-6", 0.99, state="running", lr=1e-3, augment="standard", batch_size=16)
    write(tmp_path / "z-7", None, lr=1e-3, augment="standard", batch_size=64)
    (tmp_path / "z-8").mkdir()
    (tmp_path / "z-8" / "config.json").write_text("{")
    return read_runs(tmp_path)


def test_order_and_reasons(runs: list[Run]) -> None:
    board = leaderboard(runs)
    assert board.settings == ("lr", "augment", "batch_size")
    assert [(row.place, row.run.name, row.metric) for row in board.finished] == [
        (1, "best-0", 0.9),
        (2, "good-1", 0.8),
        (3, "fair-2", 0.7),
        (4, "poor-3", 0.1),
    ]
    assert board.finished[0].settings == {"lr": 1e-5, "augment": "none", "batch_size": 16}
    assert [(row.run.name, row.reason) for row in board.others] == [
        ("z-4", "The training loss became nan at step 3 (epoch 1), at learning rate 1e+06."),
        ("z-5", "early"),
        ("z-6", ""),
        ("z-7", "its summary has no best/val_f1"),
        (
            "z-8",
            "config.json is damaged (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)); "
            "manifest.json is missing; summary.json is missing",
        ),
    ]
    assert [row.comparison is None for row in board.ranked] == [True, False, False, False]
    assert leaderboard(runs, goal="minimize").finished[0].run.name == "poor-3"
    assert [run.name for run in ranked(runs, "test/f1", "minimize")] == ["poor-3", "fair-2", "good-1", "z-7", "best-0"]


def test_equal_runs_are_ordered_by_validation_loss_then_name(tmp_path: Path) -> None:
    for name, loss in (("a", 2.0), ("b", 1.0), ("d", None), ("c", 1.0)):
        write_run(tmp_path / name, summary={"best/val_loss": loss})
    assert [run.name for run in ranked(read_runs(tmp_path), "best/val_f1", "maximize")] == ["b", "c", "a", "d"]


def test_the_text(runs: list[Run]) -> None:
    text = render(leaderboard(runs), 100)
    assert "\x1b" not in text
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    best = runs[0]
    interval = f"{best.metric('test/f1_low'):.4f} to {best.metric('test/f1_high'):.4f}"
    row = next(line for line in lines if line.startswith("1 "))
    assert " ".join(row.split()) == f"1 1e-05 none 16 0.9000 0.9693 {interval} - 2/3 1 min 15 s best-0"
    assert re.search(r"^ *1e\+06 +none +16 +infeasible +- +z-4 +The training loss became", text, re.MULTILINE)
    assert re.search(r"^ *0\.001 +none +16 +stopped +0\.9500 +z-5 +early$", text, re.MULTILINE)
    notes = " ".join(" ".join(lines[lines.index(next(line for line in lines if line.startswith("Best by"))) :]).split())
    assert notes.startswith(
        f"Best by best/val_f1: lr 1e-05, augment none, batch size 16. Test macro F1 0.9693, 95 % interval {interval}, "
        "n = 100. On the same 100 test images, 1 of 3 other runs may be as good by macro F1; 2 score lower. "
        "The best minus each of these: 2 (lr 1e-05, augment standard, batch size 16): 0.0"
    )
    assert "after Holm's correction for 3 comparisons" in notes
    assert "paired bootstrap" in notes


@pytest.mark.parametrize("width", [20, 60, 80, 100, 110, 160, 300])
def test_numbers_are_whole_at_any_width(runs: list[Run], width: int) -> None:
    board = leaderboard(runs)
    text = render(board, width)
    table = text.partition("Best by")[0]
    for row in board.finished:
        for key in ("best/val_f1", "test/f1"):
            assert f" {row.run.metric(key):.4f} " in table
        assert f"{row.run.metric('test/f1_low'):.4f} to {row.run.metric('test/f1_high'):.4f}" in table
        assert "1 min 15 s" in table
    if width >= 100:
        assert max(map(len, text.splitlines())) <= width


def test_settings_go_into_words_where_columns_do_not_fit(tmp_path: Path) -> None:
    for number in range(3):
        settings = {f"setting_number_{index}": number * 0.123456789012 for index in range(12)}
        write(tmp_path / f"a rather long name of a run folder-{number}", number / 10, **settings)
    board = leaderboard(read_runs(tmp_path))
    text = render(board, 100)
    assert max(map(len, text.splitlines())) <= 100
    assert "settings" in text
    assert len(board.settings) == 12
    words = "".join(text.split())
    assert "settingnumber110.246914" in words


def test_digits_suffice_to_tell_values_apart(tmp_path: Path) -> None:
    values = [0.1, 0.12345678901, 0.12345678902, None, True, "text"]
    for number, value in enumerate(values):
        write(tmp_path / str(number), 1 - number / 10, drop=value)
    text = render(leaderboard(read_runs(tmp_path)), 120)
    found = [line.split()[1] for line in text.splitlines() if re.match(r"\d ", line)]
    assert found == ["0.10000000000000001", "0.12345678901", "0.12345678902", "default", "true", "text"]


def test_values_of_two_types_do_not_get_more_digits() -> None:
    assert columns.spelled([1, 1.0, 0.1]) == ("1", "1", "0.1")


def test_a_best_run_without_a_test_score_is_called_so(tmp_path: Path) -> None:
    for seed in (0, 1):
        for lr in (1e-5, 1e-4)[seed:]:
            run = write(tmp_path / f"{lr:g}-{seed}", 0.9 - lr, lr=lr, seed=seed)
            summary = {key: value for key, value in run.summary.items() if not key.startswith("test/")}
            (run.path / "summary.json").write_text(json.dumps(summary))
    runs = read_runs(tmp_path)
    for chosen in (runs, [run for run in runs if run.config["seed"] == 0]):
        note = leaderboard(chosen).notes[0]
        assert note.endswith("It has no score on test images.") and "n = 0" not in note


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    name = "a[red]\x1b[2J\n\udcff"
    write(tmp_path / name, 0.5, augment="[bold]x\x1b]0;title\x07")
    write(tmp_path / "b", None, state="failed\x1b[1m", reason="[/] \x1b[0m \\[", augment="\u202eevil")
    text = render(leaderboard(read_runs(tmp_path)), 200)
    assert r"a[red]\x1b[2J\n\udcff" in text
    assert r"[bold]x\x1b]0;title\x07" in text
    assert r"[/] \x1b[0m \[" in text
    assert not {"\x1b", "\x07", "\u202e"} & set(text)
    json.loads(to_json(leaderboard(read_runs(tmp_path))))


def test_nothing_one_and_none_finished(tmp_path: Path) -> None:
    assert render(leaderboard([]), 100) == "There are no runs.\n"
    unfinished = write(tmp_path / "a", None, state="preempted")
    assert render(leaderboard([unfinished]), 100).endswith("\n\nNo run has finished.\n")
    alone = render(leaderboard([write(tmp_path / "b", 0.5)]), 100)
    assert alone.endswith("No other run has finished: there is nothing to compare it with.\n")
    assert "p (Holm)" in alone


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    best, other = write(tmp_path / "a", 0.5), write(tmp_path / "b", 0.4)
    (other.path / "predictions.csv").unlink()
    notes = leaderboard([best, other]).notes
    assert "2 is not compared with the best: its predictions cannot be used: predictions.csv is missing." in notes
    assert not any("Holm" in note for note in notes)


def test_a_run_that_is_better_on_the_test_pictures_is_called_so(tmp_path: Path) -> None:
    for name, value, errors in (("a", 0.9, 30), ("b", 0.8, 1), ("c", 0.7, 30), ("d", 0.6, 80)):
        write(tmp_path / name, value, errors)
    notes = leaderboard(read_runs(tmp_path)).notes
    assert notes[1] == (
        "On the same 100 test images, 1 of 3 other runs may be as good by macro F1; 1 score lower; "
        "1 score higher, unlike on validation. The best minus each of these:"
    )
    assert notes[2] == "  3 (c): identical predictions"


def test_a_board_by_a_test_metric_says_that_it_is_biased(tmp_path: Path) -> None:
    runs = [write(tmp_path / "a", 0.5), write(tmp_path / "b", 0.4)]
    assert any("overstated" in note for note in leaderboard(runs, metric="test/f1").notes)
    assert not any("overstated" in note for note in leaderboard(runs).notes)


def test_two_hundred_runs(tmp_path: Path) -> None:
    made = [write(tmp_path / f"of {errors}", None, errors).path for errors in (1, 30)]
    runs = []
    for number in range(200):
        folder = shutil.copytree(made[number < 100], tmp_path / "runs" / f"{number:03}")
        (folder / "config.json").write_text(json.dumps({"lr": number * 1e-5}))
        summary = json.loads((folder / "summary.json").read_text())
        (folder / "summary.json").write_text(json.dumps(summary | {"best/val_f1": number / 1000}))
        runs.append(read_run(folder))
    board = leaderboard(runs)
    assert len(board.finished) == 200
    assert board.finished[0].run.name == "199"
    # Clear differences are told apart even after a correction for so many comparisons.
    apart = [
        row.setting.best.name for row in board.ranked[1:] if row.comparison and not row.comparison.indistinguishable
    ]
    assert apart == [f"{number:03}" for number in range(99, -1, -1)]
    text = " ".join(render(board, 100).split())
    assert "99 of 199 other runs may be as good by macro F1; 100 score lower." in text
    assert "and 89 more How: " in text
    assert "correction for 199 comparisons" in text


def write_probed(folder: Path, value: float, errors: int, probe: tuple[float, float], **config: Any) -> Run:
    """A run that started from a probe with that macro F1 on validation and on test."""
    run = write(folder, value, errors, **config)
    gain = (run.metric("test/f1") or 0) - probe[1]
    summary = json.loads((folder / "summary.json").read_text()) | {
        "probe/val_f1": probe[0],
        "probe/val_loss": 0.5,
        "probe/test_f1": probe[1],
        "probe/gain": gain,
        "probe/gain_low": gain - 0.02,
        "probe/gain_high": gain + 0.02,
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return read_run(folder)


def test_the_probe_is_the_first_row(tmp_path: Path) -> None:
    write(tmp_path / "a", 0.9, 3, lr=1e-5, head_init="zero")
    write_probed(tmp_path / "b", 0.8, 5, (0.85, 0.84), lr=1e-5, head_init="probe")
    write_probed(tmp_path / "c", 0.7, 60, (0.85, 0.84), lr=0.1, head_init="probe")
    board = leaderboard(read_runs(tmp_path))
    [probe] = board.probes
    assert (probe.settings, probe.metric, probe.test_f1, probe.started) == ({}, 0.85, 0.84, 2)
    assert json.loads(to_json(board))["probes"] == [{"settings": {}, "metric": 0.85, "test_f1": 0.84, "started": 2}]
    words = [line.split() for line in render(board, 160).splitlines()]
    first = next(number for number, line in enumerate(words) if line[:1] == ["probe"])
    assert words[first] == ["probe", "0.8500", "0.8400", "start", "of", "2", "runs"]
    assert words[first + 1][:5] == ["1", "1e-05", "zero", "0.9000", "0.9693"]
    # Of these columns the W&B report makes its table.
    place, *_, folder = next(wide_columns(board))
    assert place.cells == ("probe", "1", "2", "3")
    assert folder.cells == ("start of 2 runs", "a", "b", "c")
    assert board.notes[1] == (
        "Compared with the linear probe: +0.1293, without an interval: it did not start from the probe."
    )
    assert leaderboard(read_runs(tmp_path), metric="best/val_loss", goal="minimize").probes[0].metric == 0.5
    assert leaderboard(read_runs(tmp_path), metric="train/loss", goal="minimize").probes[0].metric is None


def test_the_best_run_says_what_it_added_to_its_probe(tmp_path: Path) -> None:
    board = leaderboard([write_probed(tmp_path / "a", 0.9, 3, (0.95, 0.96), lr=1e-5)])
    assert board.notes[1] == (
        "It adds +0.0093 to the test macro F1 of its linear probe, 95 % interval -0.0107 to +0.0293."
    )


def test_each_backbone_has_a_probe_of_its_name(tmp_path: Path) -> None:
    write_probed(tmp_path / "a", 0.9, 3, (0.85, 0.84), model="vit_s_16", weights="x", lr=1e-5)
    write_probed(tmp_path / "b", 0.8, 5, (0.75, 0.74), model="vit_ti_16", weights="x", lr=1e-5)
    unfinished = write(tmp_path / "c", None, state="running", model="vit_b_16", weights="x", lr=1e-5)
    (unfinished.path / "summary.json").write_text('{"state": "running", "probe/val_f1": 0.6}')
    probes = leaderboard(read_runs(tmp_path)).probes
    assert [(probe.settings, probe.metric, probe.test_f1) for probe in probes] == [
        ({"model": "vit_s_16"}, 0.85, 0.84),
        ({"model": "vit_ti_16"}, 0.75, 0.74),
        ({"model": "vit_b_16"}, 0.6, None),
    ]
    words = [line.split() for line in render(leaderboard(read_runs(tmp_path)), 160).splitlines()]
    assert [line[1:4] for line in words if line[:1] == ["probe"]] == [
        ["vit_s_16", "0.8500", "0.8400"],
        ["vit_ti_16", "0.7500", "0.7400"],
        ["vit_b_16", "0.6000", "-"],
    ]


def test_without_a_probe_there_is_no_row(runs: list[Run]) -> None:
    assert leaderboard(runs).probes == ()
    assert "probe" not in render(leaderboard(runs), 100)


def test_json_holds_everything(runs: list[Run]) -> None:
    board: Leaderboard = leaderboard(runs)
    content = json.loads(to_json(board))
    assert (content["metric"], content["goal"]) == ("best/val_f1", "maximize")
    assert content["settings"] == ["lr", "augment", "batch_size"]
    assert content["notes"] == list(board.notes)
    assert len(content["runs"]) == 9
    second = content["runs"][1]
    assert (second["run"], second["place"], second["state"]) == ("good-1", 2, "finished")
    assert second["settings"] == {"lr": 1e-5, "augment": "standard", "batch_size": 16}
    assert second["summary"]["test/n"] == 100
    compared = second["best_less_this"]
    assert compared["low"] <= compared["difference"] <= compared["high"]
    assert (compared["comparisons"], compared["pictures"], compared["indistinguishable"]) == (3, 100, True)
    assert content["runs"][0]["best_less_this"] is None
    assert content["runs"][4]["reason"].startswith("The training loss became nan")
