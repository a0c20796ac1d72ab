"""Attention of a run folder as a report reads it, from what the harness writes; and what is damaged."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.runs import attention_files
from harness.runs.attention_files import Archive, read_archive, read_attention, read_statistics
from harness.runs.attention_maps import read_maps
from harness.runs.reading import UnreadableError
from harness.runs.sprite_files import read_sprites
from tests.helpers.explained import made_up_archive
from tests.helpers.explained_runs import damaged, write_explained_run


def test_what_the_harness_writes_is_read(tmp_path: Path) -> None:
    seen = made_up_archive(outlier_attention=np.array([0, 0.5, 0.5, 0, 0, 0.09], np.float32))
    seen.outlier_share[2] = 0.4
    found = read_attention(write_explained_run(tmp_path / "a", seen))
    assert (found.files, found.classes) == (tuple(seen.files.tolist()), ("ant", "bee", "cat"))
    assert found.labels.tolist() == seen.labels.tolist() and found.predicted.tolist() == seen.predicted.tolist()
    np.testing.assert_allclose(found.probability, seen.probability)
    np.testing.assert_allclose(found.label_probability, seen.label_probability)
    assert found.misleading.tolist() == seen.misleading.tolist() == [False, True, False, False, False, False]
    assert found.settings["patch_size"] == 4
    statistics = read_statistics(tmp_path / "a")
    np.testing.assert_array_equal(statistics.values, seen.statistics)
    assert statistics.names == tuple(seen.statistic_names.tolist())


def test_maps_in_their_order(tmp_path: Path) -> None:
    seen = made_up_archive(layers=3, heads=2)
    assert seen.legrad is not None
    for maps in (seen.relevance, seen.legrad):  # images differ in their scale
        maps[4] *= 1000
        maps[5] = 0
    found = read_maps(read_attention(write_explained_run(tmp_path / "a", seen)))
    assert (found.values.shape, found.layers, found.heads, found.side) == ((6, 4 + 3 + 2, 49), 3, 2, 7)
    assert found.combined == ("relevance", "LeGrad", "mean over layers", "rollout")
    for place, maps in ((0, seen.relevance), (1, seen.legrad)):
        np.testing.assert_allclose(found.values[:5, place], maps[:5] / maps[:5].sum(1, keepdims=True), rtol=1e-5)
        assert not found.values[5, place].any()
    np.testing.assert_allclose(found.values[:, 2], seen.layers.astype(np.float32).mean(1), rtol=1e-6)
    np.testing.assert_array_equal(found.values[:, 3], seen.rollout.astype(np.float32))
    np.testing.assert_array_equal(found.values[:, 4:7], seen.layers.astype(np.float32))
    np.testing.assert_array_equal(found.values[:, 7:], seen.heads.astype(np.float32))
    np.testing.assert_array_equal(found.largest, found.values.max(-1))


def test_a_file_of_an_earlier_version_has_no_legrad(tmp_path: Path) -> None:
    seen = made_up_archive(legrad=None)
    found = read_maps(read_attention(write_explained_run(tmp_path / "a", seen)))
    assert found.combined == ("relevance", "mean over layers", "rollout")
    assert found.values.shape == (6, 3 + 3 + 2, 49)
    np.testing.assert_allclose(found.values[:, 0], seen.relevance / seen.relevance.sum(1, keepdims=True), rtol=1e-5)
    assert read_archive(tmp_path / "a" / "attention" / "attention.npz", Archive).legrad is None


def test_values_that_are_not_finite_stay_so(tmp_path: Path) -> None:
    seen = made_up_archive()
    seen.rollout[0, 3], seen.relevance[1, 0], seen.heads[2, 1] = np.nan, np.inf, np.nan
    found = read_maps(read_attention(write_explained_run(tmp_path / "a", seen)))
    assert np.isnan(found.values[0, 3, 3]) and found.largest[0, 3] == np.nanmax(seen.rollout[0].astype(np.float32))
    assert np.flatnonzero(~np.isfinite(found.values[1, 0])).tolist() == [0]
    np.testing.assert_allclose(found.values[1, 0, 1:].sum(), 1, rtol=1e-5)  # shares of what is finite
    assert found.largest[2, 8] == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": np.zeros(5, np.int32)}, "labels is"),
        ({"predicted": np.full(6, 3, np.int32)}, "classes or images do not fit together"),
        ({"labels": np.full(6, 7, np.int32)}, "classes or images do not fit together"),
        ({"predicted": np.full(6, -1, np.int32)}, "classes or images do not fit together"),
        ({"files": np.array(["same.png"] * 6)}, "classes or images do not fit together"),
        ({"probability": np.array(["high"] * 6)}, "is damaged"),
        ({"settings": np.array("[1]")}, "settings is a list instead of an object"),
        ({"settings": np.array('{"version": 99}')}, "of another version"),
        ({"settings": np.array("{")}, "is damaged"),
        ({"classes": None}, "is damaged"),
        ({"files": np.array([{}] * 6, dtype=object)}, "is damaged"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    rewrite(write_explained_run(tmp_path / "a"), change)
    with pytest.raises(UnreadableError, match=said):
        read_attention(tmp_path / "a")


@pytest.mark.parametrize(
    "change",
    [
        {"layers": np.zeros((6, 3, 48), np.float16)},
        {"heads": np.zeros((5, 2, 49), np.float16)},
        {"heads": np.zeros((6, 0, 49), np.float16)},
        {"relevance": np.zeros((6, 7, 7), np.float32)},
        {name: np.zeros((6, 48), np.float32) for name in ("rollout", "relevance")}
        | {name: np.zeros((6, 2, 48), np.float16) for name in ("layers", "heads")},
        {"rollout": np.full((6, 49), "x")},
    ],
)
def test_maps_that_do_not_fit_are_said(tmp_path: Path, change: dict[str, Any]) -> None:
    rewrite(write_explained_run(tmp_path / "a"), change)
    with pytest.raises(UnreadableError, match="is damaged"):
        read_maps(read_attention(tmp_path / "a"))


def test_damaged_bytes_are_never_more_than_unusable(tmp_path: Path) -> None:
    path = write_explained_run(tmp_path / "a") / "attention" / "attention.npz"
    whole, unusable = path.read_bytes(), 0
    for seed in range(150):
        path.write_bytes(damaged(whole, seed))
        for reader in (lambda folder: read_maps(read_attention(folder)), read_statistics):
            try:
                reader(tmp_path / "a")
            except UnreadableError:
                unusable += 1
    assert unusable > 75


def test_missing_files_and_pipes(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match=r"attention\.npz is missing\. Run `harness explain`"):
        read_attention(tmp_path)
    (tmp_path / "attention").mkdir()
    os.mkfifo(tmp_path / "attention" / "attention.npz")
    with pytest.raises(UnreadableError, match="is not a file"):
        read_attention(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 2}, "another version"),
        ({"sheets": ["../../secret.jpg"]}, "does not fit"),
        ({"sheets": ["..\\secret.jpg"]}, "does not fit"),
        ({"sheets": [1]}, "does not fit"),
        ({"sheets": ["gone.jpg"]}, "sprites/gone.jpg is missing"),
        ({"pictures": [0, 1, 2, 3, 4, 6]}, "does not fit"),
        ({"pictures": [0, 0]}, "does not fit"),
        ({"pictures": [True]}, "does not fit"),
        ({"columns": 0}, "does not fit"),
        ({"columns": 1, "rows": 2}, "does not fit"),
        ({"side": "wide"}, "is damaged"),
        ({"sheets": None}, "is damaged"),
    ],
)
def test_sprites_that_do_not_fit_are_said(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = write_explained_run(tmp_path / "a") / "attention" / "sprites" / "sprites.json"
    about = json.loads(path.read_text())
    found = read_sprites(tmp_path / "a", 6)
    assert (found.sheets, found.images) == (("000.jpg",), (0, 1, 2, 3, 4, 5))
    path.write_text(json.dumps(about | change))
    with pytest.raises(UnreadableError, match=said):
        read_sprites(tmp_path / "a", 6)


def rewrite(folder: Path, change: dict[str, Any]) -> None:
    """Other arrays in attention.npz; None leaves one out."""
    seen = made_up_archive()
    arrays = {field.name: getattr(seen, field.name) for field in dataclasses.fields(seen)}
    arrays = arrays | {"settings": np.array(json.dumps(seen.settings))} | change
    kept: Any = {name: value for name, value in arrays.items() if value is not None}
    np.savez(folder / "attention" / "attention.npz", **kept)


def test_what_is_replaced_while_it_is_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_explained_run(tmp_path / "a") / "attention" / "attention.npz"
    then = read_attention(tmp_path / "a").stamp
    arrays = attention_files.read_arrays

    def replaced(*words: Any) -> dict[str, np.ndarray]:
        found = arrays(*words)
        os.utime(path, ns=(1, 1))
        return found

    monkeypatch.setattr(attention_files, "read_arrays", replaced)
    assert read_attention(tmp_path / "a").stamp == then
    assert read_attention(tmp_path / "a").stamp != then
