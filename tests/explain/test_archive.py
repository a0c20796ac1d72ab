from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import HarnessError
from harness.explain.archive import write_archive
from harness.runs.attention_files import Archive, PositionArchive, read_archive


def some_archive(**changes: Any) -> Archive:
    n, layers, heads, patches = 4, 3, 2, 16
    random = np.random.default_rng(0)
    values: dict[str, Any] = {
        "files": np.array([f"tést/{index}.png" for index in range(n)]),
        "labels": np.array([0, 1, -1, 1], dtype=np.int32),
        "predicted": np.array([0, 0, 1, 1], dtype=np.int32),
        "probability": random.random(n, dtype=np.float32),
        "label_probability": np.array([0.9, 0.1, np.nan, 0.5], dtype=np.float32),
        "classes": np.array(["a", "b"]),
        "layers": random.random((n, layers, patches)).astype(np.float16),
        "heads": random.random((n, heads, patches)).astype(np.float16),
        "class_share": random.random((n, layers), dtype=np.float32),
        "rollout": random.random((n, patches)).astype(np.float16),
        "relevance": random.random((n, patches), dtype=np.float32),
        "legrad": random.random((n, patches), dtype=np.float32),
        "entropy": random.random((n, layers), dtype=np.float32),
        "distance": random.random((n, layers), dtype=np.float32),
        "statistics": random.random((layers, heads, 2)),
        "statistic_names": np.array(["distance", "entropy"]),
        "outlier_share": np.array([0.0, 0.02, 0.05, 0.4], dtype=np.float32),
        "outlier_attention": np.array([0.0, 0.45, 0.6, 0.6], dtype=np.float32),
        "settings": {"model": "vit", "grid": [4, 4], "self_test": {"passed": True}, "root": None},
    }
    return Archive(**values | changes)


def some_positions(**changes: Any) -> PositionArchive:
    random = np.random.default_rng(0)
    values: dict[str, Any] = {
        "before": random.random((10, 6), dtype=np.float32),
        "after": random.random((10, 6), dtype=np.float32),
        "class_token_before": random.random(6, dtype=np.float32),
        "class_token_after": random.random(6, dtype=np.float32),
        "numbers": {
            "verdict": "altered",
            "rule": "A rule.",
            "strength": 1.0,
            "change": {"value": 0.5, "low": 1.0, "high": 1.5},
            **{when: {name: {"value": 0.5} for name in ("locality", "decoding")} for when in ("before", "after")},
        },
    }
    return PositionArchive(**values | changes)


@pytest.mark.parametrize(
    "archive",
    [some_archive(), some_archive(legrad=None), some_positions()],
    ids=["attention", "attention of an earlier version", "positions"],
)
def test_what_is_read_is_what_was_written(archive: Archive | PositionArchive, tmp_path: Path) -> None:
    write_archive(tmp_path / "deep" / "arrays.npz", archive)
    again = read_archive(tmp_path / "deep" / "arrays.npz", type(archive))
    for field in dataclasses.fields(archive):
        written, found = getattr(archive, field.name), getattr(again, field.name)
        if written is None or isinstance(written, dict):
            assert found == written
        else:
            assert found.dtype == written.dtype
            np.testing.assert_array_equal(found, written)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["arrays.npz"]


def test_outliers_mislead_where_they_take_more_than_their_share() -> None:
    # Little attention; far above their share; not twice their share.
    assert some_archive().misleading.tolist() == [False, False, True, False]


@pytest.mark.parametrize(
    "name", ["files", "labels", "heads", "rollout", "legrad", "entropy", "statistics", "outlier_share"]
)
def test_arrays_that_do_not_belong_together_are_refused(name: str) -> None:
    short = getattr(some_archive(), name)[1:]
    with pytest.raises(ValueError, match=f"{name} is "):
        some_archive(**{name: short})


def test_positions_need_a_square_grid_of_one_size() -> None:
    with pytest.raises(ValueError, match="after is"):
        some_positions(after=np.zeros((10, 5), np.float32))
    with pytest.raises(ValueError, match="7 patches do not form a square grid"):
        some_positions(before=np.zeros((8, 6), np.float32), after=np.zeros((8, 6), np.float32))


def test_files_that_are_no_archive_are_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "arrays.npz"
    with pytest.raises(HarnessError, match=r"is missing\. Run `harness explain` without --redraw to make it"):
        read_archive(path, Archive)
    path.write_bytes(b"no archive")
    with pytest.raises(HarnessError, match="is damaged"):
        read_archive(path, Archive)
    write_archive(path, some_positions())
    with pytest.raises(HarnessError, match="is damaged"):
        read_archive(path, Archive)
    write_archive(path, some_archive())
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(HarnessError, match="is damaged"):
        read_archive(path, Archive)


def test_damage_in_the_middle_of_a_file_is_named(tmp_path: Path) -> None:
    write_archive(tmp_path / "some.npz", some_archive())
    whole = (tmp_path / "some.npz").read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        damaged = bytearray(whole)
        start = int(random.integers(len(whole) - 40))
        damaged[start : start + 40] = random.bytes(40)
        (tmp_path / "some.npz").write_bytes(damaged)
        try:
            read_archive(tmp_path / "some.npz", Archive)
        except HarnessError:
            refused += 1
    assert refused > 30


def test_no_code_in_a_file_is_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "exploded",))

    archive = some_positions()
    arrays = {field.name: getattr(archive, field.name) for field in dataclasses.fields(archive)}
    arrays["numbers"] = np.array(json.dumps(archive.numbers))
    np.savez(tmp_path / "hostile.npz", **arrays | {"before": np.array([Bomb()], dtype=object)})
    with pytest.raises(HarnessError, match="is damaged"):
        read_archive(tmp_path / "hostile.npz", PositionArchive)
    assert not (tmp_path / "exploded").exists()
