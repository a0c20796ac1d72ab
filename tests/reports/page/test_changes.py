"""The section on position embeddings: numbers by learning rate, figures, heads; missing and damaged files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.explain import archive
from harness.explain.attention.head_statistics import STATISTICS
from reports.collection import Collection
from reports.page.section import Section
from reports.page.sections import positions as section
from reports.page.site import Site
from reports.runs import read_runs
from reports.stats.leaderboard import leaderboard
from tests.helpers.explained import made_up_archive, made_up_positions, place_embedding
from tests.helpers.looked import damaged, look
from tests.reports.page.test_gallery_data import data


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep's figure takes a second."""
    monkeypatch.setattr(section, "_sweep_figure", lambda *_: None)


def section_of(runs: Path, page: Path, gallery: int | None = 24) -> Section:
    with Site(page) as site:
        made = section.section(Collection(runs, leaderboard(read_runs(runs)), gallery), site)
    assert made is not None
    return made


def test_runs_by_learning_rate_with_their_numbers(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=(49, 32))
    look(tmp_path / "runs" / "a", config={"lr": 1e-1}, positions=noise)
    look(tmp_path / "runs" / "b", config={"lr": 1e-4})
    made = section_of(tmp_path / "runs", tmp_path / "page")
    kept, lost = made.context["lines"]
    numbers = made_up_positions(noise).numbers
    assert (kept.rate, kept.verdict, lost.rate, lost.verdict) == ("0.0001", "retained", "0.1", "lost")
    locality = numbers["after"]["locality"]
    assert lost.numbers[0].before == f"{numbers['before']['locality']['value']:.3g}"
    assert float(lost.numbers[0].after) == pytest.approx(locality["value"], rel=5e-3)
    low, high = map(float, lost.numbers[0].chance.split(" to "))
    assert (low, high) == pytest.approx((locality["low"], locality["high"]), rel=5e-3)
    assert float(lost.change) == pytest.approx(numbers["change"]["value"], rel=5e-3)
    assert (kept.change, kept.strength) == ("0", "0.9")
    assert len(made.context["rules"]) == 1
    with Image.open(tmp_path / "page" / made.context["sweep"]) as figure:
        assert figure.format == "PNG" and figure.width > 800


def test_the_sweep_s_figure_is_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look(tmp_path / "runs" / "a")
    section_of(tmp_path / "runs", tmp_path / "page")
    monkeypatch.setattr(section.positions, "figure", lambda runs: pytest.fail("drawn again"))
    section_of(tmp_path / "runs", tmp_path / "page")


@pytest.mark.usefixtures("undrawn")
def test_figures_of_runs_as_they_are(tmp_path: Path) -> None:
    for place in range(3):
        folder = look(
            tmp_path / "runs" / f"r{place}", config={"lr": 10.0**-place}, summary={"best/val_f1": 0.9 - place / 10}
        )
        (folder / "figures").mkdir()
        (folder / "figures" / "positions.png").write_bytes(b"figure %d" % place)
    (tmp_path / "runs" / "r2" / "figures" / "position_maps.png").write_bytes(b"maps")
    made = section_of(tmp_path / "runs", tmp_path / "page", gallery=2)
    first, last = made.context["figures"]
    assert (first["label"], last["label"]) == ("lr 1", "lr 0.01")  # the best and the worst, as in the gallery
    assert first["images"].keys() == {"positions"} and last["images"].keys() == {"positions", "position_maps"}
    assert (tmp_path / "page" / first["images"]["positions"]).read_bytes() == b"figure 0"


@pytest.mark.usefixtures("undrawn")
def test_heads_of_every_run(tmp_path: Path) -> None:
    seen = made_up_archive()
    look(tmp_path / "runs" / "a", seen)
    made = section_of(tmp_path / "runs", tmp_path / "page")
    (run,) = made.context["heads"]
    found = data(tmp_path / "page", f"heads-{run['key']}")
    assert tuple(found) == STATISTICS == tuple(section.STATISTICS)
    np.testing.assert_allclose(found["entropy"], seen.statistics[..., 1], rtol=1e-3)
    assert [chart.name for chart in made.context["charts"]] == [
        "heads-depth",
        *(f"heads-{name}" for name in STATISTICS),
    ]


@pytest.mark.usefixtures("undrawn")
def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for place, name in enumerate(("good", "gone", "cut", "odd", "running")):
        state = {"state": "running"} if name == "running" else {}
        look(runs / name, config={"lr": 10.0**-place}, summary=state)
    for name in ("gone", "running"):
        shutil.rmtree(runs / name / "attention")
    path = runs / "cut" / "attention" / "positions.npz"
    path.write_bytes(path.read_bytes()[:500])
    odd = made_up_positions()
    del odd.numbers["change"]["low"]
    archive.write(runs / "odd" / "attention" / "positions.npz", odd)
    made = section_of(runs, tmp_path / "page")
    assert [line.label for line in made.context["lines"]] == ["lr 1"]
    without = {labels[0]: reason for reason, labels in made.context["missing"].items()}
    assert without["lr 0.1"] == "positions.npz is missing"
    assert without["lr 0.01"].startswith("positions.npz is damaged")
    assert without["lr 0.001"] == "positions.npz is damaged ('low')"
    assert without["lr 0.0001"] == "running, not measured yet"


def test_no_run_has_embeddings(tmp_path: Path) -> None:
    look(tmp_path / "runs" / "a")
    shutil.rmtree(tmp_path / "runs" / "a" / "attention")
    made = section_of(tmp_path / "runs", tmp_path / "page")
    assert (made.context["lines"], made.context["sweep"], made.context["figures"], made.context["heads"]) == (
        [],
        None,
        [],
        [],
    )


@pytest.mark.usefixtures("undrawn")
def test_whatever_is_damaged_the_section_is_made(tmp_path: Path) -> None:
    path = look(tmp_path / "runs" / "a") / "attention" / "positions.npz"
    whole, said = path.read_bytes(), 0
    for seed in range(60):
        path.write_bytes(damaged(whole, seed))
        said += bool(section_of(tmp_path / "runs", tmp_path / "page").context["missing"])
    assert said > 30


def test_embeddings_that_are_no_numbers(tmp_path: Path) -> None:
    folder = look(tmp_path / "runs" / "a") / "attention"
    odd: Any = made_up_positions(place_embedding())
    odd.after[3] = np.nan
    odd.numbers.update(json.loads('{"strength": null}'))
    archive.write(folder / "positions.npz", odd)
    made = section_of(tmp_path / "runs", tmp_path / "page")
    assert not made.context["lines"] and "is damaged" in next(iter(made.context["missing"]))
    odd.numbers["strength"] = float("nan")
    archive.write(folder / "positions.npz", odd)
    made = section_of(tmp_path / "runs", tmp_path / "page")
    assert made.context["lines"][0].strength == "nan"
