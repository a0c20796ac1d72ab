"""The section on position embeddings: numbers by learning rate, figures, heads; missing and damaged files."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from harness.explain.archive import write_archive
from harness.explain.attention.head_statistics import STATISTICS
from harness.runs.attention_files import PositionArchive, read_positions
from reports.collection import Collection
from reports.page import position_maps
from reports.page.section import Section
from reports.page.sections import positions as section
from reports.page.site import Site
from reports.runs import read_runs
from reports.stats.leaderboard import leaderboard
from tests.helpers.explained import made_up_archive, made_up_positions, place_embedding
from tests.helpers.explained_runs import damaged, write_explained_run
from tests.reports.page.test_gallery_data import data


def section_of(runs: Path, page: Path, gallery: int | None = 24) -> Section:
    with Site(page) as site:
        made = section.section(Collection(runs, leaderboard(read_runs(runs)), gallery), site)
    assert made is not None
    return made


def test_runs_by_learning_rate_with_their_numbers(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=(49, 32))
    write_explained_run(tmp_path / "runs" / "a", config={"lr": 1e-1}, positions=noise)
    write_explained_run(tmp_path / "runs" / "b", config={"lr": 1e-4})
    made = section_of(tmp_path / "runs", tmp_path / "page")
    kept, lost = made.context["lines"]
    numbers = made_up_positions(noise).numbers
    assert (kept["rate"], kept["verdict"], lost["rate"], lost["verdict"]) == ("0.0001", "retained", "0.1", "lost")
    locality = numbers["after"]["locality"]
    assert lost["numbers"][0]["before"] == f"{numbers['before']['locality']['value']:.3g}"
    assert float(lost["numbers"][0]["after"]) == pytest.approx(locality["value"], rel=5e-3)
    low, high = map(float, lost["numbers"][0]["chance"].split(" to "))
    assert (low, high) == pytest.approx((locality["low"], locality["high"]), rel=5e-3)
    assert float(lost["change"]) == pytest.approx(numbers["change"]["value"], rel=5e-3)
    assert (kept["change"], kept["strength"]) == ("0", "0.9")
    assert len(made.context["rules"]) == 1
    assert [row["line"] for row in made.context["sweep"]] == [kept, lost]


def cosines_of(text: str, rows: int) -> np.ndarray:
    """(R, P), as position_maps.js reads them."""
    levels = np.frombuffer(base64.b64decode(text), np.uint8).reshape(rows, -1)
    return np.where(levels == 255, np.nan, levels / 127 - 1)


def test_maps_have_the_similarities_of_the_embeddings(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=(49, 32))
    run = write_explained_run(tmp_path / "runs" / "a", config={"lr": 1e-1}, positions=noise)
    made = section_of(tmp_path / "runs", tmp_path / "page")
    (row,) = made.context["sweep"]
    assert made.context["maps"] == [row["key"]]
    found = data(tmp_path / "page", f"positions-{row['key']}")
    written = read_positions(run)
    assert (found["side"], found["step"]) == (7, 1)
    for when, embedding, class_token in (
        (0, written.before, written.class_token_before),
        (1, written.after, written.class_token_after),
    ):
        patches = embedding[1:].astype(float) - embedding[1:].astype(float).mean(0)
        np.testing.assert_allclose(cosines_of(found["tiles"][when], 49), cosine_similarity(patches), atol=0.005)
        token = cosine_similarity(embedding[:1].astype(float) + class_token, patches)
        np.testing.assert_allclose(cosines_of(found["token"][when], 1), token, atol=0.005)
    before, after = (each[1:].astype(float) for each in (written.before, written.after))
    before, after = before - before.mean(0), after - after.mean(0)
    moved = np.linalg.norm(after - before, axis=1) / np.sqrt((before**2).sum(1).mean())
    np.testing.assert_allclose(found["moved"], moved, rtol=1e-2)


def test_of_a_fine_grid_every_second_patch_has_a_tile() -> None:
    embedding = np.random.default_rng(0).normal(size=(1 + 37**2, 4)).astype(np.float32)
    embedding[5] = np.nan
    token = np.ones(4, np.float32)
    found = position_maps.position_maps(PositionArchive(embedding, embedding, token, token, {}))
    assert (found["side"], found["step"]) == (37, 2)
    tiles = cosines_of(found["tiles"][0], 18**2)
    assert tiles.shape == (324, 1369) and np.isnan(tiles).all()  # the mean over patches is not finite
    assert [position_maps._step(side) for side in (1, 14, 25, 26, 37, 64)] == [1, 1, 1, 2, 2, 7]


def test_every_run_that_is_drawn_can_be_explored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in range(4):
        write_explained_run(
            tmp_path / "runs" / f"r{place}", config={"lr": 10.0**-place}, summary={"best/val_f1": 0.9 - place / 10}
        )
    # By learning rate, fewer runs than there are.
    monkeypatch.setattr(section.positions, "choose", lambda runs: runs[1:3])
    made = section_of(tmp_path / "runs", tmp_path / "page", gallery=2)
    by_rate = {row["key"]: row["line"]["label"] for row in made.context["sweep"]}
    assert list(by_rate.values()) == ["lr 0.01", "lr 0.1"]
    best, worst, *others = made.context["maps"]
    assert others == list(by_rate) and not {best, worst} & by_rate.keys()
    for key in made.context["maps"]:
        assert len(data(tmp_path / "page", f"positions-{key}")["tiles"]) == 2
    # Without a gallery, those by learning rate are still there.
    made = section_of(tmp_path / "runs", tmp_path / "without", gallery=0)
    assert made.context["maps"] == list(by_rate) and not made.context["best_and_worst"]


def test_heads_of_every_run(tmp_path: Path) -> None:
    seen = made_up_archive()
    write_explained_run(tmp_path / "runs" / "a", seen)
    made = section_of(tmp_path / "runs", tmp_path / "page")
    (run,) = made.context["heads"]
    found = data(tmp_path / "page", f"heads-{run['key']}")
    assert tuple(found) == STATISTICS == tuple(section.STATISTICS)
    np.testing.assert_allclose(found["entropy"], seen.statistics[..., 1], rtol=1e-3)
    assert [chart.name for chart in made.context["charts"]] == [
        "heads-depth",
        *(f"heads-{name}" for name in STATISTICS),
    ]


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for place, name in enumerate(("good", "gone", "cut", "odd", "running")):
        state = {"state": "running"} if name == "running" else {}
        write_explained_run(runs / name, config={"lr": 10.0**-place}, summary=state)
    for name in ("gone", "running"):
        shutil.rmtree(runs / name / "attention")
    path = runs / "cut" / "attention" / "positions.npz"
    path.write_bytes(path.read_bytes()[:500])
    odd = made_up_positions()
    del odd.numbers["change"]["low"]
    write_archive(runs / "odd" / "attention" / "positions.npz", odd)
    made = section_of(runs, tmp_path / "page")
    assert [line["label"] for line in made.context["lines"]] == ["lr 1"]
    without = {labels[0]: reason for reason, labels in made.context["missing"].items()}
    assert without["lr 0.1"] == "positions.npz is missing"
    assert without["lr 0.01"].startswith("positions.npz is damaged")
    assert without["lr 0.001"] == "positions.npz is damaged ('low')"
    assert without["lr 0.0001"] == "running, not measured yet"


def test_no_run_has_embeddings(tmp_path: Path) -> None:
    write_explained_run(tmp_path / "runs" / "a")
    shutil.rmtree(tmp_path / "runs" / "a" / "attention")
    made = section_of(tmp_path / "runs", tmp_path / "page")
    assert [made.context[name] for name in ("lines", "sweep", "maps", "heads")] == [[], [], [], []]


def test_whatever_is_damaged_the_section_is_made(tmp_path: Path) -> None:
    path = write_explained_run(tmp_path / "runs" / "a") / "attention" / "positions.npz"
    whole, said = path.read_bytes(), 0
    for seed in range(60):
        path.write_bytes(damaged(whole, seed))
        said += bool(section_of(tmp_path / "runs", tmp_path / "page").context["missing"])
    assert said > 30


def test_embeddings_that_are_no_numbers(tmp_path: Path) -> None:
    folder = write_explained_run(tmp_path / "runs" / "a") / "attention"
    odd: Any = made_up_positions(place_embedding())
    odd.after[3] = np.nan
    odd.numbers.update(json.loads('{"strength": null}'))
    write_archive(folder / "positions.npz", odd)
    made = section_of(tmp_path / "runs", tmp_path / "page")
    assert not made.context["lines"] and "is damaged" in next(iter(made.context["missing"]))
    odd.numbers["strength"] = float("nan")
    write_archive(folder / "positions.npz", odd)
    made = section_of(tmp_path / "runs", tmp_path / "page")
    assert made.context["lines"][0]["strength"] == "nan"
