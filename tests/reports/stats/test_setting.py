from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from harness.config import RunConfig
from harness.runs.paired import holm
from reports.runs import read_runs
from reports.stats.leaderboard import leaderboard, to_json
from reports.stats.leaderboard_table import render, wide_columns
from reports.stats.setting import NOT_COMPUTED, Setting, ranked, settings_of
from tests.helpers.seeds import write_seed, write_seeds
from tests.reports.stats.test_leaderboard import write


def settings(folder: Path) -> list[Setting]:
    return settings_of(read_runs(folder), "best/val_f1", "maximize")


def test_the_lucky_seed_does_not_win(tmp_path: Path) -> None:
    runs = write_seeds(tmp_path)
    luckiest = max(runs, key=lambda run: run.metric("best/val_f1") or 0)
    assert luckiest.config["lr"] == 3e-4
    board = leaderboard(runs)
    assert [(row.place, row.settings, row.setting.score.n) for row in board.ranked] == [
        (1, {"lr": 1e-4}, 3),
        (2, {"lr": 3e-4}, 3),
        (3, {"lr": 1e-3}, 3),
    ]
    assert board.settings == ("lr",)
    # The best model is that of the best seed of the best setting.
    assert [run.name for run in ranked(runs, "best/val_f1", "maximize")][:4] == [
        "lr=0.0001_s2",
        "lr=0.0001_s1",
        "lr=0.0001_s0",
        "lr=0.0003_s2",
    ]
    notes = board.notes
    assert notes[0].startswith(
        "Best by mean best/val_f1: lr 0.0001. Mean 0.9100, sd 0.0100, n = 3 seeds. Mean test macro F1 0.9"
    )
    assert "over 3 seeds and 100 images." in notes[0]
    assert notes[1] == "Its best seed by best/val_f1 is 2 (lr=0.0001_s2): the best model of the sweep."


def test_mean_and_sd_by_hand(tmp_path: Path) -> None:
    """0.90, 0.91, 0.92: mean 0.91, sd sqrt((0.01² + 0 + 0.01²) / 2) = 0.01."""
    write_seeds(tmp_path)
    best, second, _ = settings(tmp_path)
    assert (best.score.mean, best.score.sd, best.score.n) == (pytest.approx(0.91), pytest.approx(0.01), 3)
    # 0.80, 0.83, 0.98: mean 0.87, deviations -0.07, -0.04, 0.11.
    assert second.score.mean == pytest.approx(0.87)
    assert second.score.sd == pytest.approx(math.sqrt((0.07**2 + 0.04**2 + 0.11**2) / 2))
    f1 = [run.metric("test/f1") or 0 for run in best.runs]
    assert best.test_f1.mean == pytest.approx(np.mean(f1))
    assert best.test_f1.sd == pytest.approx(np.std(f1, ddof=1))
    low, high = best.test_f1.low, best.test_f1.high
    assert low is not None and high is not None and low < best.test_f1.mean < high
    # About 100 images with 9 errors: at least as wide as the binomial interval.
    assert high - low > 2 * 1.96 * math.sqrt(0.09 * 0.91 / 100) * 0.9


def test_one_seed_has_the_interval_of_its_summary(tmp_path: Path) -> None:
    run = write(tmp_path / "a", 0.5, 7, lr=1e-4, seed=3)
    [setting] = settings(tmp_path)
    assert (setting.score.mean, setting.score.sd, setting.score.n) == (0.5, None, 1)
    assert (setting.test_f1.mean, setting.test_f1.low, setting.test_f1.high) == (
        run.metric("test/f1"),
        run.metric("test/f1_low"),
        run.metric("test/f1_high"),
    )


def test_what_makes_a_setting(tmp_path: Path) -> None:
    common = {"lr": 1e-4, "augment": "none"}
    write(tmp_path / "a", 0.5, seed=0, **common)
    write(tmp_path / "b", 0.6, seed=1, runs_dir="elsewhere", threads=3, **common)
    write(tmp_path / "c", 0.7, seed=1, **common)  # the second run of a seed is no repeat
    write(tmp_path / "d", 0.8, seed=2, lr=1e-4, augment="standard")
    other_data = write(tmp_path / "e", 0.9, seed=2, **common)
    manifest = other_data.path / "manifest.json"
    manifest.write_text(json.dumps({"data": {"fingerprint": "beef"}}))
    failed = write(tmp_path / "f", None, seed=3, state="failed", **common)
    (failed.path / "manifest.json").write_text("{}")  # it ended before it had read its data
    named = [[run.name for run in setting.all_runs] for setting in settings(tmp_path)]
    assert named == [["e"], ["d"], ["c"], ["b", "a", "f"]]


def test_seeds_that_were_explained_or_computed_in_other_parts_are_of_one_setting(tmp_path: Path) -> None:
    others = [{"explain": "all"}, {"explain": "none", "micro_batch": 4}, {"explain": "all", "verify": True}]
    for seed, config in enumerate(others):
        write(tmp_path / f"a{seed}", 0.5, lr=1e-4, seed=seed, **config)
    board = leaderboard(read_runs(tmp_path))
    assert [len(row.rows) for row in board.ranked] == [3]
    assert board.settings == ()
    # As for the identity of a run; a recipe is shown, because the settings that it stands for are many.
    computed = {field.name for field in dataclasses.fields(RunConfig) if field.metadata["identity"]}
    assert {field.name for field in dataclasses.fields(RunConfig)} - computed <= {*NOT_COMPUTED, "recipe"}
    assert computed & {*NOT_COMPUTED} == {"name"}


