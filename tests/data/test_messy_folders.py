"""Data folders as people have them: each is read right, or refused with a sentence that says what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.data.image_folder import ImageFolder, load_image_folder
from harness.errors import DataError
from tests.helpers.messy_folders import write_image, write_splits


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


def test_by_products_of_programs_are_left_out_and_named(tmp_path: Path) -> None:
    write_splits(tmp_path, "train", "valid", "test")
    for number in range(4):
        write_image(tmp_path / "train/cat/@eaDir" / f"{number:02d}.png" / "SYNOPHOTO_THUMB_M.jpg", 100 + number)
    write_image(tmp_path / "train/__MACOSX/cat/a.png", 200)
    write_image(tmp_path / "train/.ipynb_checkpoints/a.png", 201)
    for name in ("._00.png", "Thumbs.db", "desktop.ini"):
        (tmp_path / "train" / "dog" / name).write_bytes(b"x")
    folder = load_image_folder(tmp_path)
    assert folder.classes == ("cat", "dog") and images(folder) == 24
    assert folder.notes == ("left out: 6 by-products (.ipynb_checkpoints, __MACOSX, @eaDir, ._00.png)",)


@pytest.mark.parametrize("name", ["masks", "cropped", "more"])
def test_nested_images_with_the_names_of_those_above_are_refused(tmp_path: Path, name: str) -> None:
    write_splits(tmp_path, "train", "valid", "test")
    write_image(tmp_path / "train/cat" / name / "00.jpg", 100)
    assert refused(tmp_path) == (
        f"train/cat/{name}/ holds images (1) with the names of others of the class (train/cat/{name}/00.jpg, "
        "train/cat/00.png): they would be trained on as separate images. Move the folder out of the data folder "
        "or remove it; rename its images if they are different ones."
    )


def test_masks_beside_a_folder_of_images_are_refused(tmp_path: Path) -> None:
    write_splits(tmp_path, "train", "valid", "test")
    for folder in ("images", "masks"):
        write_image(tmp_path / "test/cat" / folder / "x.png", len(folder))
    assert refused(tmp_path).startswith("test/cat/masks/ holds images (1) with the names of others of the class")


def test_nested_folders_of_other_images_are_counted_in_a_note(tmp_path: Path) -> None:
    write_splits(tmp_path, "train", "valid", "test")
    for year in ("2020", "2021"):
        write_image(tmp_path / "train/cat" / year / "a.png", int(year))
    folder = load_image_folder(tmp_path)
    assert images(folder) == 26
    assert folder.notes == (
        "images in folders below a class are read as that class: train/cat/2020 (1), train/cat/2021 (1)",
    )


@pytest.mark.parametrize("target", ["..", "../dog", "../../valid", "../../.."])
def test_a_link_to_other_classes_is_refused(tmp_path: Path, target: str) -> None:
    root = write_splits(tmp_path / "data", "train", "valid", "test")
    (root / "train/cat/up").symlink_to(target, target_is_directory=True)
    place = (root / "train/cat" / target).resolve()
    assert f"train/cat/up links to {place}, which holds images of other classes: remove the link." in refused(root)


def test_links_to_images_outside_of_the_splits_are_followed(tmp_path: Path) -> None:
    root = write_splits(tmp_path / "data", "train", "valid", "test")
    for place, name in ((tmp_path / "elsewhere", "far"), (root / "store", "near")):
        write_image(place / f"{name}.png", len(name) + 300)
        (root / "train/cat" / name).symlink_to(place, target_is_directory=True)
    assert images(load_image_folder(root)) == 26


def test_a_hidden_class_with_images_is_refused(tmp_path: Path) -> None:
    write_splits(tmp_path, "train", "valid", "test", classes=(".NET", "java", "rust"))
    assert refused(tmp_path).splitlines()[0] == (
        "train/.NET/ holds images (4), but a class folder whose name begins with a dot is not read: rename it, "
        "or move it out of the data folder."
    )
    assert len(refused(tmp_path).splitlines()) == 3


def test_a_named_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    write_splits(tmp_path, "train", "valid", "test")
    os.mkfifo(tmp_path / "train/cat/fifo.jpg")
    assert refused(tmp_path) == "train/cat/fifo.jpg: a named pipe or device, not a file. Remove it."


def test_files_that_are_not_read_are_named_by_kind(tmp_path: Path) -> None:
    write_splits(tmp_path, "train", "valid", "test")
    for seed, name in enumerate(("a.jfif", "b.jpe", "c.JPG")):
        write_image(tmp_path / "train/cat" / name, 100 + seed)
    for name in ("a.heic", "b.heic", "notes"):
        (tmp_path / "train/cat" / name).write_bytes(b"other")
    for seed, name in enumerate(("x", "y.jpg~")):
        write_image(tmp_path / "train/dog" / name, 200 + seed)
    folder = load_image_folder(tmp_path)
    assert images(folder) == 27
    assert folder.notes == (
        "5 files are not read: 2 .heic (a.heic, b.heic), 2 without extension (notes, x), 1 .jpg~ (y.jpg~)",
        "files without the extension of an image hold images: train/dog/x, train/dog/y.jpg~. "
        "Rename them to have them read, for example to x.png",
    )
    assert folder.ignored == {"not images": 5}
