"""Seeds of a sweep: --repeats, --repeat-best, and what its runs are called."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from harness.cli.main import main
from harness.errors import ConfigError
from harness.sweep.repeat_best import RepeatBest, check_repeat_best, points_to_repeat
from harness.sweep.search.grid import number_of_trials, points_of
from harness.sweep.search.settings import Search
from harness.sweep.search.trial_record import TrialRecord
from harness.sweep.spec.repeats import with_repeats
from harness.sweep.spec.sweep_file import Sweep, read_sweep
from reports.runs import read_runs
from tests.helpers.seeds import write_seed
from tests.helpers.sweeping import let_fail, records, sweep_here, write_sweep


def sweep_of(tmp_path: Path, parameters: dict[str, Any], *words: str, **keys: Any) -> Sweep:
    return read_sweep(write_sweep(tmp_path / "s.yaml", tmp_path, *words, parameters=parameters, **keys))


LR = {"lr": {"values": [1e-3, 1e-2]}}


def test_repeats_of_a_grid_are_seeds_in_the_file(tmp_path: Path) -> None:
    repeated = with_repeats(sweep_of(tmp_path, LR), 3)
    written = sweep_of(tmp_path, LR | {"seed": {"values": [0, 1, 2]}})
    points = points_of(repeated, Search())
    assert points == points_of(written, Search())
    assert [tuple(point.values()) for point in points[:4]] == [(1e-3, 0), (1e-3, 1), (1e-3, 2), (1e-2, 0)]
    assert repeated.seeds_per_setting == written.seeds_per_setting == 3
    # The first seed is the trial that the sweep has without repeats.
    alone = points_of(sweep_of(tmp_path, LR), Search())
    assert [repeated.config(point).identity for point in points[::3]] == [
        repeated.config(point).identity for point in alone
    ]


def test_a_random_point_is_drawn_once_for_all_seeds(tmp_path: Path) -> None:
    lr = {"min": 1e-5, "max": 1e-1, "distribution": "log_uniform_values"}
    parameters = {"lr": lr, "ema": {"values": [True, False]}}
    sweep = sweep_of(tmp_path, parameters, method="random")
    repeated = with_repeats(sweep, 2)
    points = points_of(repeated, Search(count=3))
    assert number_of_trials(repeated, Search(count=3)) == len(points) == 6
    assert [point["seed"] for point in points] == [0, 1, 0, 1, 0, 1]
    alone = points_of(sweep, Search(count=3))
    for number, point in enumerate(points):
        assert {name: value for name, value in point.items() if name != "seed"} == alone[number // 2]
    assert repeated.seeds_per_setting == 2
    assert points_of(with_repeats(sweep_of(tmp_path, parameters, method="random", run_cap=3), 2), Search()) == points


def test_a_cap_counts_points(tmp_path: Path) -> None:
    """Also where names come after the seed."""
    parameters = LR | {"weight_decay": {"values": [0.0, 0.1]}}
    points = points_of(with_repeats(sweep_of(tmp_path, parameters, run_cap=3), 2), Search())
    assert [(point["lr"], point["weight_decay"], point["seed"]) for point in points] == [
        *((1e-3, 0.0, 0), (1e-3, 0.0, 1), (1e-3, 0.1, 0)),
        *((1e-3, 0.1, 1), (1e-2, 0.0, 0), (1e-2, 0.0, 1)),
    ]


@pytest.mark.parametrize(
    ("parameters", "words", "keys", "why"),
    [
        (LR | {"seed": {"values": [0, 1]}}, (), {}, "also set under `parameters`"),
        (LR, ("--seed=4",), {}, "also set in `command`"),
        (LR | {"seed": {"values": [0, 1]}}, (), {"method": "bayes", "run_cap": 5}, "also set under `parameters`"),
    ],
)
def test_repeats_are_refused(
    tmp_path: Path, parameters: dict[str, Any], words: tuple[str, ...], keys: dict[str, Any], why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        with_repeats(sweep_of(tmp_path, parameters, *words, **keys), 2)


def test_impossible_repeats_are_usage_errors(tmp_path: Path) -> None:
    file = write_sweep(tmp_path / "s.yaml", tmp_path, parameters=LR, method="bayes", run_cap=2)
    refused = CliRunner().invoke(main, ["sweep", "run", str(file), "--repeat-best", "2"])
    assert refused.exit_code == 2 and "needs --repeats of at least 2" in refused.output


def test_the_best_settings_get_the_seeds_that_they_lack(tmp_path: Path) -> None:
    """By the first seed; a second run of the command, with all seeds there, has nothing to add."""
    sweep = sweep_of(tmp_path, {"lr": {"values": [1e-4, 1e-3, 1e-2]}})
    runs = tmp_path / "runs"
    scores = {1e-4: 0.9, 1e-3: 0.8, 1e-2: 0.1}
    entries = []
    for number, (lr, score) in enumerate(scores.items()):
        write_seed(runs, lr, 0, score, 10).rename(runs / f"lr={lr:g}_s0-5eed-{number}")
        entries.append(TrialRecord(number, number, f"5eed-{number}", {"lr": lr}, "finished", 0, score, None, None))
    check_repeat_best(sweep, RepeatBest(2, 3))
    points = points_to_repeat(sweep, entries, read_runs(runs), RepeatBest(2, 3))
    assert points == [{"lr": lr, "seed": seed} for lr in (1e-4, 1e-3) for seed in (1, 2)]
    # However they turn out, the command means the same settings.
    for lr, seed, score in ((1e-4, 1, 0.2), (1e-4, 2, 0.2), (1e-3, 1, 0.85)):
        write_seed(runs, lr, seed, score, 10)
    assert points_to_repeat(sweep, entries, read_runs(runs), RepeatBest(2, 3)) == [{"lr": 1e-3, "seed": 2}]
    assert points_to_repeat(sweep, entries, read_runs(runs), RepeatBest(1, 3)) == []


def test_a_failed_trial_counts_after_the_repeats_in_a_task_of_a_job_array(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_fail(monkeypatch, lr=1e-2)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    file = write_sweep(tmp_path / "s.yaml", data_folder, "--epochs=1", parameters=LR)
    assert sweep_here(file, tmp_path / "runs", repeat=RepeatBest(1, 2), retries=0) == 1
    assert [record.state for record in records(file, tmp_path / "runs")] == ["finished", "failed", "finished"]


def test_a_sweep_repeats_its_best_setting(data_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = write_sweep(tmp_path / "s.yaml", data_folder, "--epochs=1", parameters=LR)
    runs = tmp_path / "runs"
    assert sweep_here(file, runs, repeat=RepeatBest(1, 2)) == 0
    said = capfd.readouterr().out
    assert "Repeating the best 1 settings: 1 more trials." in said
    assert "n = 2 seeds" in said
    trials = records(file, runs)
    assert [record.state for record in trials] == ["finished"] * 3
    best = max(trials[:2], key=lambda record: record.value or 0).settings
    assert best is not None and trials[2].settings == best | {"seed": 1}
    names = sorted(path.parent.name for path in (runs / "s").glob("*/config.json"))
    assert [name.rpartition("-")[0].rpartition("-")[0] for name in names] == sorted(
        ["lr=0.001_s0", "lr=0.01_s0", f"lr={best['lr']:g}_s1"]
    )
    shown = CliRunner().invoke(main, ["sweep", "status", str(file), "--runs-dir", str(runs), "--json"])
    row = json.loads(shown.output)["board"]["rows"][0 if "n = 2 seeds" in said else 1]
    values = [record.value for record in trials if (record.settings or {})["lr"] == row["settings"]["lr"]]
    assert row["n"] == len(values) and row["metric"]["mean"] == pytest.approx(sum(values) / len(values))
    # Nothing is left to do.
    assert sweep_here(file, runs, repeat=RepeatBest(1, 2)) == 0
    assert "started" not in capfd.readouterr().out
    assert len(records(file, runs)) == 3
    status, watch = (
        CliRunner().invoke(main, ["sweep", name, str(file), "--runs-dir", str(runs)]).output
        for name in ("status", "watch")
    )
    assert "seed" in status.splitlines()[0]
    # The same mean, standard deviation and number of seeds in each of them.
    mean, sd = (f"{row['metric'][name]:.4f}" for name in ("mean", "sd"))
    for shown in (said, status, watch):  # "lr 0.001" in a narrow table, "0.001" in one with a column for lr
        assert re.search(rf"^ *1 +(lr )?{best['lr']:g} +2 +{mean} +{sd} ", shown, re.MULTILINE), shown