def test_unfinished_seeds_are_counted_and_not_waited_for(tmp_path: Path) -> None:
    for seed, value in enumerate((0.8, 0.9)):
        write(tmp_path / f"a{seed}", value, lr=1e-4, seed=seed)
    write(tmp_path / "a2", 0.99, state="running", lr=1e-4, seed=2)
    write(tmp_path / "b0", 0.84, lr=1e-3, seed=0)
    board = leaderboard(read_runs(tmp_path))
    assert [(row.settings["lr"], row.setting.score.n, len(row.rows)) for row in board.ranked] == [
        (1e-4, 2, 3),
        (1e-3, 1, 1),
    ]
    assert "n = 2 of 3 seeds" in board.notes[0]
    text = render(board, 200)
    lines = [line.split() for line in text.splitlines()]
    assert ["1", "0.0001", "2", "of", "3", "0.8500", "0.0707"] in [line[:7] for line in lines]
    assert ["seed", "1", "0.9000"] in [line[:3] for line in lines]
    assert ["0.0001", "2", "running", "0.9900", "a2"] in lines


def test_text_and_json_have_the_same_numbers(tmp_path: Path) -> None:
    board = leaderboard(write_seeds(tmp_path))
    content = json.loads(to_json(board))
    assert [row["place"] for row in content["rows"]] == [1, 2, 3]
    assert content["rows"][1]["seeds"] == [2, 1, 0]
    assert content["rows"][1]["best_run"] == "lr=0.0003_s2"
    assert len(content["runs"]) == 9
    table = next(wide_columns(board))
    cells = {column.header: column.cells for column in table}
    assert cells[""][::4] == ("1", "2", "3") and cells["seeds"][:5] == ("3", "seed 2", "seed 1", "seed 0", "3")
    for place, row in enumerate(content["rows"]):
        assert cells["best/val_f1"][4 * place] == f"{row['metric']['mean']:.4f}"
        assert cells["sd"][4 * place] == f"{row['metric']['sd']:.4f}"
        assert cells["test F1"][4 * place] == f"{row['test_f1']['mean']:.4f}"
        assert cells["test sd"][4 * place] == f"{row['test_f1']['sd']:.4f}"
        assert cells["95 % interval"][4 * place] == f"{row['test_f1']['low']:.4f} to {row['test_f1']['high']:.4f}"
        assert row["n"] == row["metric"]["n"] == 3


def test_settings_are_tested_over_seeds_and_images(tmp_path: Path) -> None:
    board = leaderboard(write_seeds(tmp_path))
    second, third = (row.comparison for row in board.ranked[1:])
    assert second and third
    assert second.over_seeds and third.over_seeds
    assert (second.comparisons, second.images) == (2, 100)
    f1 = [row.setting.test_f1.mean or 0 for row in board.ranked]
    assert third.difference == pytest.approx(f1[0] - f1[2])
    assert second.p is not None and third.p is not None
    assert [second.p_holm, third.p_holm] == pytest.approx(holm([second.p, third.p]))
    assert not third.indistinguishable
    said = " ".join(board.notes)
    assert "t-test of the mean macro F1 over seeds and images" in said
    assert "permutation test" not in said and "Other training seeds" not in said


def test_a_setting_with_one_seed_among_several(tmp_path: Path) -> None:
    write_seeds(tmp_path)
    write_seed(tmp_path, 3e-5, 0, 0.5, 30)
    write_seed(tmp_path, 1e-5, 0, 0.95, 12)
    board = leaderboard(read_runs(tmp_path))
    assert [row.settings["lr"] for row in board.ranked] == [1e-5, 1e-4, 3e-4, 3e-5, 1e-3]
    over_seeds = [row.comparison.over_seeds for row in board.ranked[1:] if row.comparison]
    assert over_seeds == [True, True, False, True]
    assert "Between two settings with one seed each, a two-sided permutation test" in " ".join(board.notes)


def test_seeds_with_the_same_predictions(tmp_path: Path) -> None:
    """No variance over seeds, and none over images between the two: the exact bound, as with one seed."""
    for lr in (1e-4, 1e-3):
        for seed in range(2):
            write(tmp_path / f"{lr}-{seed}", 0.9 - lr, 6, lr=lr, seed=seed)
    [_, row] = leaderboard(read_runs(tmp_path)).ranked
    assert row.comparison and row.comparison.p == 1
    bound = 1 - 0.025 ** (1 / 100)
    assert (row.comparison.low, row.comparison.high) == (pytest.approx(-bound), pytest.approx(bound))


def test_without_an_error_the_interval_keeps_its_width(tmp_path: Path) -> None:
    for seed in range(3):
        write(tmp_path / f"{seed}", 0.9, 0, lr=1e-4, seed=seed)
    [setting] = settings(tmp_path)
    assert (setting.test_f1.low, setting.test_f1.high) == (pytest.approx(0.025 ** (1 / 100)), 1)


def test_one_damaged_seed(tmp_path: Path) -> None:
    write_seeds(tmp_path)
    (tmp_path / "lr=0.0003_s1" / "predictions.csv").unlink()
    board = leaderboard(read_runs(tmp_path))
    damaged = board.ranked[1]
    assert (damaged.setting.test_f1.n, damaged.setting.test_f1.low) == (3, None)
    assert damaged.comparison
    assert damaged.comparison.reason == ("its predictions cannot be used: predictions.csv is missing (lr=0.0003_s1)")
    assert board.ranked[2].comparison and board.ranked[2].comparison.comparisons == 1
