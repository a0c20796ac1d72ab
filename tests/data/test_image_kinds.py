"""Every kind of image file is decoded to the image in it, or refused with its reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.config import RunConfig
from harness.data.dataset import open_dataset
from harness.data.decode import DecodeError
from harness.data.resize import Resize, decode_resized, resized
from harness.errors import UndecodableError
from harness.model.vit import Preprocessing
from tests.helpers.folders import load_folder
from tests.helpers.image_kinds import ImageKind, image_kinds
from tests.helpers.messy_folders import write_splits

SHORT_SIDE = Resize(64)  # that of the scene: its pixels are compared as they are


def outcome(kind: ImageKind) -> str:
    """What is wrong with how a file is read, "" if nothing is."""
    try:
        pixels = np.asarray(decode_resized(kind.content, SHORT_SIDE)).astype(int)
    except DecodeError as error:
        if isinstance(kind.expected, str) and error.reason.startswith(kind.expected):
            return ""
        return f"{kind.name}: refused ({error.reason})"
    if isinstance(kind.expected, str):
        return f"{kind.name}: read, and not refused ({kind.expected})"
    expected = np.asarray(resized(Image.fromarray(kind.expected), SHORT_SIDE))
    if pixels.shape != expected.shape:
        return f"{kind.name}: {pixels.shape} instead of {expected.shape}"
    difference = np.abs(pixels - expected).mean()
    return f"{kind.name}: differs by {difference:.2f} on average" if difference > kind.tolerance else ""


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_every_kind_of_file_is_read_right_or_refused() -> None:
    kinds = list(image_kinds())
    assert len({kind.name for kind in kinds}) == len(kinds) == 98
    assert sum(isinstance(kind.expected, str) for kind in kinds) == 25
    assert [problem for kind in kinds if (problem := outcome(kind))] == []


def test_a_run_names_a_strip_before_it_asks_for_memory(tmp_path: Path) -> None:
    root = write_splits(tmp_path / "data", "train", "valid", "test")
    Image.new("L", (4_000_000, 1)).save(root / "train/cat/strip.png")
    preprocessing = Preprocessing(256, 224, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    config = RunConfig(data=str(root), cache_dir=str(tmp_path / "cache"))
    with pytest.raises(UndecodableError) as caught:
        open_dataset(load_folder(root), preprocessing, config)
    assert str(caught.value).splitlines()[1:] == [
        "  train/cat/strip.png: 4000000x1 pixels: the long side is more than 1000 times the short one"
    ]


def test_a_split_without_a_readable_image_is_named_and_not_a_folder_that_is_not_there(tmp_path: Path) -> None:
    root = write_splits(tmp_path / "data", "train", "test")
    config = RunConfig(data=str(root), cache_dir=str(tmp_path / "cache"), bad_images="skip")
    for file in load_folder(root).val.files:  # cut from train
        (root / file).write_text(f"not an image: {file}")
    with pytest.raises(UndecodableError) as caught:
        open_dataset(load_folder(root), Preprocessing(32, 32, "bilinear", (0.5,) * 3, (0.5,) * 3), config)
    assert str(caught.value) == f"No readable validation image is left in {root}; add some, or remove the split."
