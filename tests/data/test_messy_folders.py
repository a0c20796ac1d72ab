"""Data folders as people have them: each is read right, or refused with a sentence that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.data.image_folder import ImageFolder, load_image_folder
from harness.errors import DataError
from tests.helpers.messy_folders import write_splits


def refused(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_image_folder(root)
    return str(caught.value)


def images(folder: ImageFolder) -> int:
    return sum(len(split.files) for split in folder.splits)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("Test", "test"),
        ("TEST", "test"),
        ("testing", "test"),
        ("tests", "test"),
        ("test_images", "test"),
        ("Valid", "valid"),
        ("validate", "valid"),
        ("val_images", "valid"),
        ("vaild", "valid"),
        ("dev", "valid"),
    ],
)
def test_a_misspelt_split_is_named_and_no_other_is_cut(tmp_path: Path, name: str, split: str) -> None:
    present = {"test", "valid"} - {split}
    write_splits(tmp_path, "train", *present, name)
    assert refused(tmp_path) == (
        f"{name}/ looks like the {split} split: rename it to {split}/. "
        "If it is something else, move it out of the data folder."
    )


def test_two_misspelt_splits_are_named_together(tmp_path: Path) -> None:
    write_splits(tmp_path, "train", "Valid", "Test")
    assert [line.split(":")[0] for line in refused(tmp_path).splitlines()] == [
        "Test/ looks like the test split",
        "Valid/ looks like the valid split",
    ]


@pytest.mark.parametrize("name", ["old", "test_masks", "testimony"])
def test_other_folders_beside_the_splits_are_named_and_stop_nobody(tmp_path: Path, name: str) -> None:
    write_splits(tmp_path, "train", "valid", name)
    assert f"left out: 1 folder(s) beside train, valid and test ({name})" in load_image_folder(tmp_path).notes


def test_a_folder_like_a_split_without_images_stops_nobody(tmp_path: Path) -> None:
    write_splits(tmp_path, "train", "valid")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_data.py").write_text("pass")
    assert len(load_image_folder(tmp_path).test.files) > 0


def test_a_second_folder_like_a_split_that_is_present_is_named(tmp_path: Path) -> None:
    write_splits(tmp_path, "train", "valid", "test", "test_old")
    assert load_image_folder(tmp_path).notes == ("left out: 1 folder(s) beside train, valid and test (test_old)",)


def test_masks_beside_the_splits_are_not_called_left_out(tmp_path: Path) -> None:
    write_splits(tmp_path, "train", "valid", "test", "masks/test")
    assert load_image_folder(tmp_path).notes == ()
