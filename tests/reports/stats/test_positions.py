from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from harness.explain.archive import write_archive
from harness.explain.positions.measures import change_map
from harness.runs.attention_files import PositionArchive
from harness.runs.embeddings import centred
from harness.runs.similarity_tiles import similarity_tiles
from harness.sweep.session import draw_positions
from reports.runs import Run, read_run, read_runs
from reports.stats import positions
from tests import ROOT
from tests.helpers.explained import made_up_positions


def write(folder: Path, found: PositionArchive | None, value: float = 0.5, **config: Any) -> Run:
    """A run of those settings, with position embeddings if given."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "summary.json").write_text(json.dumps({"state": "finished", "best/val_f1": value}))
    (folder / "manifest.json").write_text("{}")
    if found:
        write_archive(folder / positions.POSITIONS, found)
    return read_run(folder)


@pytest.fixture(scope="module")
def kept() -> PositionArchive:
    return made_up_positions()


@pytest.fixture(scope="module")
def lost() -> PositionArchive:
    return made_up_positions(np.random.default_rng(3).normal(size=(49, 32)))


def panels(figure: Figure) -> list[list[Axes]]:
    """Rows of before, after, change."""
    found = [axes for axes in figure.axes if axes.get_images()]
    return [found[start : start + 3] for start in range(0, len(found), 3)]


def cells(axes: Axes) -> np.ndarray:
    array = axes.get_images()[0].get_array()
    assert array is not None
    return np.ma.filled(np.ma.asarray(array, dtype=float), np.nan)


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.texts)


def test_rows_by_learning_rate(tmp_path: Path, kept: PositionArchive, lost: PositionArchive) -> None:
    write(tmp_path / "a", lost, lr=1e-1, augment="none")
    write(tmp_path / "b", kept, lr=1e-5, augment="$x^2$")
    write(tmp_path / "c", None, lr=1e-3, augment="none")
    figure = positions.figure(read_runs(tmp_path))
    assert figure
    rows = panels(figure)
    assert len(rows) == 2
    for row, found in zip(rows, (kept, lost), strict=True):
        start, end = (each[1:].astype(float) for each in (found.before, found.after))
        for axes, patches in zip(row, (start, end), strict=False):
            # 7 tiles of 7 cells and a line after each but the last; tile (2, 3) as the run's own figure has it.
            tiles = cells(axes)
            assert tiles.shape == (7 * 8 - 1, 7 * 8 - 1) and axes.get_images()[0].get_clim() == (-1, 1)
            np.testing.assert_allclose(tiles[16:23, 24:31], similarity_tiles(centred(patches))[2, 3], atol=1e-6)
            assert np.isnan(tiles[7]).all() and np.isnan(tiles[:, 15]).all()
        moved = change_map(start, end)
        np.testing.assert_allclose(cells(row[2]), moved, atol=1e-6)
        assert row[2].get_images()[0].get_clim() == pytest.approx((0, max(moved.max(), 1e-300)))
    heads = [text.get_text() for text in figure.texts if text.get_text().startswith("learning rate")]
    assert heads == ["learning rate 1e-05", "learning rate 0.1"]
    said = words(figure)
    assert said.index("place: retained") < said.index("place: lost")
    assert r"augment \$x^2\$" in said and "augment none" in said
    assert f"|ΔP| / |P| {lost.numbers['change']['value']:.2f}" in said
    after = lost.numbers["after"]["locality"]["value"]
    assert f"locality {kept.numbers['before']['locality']['value']:.2f} → {after:.2g}" in said
    assert "1 more run has no position embedding: unfinished" in said
    # The rule, once and whole.
    sentences = " ".join(said.split())
    assert sentences.count(" ".join(str(lost.numbers["rule"]).split()).replace("$", r"\$")) == 1


def test_nothing_overlaps_and_nothing_is_cut_off(tmp_path: Path, kept: PositionArchive) -> None:
    for number in range(3):
        write(tmp_path / str(number), kept, lr=10.0**-number, name=f"run {number}", data="a-folder/" * 20 + str(number))
    figure = positions.figure(read_runs(tmp_path))
    assert figure
    figure.draw_without_rendering()
    boxes = [box for axes in figure.axes if (box := axes.get_tightbbox())]
    boxes += [text.get_window_extent() for text in figure.texts]
    for index, one in enumerate(boxes):
        assert figure.bbox.x0 <= one.x0 and one.x1 <= figure.bbox.x1 and one.y1 <= figure.bbox.y1 and one.y0 >= 0
        assert not [other for other in boxes[:index] if one.overlaps(other)]


def test_many_runs_are_bounded(tmp_path: Path, kept: PositionArchive) -> None:
    for rate in (1, 2, 3):
        for number in range(3):
            write(tmp_path / f"{rate}-{number}", kept, value=number / 10, lr=rate, seed=number)
    runs = read_runs(tmp_path)
    # The best of each learning rate, then second bests as long as there is room.
    assert [run.name for run in positions.choose(runs, 5)] == ["1-2", "1-1", "2-2", "2-1", "3-2"]
    # More learning rates than rows: both ends, and evenly between.
    assert [run.name for run in positions.choose(runs, 2)] == ["1-2", "3-2"]
    figure = positions.figure(runs, 5)
    assert figure and len(panels(figure)) == 5
    assert "Shown: 5 of 9 runs" in words(figure)


def test_a_large_grid_shows_fewer_tiles(tmp_path: Path) -> None:
    write(tmp_path / "a", made_up_positions(grid=14), lr=1)
    figure = positions.figure(read_runs(tmp_path))
    assert figure and cells(panels(figure)[0][0]).shape == (7 * 15 - 1, 7 * 15 - 1)
    assert "One patch in 2 has a tile" in " ".join(words(figure).split())


def test_damaged_files_are_said(tmp_path: Path, kept: PositionArchive) -> None:
    write(tmp_path / "good", kept, lr=1)
    for name in ("cut", "pickle", "odd"):
        write(tmp_path / name, kept, lr=2)
    path = tmp_path / "cut" / positions.POSITIONS
    path.write_bytes(path.read_bytes()[:-100])
    np.savez(tmp_path / "pickle" / positions.POSITIONS, before=np.array([{}], dtype=object), allow_pickle=True)
    numbers = np.array(json.dumps(dict(kept.numbers)))
    np.savez(tmp_path / "odd" / positions.POSITIONS, before=np.ones((4, 2)), after=np.ones((4, 2)), numbers=numbers)
    figure = positions.figure(read_runs(tmp_path))
    assert figure and len(panels(figure)) == 1
    for name in ("cut", "pickle", "odd"):
        assert f"{name}: positions.npz is damaged" in words(figure)


@pytest.mark.figures
def test_a_sweep_leaves_the_figure_in_its_folder(tmp_path: Path, kept: PositionArchive) -> None:
    assert draw_positions(read_runs(tmp_path), tmp_path) is None
    write(tmp_path / "a", kept, lr=1)
    assert draw_positions(read_runs(tmp_path), tmp_path) == tmp_path / "positions.png"
    figure = positions.figure(read_runs(tmp_path))
    assert figure
    assert Image.open(tmp_path / "positions.png").size == tuple(figure.bbox.size.round().astype(int))


def test_no_embeddings_no_figure(tmp_path: Path) -> None:
    assert positions.figure([write(tmp_path / "a", None, lr=1)]) is None
    assert positions.figure([]) is None


def test_imports_neither_training_nor_torch() -> None:
    heavy = {"harness.training", "torch", "wandb", "matplotlib"}
    code = f"import sys, reports.stats.positions; print(*(set(sys.modules) & {heavy}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
