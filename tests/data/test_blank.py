from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.config import RunConfig
from harness.data.blank import blank_notes, is_blank
from harness.data.dataset import Dataset, open_dataset
from harness.model.vit import Preprocessing
from tests.helpers.folders import load_folder
from tests.helpers.messy_folders import coloured, write_splits


def opened(root: Path, tmp_path: Path) -> Dataset:
    preprocessing = Preprocessing(8, 8, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    config = RunConfig(data=str(root), cache_dir=str(tmp_path / "cache"))
    return open_dataset(load_folder(root), preprocessing, config)


@pytest.mark.parametrize(("step", "expected"), [(0, True), (16, True), (17, False)])
def test_blank_is_what_spans_less_than_17_steps_in_every_channel(step: int, expected: bool) -> None:
    pixels = np.full((8, 8, 3), 100, np.uint8)
    pixels[0, 0, 1] += step
    assert is_blank(Image.fromarray(pixels)) is expected


def test_a_run_names_blank_images_if_there_are_many(tmp_path: Path) -> None:
    root = write_splits(tmp_path / "data", "train", "valid", "test", count=20)
    assert blank_notes(opened(root, tmp_path)) == []
    for number in range(2):  # 2 of 40 training images are 5 %
        Image.new("RGB", (24, 24), (250, 250, 245 + number)).save(root / f"train/dog/{number:02d}.png")
    assert blank_notes(opened(root, tmp_path)) == [
        "2 of 40 training images that were looked at are nearly one colour, such as train/dog/00.png, "
        "train/dog/01.png: harness data check names all."
    ]
    coloured(900).save(root / "train/dog/00.png")
    assert blank_notes(opened(root, tmp_path)) == []


def test_no_more_images_than_the_sample_are_examined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_splits(tmp_path / "data", "train", "valid", "test", count=20)
    Image.new("RGB", (24, 24)).save(root / "train/cat/00.png")
    monkeypatch.setattr("harness.data.blank.SAMPLE", 10)
    (note,) = blank_notes(opened(root, tmp_path))
    assert note.startswith("1 of 10 training images")
