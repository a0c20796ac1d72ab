"""What a run is told about the order of its images before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config import RunConfig
from harness.data import order_notes
from harness.data.check import report
from harness.errors import ConfigError
from harness.training.preflight import check_inputs
from tests.helpers.folders import folder_config

BYTES = (21 + 9) * 3 * 36 * 36  # train and valid; the short side of images that are cropped to 32


def notes(data_folder: Path, tmp_path: Path, **changes: object) -> tuple[str, ...]:
    settings = {"model": "vit_demo", "weights": "none", "cache_dir": str(tmp_path), "runs_dir": str(tmp_path)}
    config = RunConfig(data=str(data_folder), image_size=32, **{**settings, **changes})  # type: ignore[arg-type]
    return check_inputs(config, tmp_path / "run", [])[0].notes


def test_images_that_do_not_fit_into_memory_are_reported_before_the_run(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert notes(data_folder, tmp_path) == ()
    monkeypatch.setattr(order_notes, "total_memory", lambda: 150_000)
    assert notes(data_folder, tmp_path) == (
        "The decoded images take 117 kB or more and this machine, or this job, has 150 kB of memory, so each epoch "
        "reads them from disk: --shuffle blocks in sequence, --shuffle full one by one.",
    )
    [check] = [note for note in report(folder_config(data_folder, cache_dir=tmp_path)).notes if "--shuffle" in note]
    assert check.startswith("The decoded images take ")


@pytest.mark.parametrize(("memory", "count"), [(None, 0), (BYTES * 4 // 3 + 1, 0), (BYTES * 4 // 3 - 2, 1)])
def test_three_quarters_of_the_memory_are_for_images(
    monkeypatch: pytest.MonkeyPatch, memory: int | None, count: int
) -> None:
    monkeypatch.setattr(order_notes, "total_memory", lambda: memory)
    assert len(order_notes.memory_notes(BYTES)) == count


def test_the_order_in_blocks_and_its_sizes_are_said_whatever_the_memory(data_folder: Path, tmp_path: Path) -> None:
    assert notes(data_folder, tmp_path, shuffle="blocks") == (
        "--shuffle blocks: training images are read in blocks of 256, and 8 blocks in random order are shuffled at a "
        "time.",
    )


def test_the_order_is_part_of_what_a_run_computes_and_excludes_the_balanced_sampler() -> None:
    full, blocks = (RunConfig(data="images", shuffle=shuffle) for shuffle in ("full", "blocks"))
    assert full.differences(blocks) == ["shuffle"]
    with pytest.raises(ConfigError, match="--sampler balanced takes images from all over the cache") as error:
        RunConfig(data="images", shuffle="blocks", sampler="balanced", class_weights="balanced")
    assert len(error.value.problems) == 2
