"""Caveats that the tests of the whole page do not reach."""

from __future__ import annotations

import json
from pathlib import Path

from reports.caveats import caveats
from reports.collection import collect
from tests.reports.stats.test_leaderboard import write


def test_runs_below_their_probe_are_named(tmp_path: Path) -> None:
    gains = {"better": (0.02, 0.05), "within": (-0.01, 0.02), "below": (-0.2, -0.1)}
    for number, (name, (gain, high)) in enumerate(gains.items()):
        run = write(tmp_path / name, 0.5, lr=10.0**-number)
        summary = run.summary | {"probe/gain": gain, "probe/gain_high": high}
        (tmp_path / name / "summary.json").write_text(json.dumps(summary))
    write(tmp_path / "without", 0.5, lr=1e-7)
    [caveat] = [one for one in caveats(collect(tmp_path)) if "linear probe" in one.text]
    assert caveat.text == "2 runs scored below the linear probe that the head started from."
    assert sorted(caveat.details) == [
        "lr 0.01: test F1 -0.2000 beyond its interval",
        "lr 0.1: test F1 -0.0100, within its interval",
    ]
    assert caveat.is_grave


def test_seeds_that_were_pruned_make_a_mean_too_good(tmp_path: Path) -> None:
    for seed, state in enumerate(("finished", "stopped", "infeasible", "failed")):
        write(tmp_path / f"a{seed}", 0.9 if seed == 0 else None, lr=1e-3, seed=seed, state=state)
    write(tmp_path / "b0", 0.8, lr=1e-4, seed=0)
    [caveat] = [one for one in caveats(collect(tmp_path)) if "pruned" in one.text]
    assert caveat.is_grave
    assert caveat.text == (
        "Seeds of 1 setting were pruned or could not be trained. Means are of the other seeds, and therefore too good."
    )
    assert caveat.details == ("lr 0.001: 2 of 4 seeds",)


def test_a_winner_that_is_hardly_trained_is_named(tmp_path: Path) -> None:
    for name, loss in (("trained", 0.5), ("hardly", 3.5)):
        run = write(tmp_path / name / "a", 0.5, lr=1e-3)
        summary = run.summary | {"best/val_loss": loss, "test/temperature": 0.4}
        (run.path / "summary.json").write_text(json.dumps(summary))
        (run.path / "manifest.json").write_text(json.dumps({"data": {"classes": 100}}))
    [caveat] = [one for one in caveats(collect(tmp_path / "hardly")) if "hardly trained" in one.text]
    assert caveat.text == (
        "The best run is hardly trained: its validation loss is 3.50; guessing among 100 classes has 4.61. Train "
        "longer, or with a higher learning rate."
    )
    assert caveat.details == ("Its probabilities are under-confident.",) and caveat.is_grave
    assert not any("hardly trained" in caveat.text for caveat in caveats(collect(tmp_path / "trained")))


def test_a_winner_that_is_over_confident_is_not_advised_to_train_longer(tmp_path: Path) -> None:
    run = write(tmp_path / "a", 0.5, lr=1e-3)
    summary = run.summary | {"best/val_loss": 3.5, "test/temperature": 2.0}
    (run.path / "summary.json").write_text(json.dumps(summary))
    (run.path / "manifest.json").write_text(json.dumps({"data": {"classes": 100}}))
    [caveat] = [one for one in caveats(collect(tmp_path)) if "validation loss" in one.text]
    assert caveat.text == (
        "The best run has a high loss: its validation loss is 3.50; guessing among 100 classes has 4.61."
    )
    assert caveat.details == () and caveat.is_grave


def test_the_validation_score_of_the_best_of_several_is_too_high(tmp_path: Path) -> None:
    for number, errors in enumerate((10, 11, 12)):
        run = write(tmp_path / str(number), 0.9, errors, lr=10.0**-number)
        (run.path / "manifest.json").write_text(json.dumps({"data": {"images": {"val": 50}}}))
    [caveat] = [one for one in caveats(collect(tmp_path)) if "too high" in one.text]
    assert not caveat.is_grave
    assert caveat.text.startswith(
        "The best of 3 settings was chosen by its validation F1, which is therefore about 0.0"
    )
    assert "(simulated for 50 validation images)" in caveat.text


def test_a_clear_winner_is_not_called_too_high(tmp_path: Path) -> None:
    for number, errors in enumerate((1, 60, 70)):
        run = write(tmp_path / str(number), 0.99 - errors / 100, errors, lr=10.0**-number)
        (run.path / "manifest.json").write_text(json.dumps({"data": {"images": {"val": 80}}}))
    assert not [one for one in caveats(collect(tmp_path)) if "too high" in one.text]


def test_a_winner_near_guessing_is_a_grave_caveat(tmp_path: Path) -> None:
    write(tmp_path / "a", 0.5, 95)  # right on 5 of 100 images of ten classes
    [caveat] = [one for one in caveats(collect(tmp_path)) if "guessing" in one.text]
    assert caveat.is_grave and caveat.text.startswith("The best setting may be no better than guessing: its test macro")
    assert caveat.text.endswith("guessing gives about 0.1.")
    write(tmp_path / "b", 0.9, 30)
    assert not [one for one in caveats(collect(tmp_path)) if "guessing" in one.text]
