"""Small images in sheets: each where the layout says, and nothing left of an earlier look."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.explain.drawing import sprites
from harness.runs.attention_files import Archive
from harness.runs.rules import SPRITES_FILE
from tests.helpers.explained import made_up_archive
from tests.helpers.explained_runs import colours


def draw(archive: Archive, folder: Path, images: np.ndarray | None = None) -> dict[str, object]:
    images = colours(len(archive)) if images is None else images
    sheets = sprites.draw_sprites(archive, lambda index: images[index], folder)
    about = json.loads((folder / SPRITES_FILE).read_text())
    assert [path.name for path in sheets] == about["sheets"]
    assert sorted(path.name for path in folder.iterdir()) == [*about["sheets"], SPRITES_FILE]
    return about


def cell(folder: Path, about: dict, number: int) -> np.ndarray:
    """Pixels (side, side, 3) of the image `number`, by nothing but what is written in the folder."""
    place, within = divmod(number, about["columns"] * about["rows"])
    row, column = divmod(within, about["columns"])
    side = about["side"]
    with Image.open(folder / about["sheets"][place]) as file:
        pixels = np.asarray(file)
    return pixels[row * side : (row + 1) * side, column * side : (column + 1) * side]


def test_every_image_is_in_its_cell(tmp_path: Path) -> None:
    archive = made_up_archive(n=63)
    images = colours(len(archive))
    about = draw(archive, tmp_path)
    assert about["pictures"] == list(range(63)) and about["sheets"] == ["000.jpg", "001.jpg"]
    sizes = []
    for name in ("000.jpg", "001.jpg"):
        with Image.open(tmp_path / name) as file:
            sizes.append(file.size)
    assert sizes == [(1600, 800), (1600, 320)]  # the second has 13 images in two rows
    for number in (0, 9, 10, 49, 50, 62):
        found = cell(tmp_path, about, number).astype(int)
        inside = found[8:-8, 8:-8]  # decoders smooth colours across blocks, the outermost pixels of a cell included
        assert np.abs(inside - images[number, 0, 0]).max() <= 6
        assert np.abs(found - images[number, 0, 0]).mean() <= 3


def test_whole_images_are_scaled_down(tmp_path: Path) -> None:
    archive = made_up_archive(n=1)
    image = np.zeros((1, 224, 224, 3), np.uint8)
    image[0, :112, 112:] = 255  # the upper right quarter
    found = cell(tmp_path, draw(archive, tmp_path, image), 0).mean(-1)
    assert found[:76, 84:].min() > 240 and found[84:].max() < 15 and found[:, :76].max() < 15


def test_same_pixels_have_the_same_name(tmp_path: Path) -> None:
    archive = made_up_archive(n=12)
    images = colours(len(archive))
    changed = images.copy()
    changed[7, 0, 0, 0] ^= 1
    keys = [draw(archive, tmp_path / str(i), each)["pixels"] for i, each in enumerate((images, images, changed))]
    assert keys[0] == keys[1] != keys[2]


def test_of_very_many_images_an_even_sample_has_sprites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sprites, "MOST", 5)
    archive = made_up_archive(n=20)
    about = draw(archive, tmp_path)
    assert about["pictures"] == [0, 4, 8, 12, 16]
    expected = colours(len(archive))[12, 0, 0]
    assert np.abs(cell(tmp_path, about, 3)[8:-8, 8:-8].astype(int) - expected).max() <= 6


def test_without_a_description_there_are_no_sprites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is cut short leaves no description of sheets that are not there."""
    draw(made_up_archive(n=12), tmp_path)
    monkeypatch.setattr(sprites, "save", lambda *_, **__: (_ for _ in ()).throw(OSError("no more")))
    with pytest.raises(OSError, match="no more"):
        sprites.draw_sprites(made_up_archive(n=3), lambda index: np.zeros((8, 8, 3), np.uint8), tmp_path)
    assert not (tmp_path / SPRITES_FILE).exists()
