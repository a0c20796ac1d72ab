"""Data folders as people have them: each is read right, or refused with a sentence that says what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.data import nested
from harness.data.image_folder import ImageFolder
from tests.helpers.folders import load_folder, problems_of
from tests.helpers.messy_folders import write_image, write_splits


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
    assert problems_of(tmp_path) == (
        f"{name}/ looks like the {split} split: rename it to {split}/. "
        "If it is something else, move it out of the data folder."
    )


def test_two_misspelt_splits_are_named_together(tmp_path: Path) -> None:
    write_splits(tmp_path, "train", "Valid", "Test")
    assert [line.split(":")[0] for line in problems_of(tmp_path).splitlines()] == [
        "Test/ looks like the test split",
        "Valid/ looks like the valid split",
    ]


@pytest.mark.parametrize("name", ["old", "test_masks", "testimony"])
def test_other_folders_beside_the_splits_are_named_and_stop_no_run(tmp_path: Path, name: str) -> None:
    write_splits(tmp_path, "train", "valid", name)
    assert f"left out: 1 folder(s) beside train, valid and test ({name})" in load_folder(tmp_path).notes


def test_images_beside_the_splits_are_named_and_stop_no_run(tmp_path: Path) -> None:
    write_splits(tmp_path, "train", "valid", "test")
    write_image(tmp_path / "forgotten.PNG", 1)
    (tmp_path / "notes.txt").write_text("mine")
    assert load_folder(tmp_path).notes == ("left out: 1 image(s) beside train, valid and test (forgotten.PNG)",)


def test_folders_that_may_not_be_entered_are_not_searched_for_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir()
    stat = os.stat

    def refused(path: os.PathLike[str], **options: bool) -> os.stat_result:
        if os.fspath(path).endswith("closed/train"):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", refused)
    assert "has no train/ folder. Expected" in problems_of(tmp_path)


def test_a_folder_named_like_a_split_without_images_stops_no_run(tmp_path: Path) -> None:
    write_splits(tmp_path, "train", "valid")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_data.py").write_text("pass")
    assert len(load_folder(tmp_path).test.files) > 0


def test_a_second_folder_like_a_split_that_is_present_is_named(tmp_path: Path) -> None:
    write_splits(tmp_path, "train", "valid", "test", "test_old")
    assert load_folder(tmp_path).notes == ("left out: 1 folder(s) beside train, valid and test (test_old)",)


def test_masks_beside_the_splits_are_not_called_left_out(tmp_path: Path) -> None:
    write_splits(tmp_path, "train", "valid", "test", "masks/test")
    assert load_folder(tmp_path).notes == ()


def test_by_products_of_programs_are_left_out_and_named(tmp_path: Path) -> None:
    write_splits(tmp_path, "train", "valid", "test")
    for number in range(4):
        write_image(tmp_path / "train/cat/@eaDir" / f"{number:02d}.png" / "SYNOPHOTO_THUMB_M.jpg", 100 + number)
    write_image(tmp_path / "train/__MACOSX/cat/a.png", 200)
    write_image(tmp_path / "train/.ipynb_checkpoints/a.png", 201)
    for name in ("._00.png", "Thumbs.db", "desktop.ini"):
        (tmp_path / "train" / "dog" / name).write_bytes(b"x")
    folder = load_folder(tmp_path)
    assert folder.classes == ("cat", "dog") and images(folder) == 24
    assert folder.notes == ("left out: 6 by-products (.ipynb_checkpoints, __MACOSX, @eaDir, ._00.png)",)


@pytest.mark.parametrize("name", ["masks", "cropped", "more"])
def test_nested_images_with_the_names_of_those_above_are_refused(tmp_path: Path, name: str) -> None:
    write_splits(tmp_path, "train", "valid", "test")
    write_image(tmp_path / "train/cat" / name / "00.jpg", 100)
    assert problems_of(tmp_path) == (
        f"train/cat/{name}/ holds images (1) with the names of others of the class (train/cat/{name}/00.jpg, "
        "train/cat/00.png): they would be trained on as separate images. Move the folder out of the data folder "
        "or remove it; rename its images if they are different ones."
    )


def test_masks_beside_a_folder_of_images_are_refused(tmp_path: Path) -> None:
    write_splits(tmp_path, "train", "valid", "test")
    for folder in ("images", "masks"):
        write_image(tmp_path / "test/cat" / folder / "x.png", len(folder))
    assert problems_of(tmp_path).startswith("test/cat/masks/ holds images (1) with the names of others of the class")


def test_nested_folders_of_other_images_are_counted_in_a_note(tmp_path: Path) -> None:
    write_splits(tmp_path, "train", "valid", "test")
    for year in ("2020", "2021"):
        write_image(tmp_path / "train/cat" / year / "a.png", int(year))
    folder = load_folder(tmp_path)
    assert images(folder) == 26
    assert folder.notes == (
        "images in folders below a class are read as that class: train/cat/2020 (1), train/cat/2021 (1)",
    )


@pytest.mark.parametrize("target", ["..", "../dog", "../../valid", "../../.."])
def test_a_link_to_other_classes_is_refused(tmp_path: Path, target: str) -> None:
    root = write_splits(tmp_path / "data", "train", "valid", "test")
    (root / "train/cat/up").symlink_to(target, target_is_directory=True)
    place = (root / "train/cat" / target).resolve()
    assert f"train/cat/up links to {place}, which holds images of other classes: remove the link." in problems_of(root)


@pytest.mark.parametrize(
    ("link", "target"), [("train/fox", "cat"), ("train/fox", "../valid"), ("test/dog", "../train/dog")]
)
def test_a_class_that_is_a_link_to_another_class_is_refused(tmp_path: Path, link: str, target: str) -> None:
    root = write_splits(tmp_path / "data", "train", "valid", "test")
    if (root / link).is_dir():
        shutil.rmtree(root / link)
    (root / link).symlink_to(target, target_is_directory=True)
    place = (root / link).resolve()
    assert f"{link} links to {place}, which is read as another class: remove the link." in problems_of(root)


def test_linked_images_of_other_classes_are_refused_together(tmp_path: Path) -> None:
    root = write_splits(tmp_path / "data", "train", "valid", "test")
    (root / "train/cat/a.png").symlink_to("../dog/00.png")
    (root / "train/cat/b.png").symlink_to(root / "train/dog/01.png")
    (root / "train/cat/c.png").symlink_to("00.png")
    assert problems_of(root) == (
        "Links lead to images of other classes or splits (2): remove them.\n"
        f"  train/cat/a.png -> {root}/train/dog/00.png\n  train/cat/b.png -> {root}/train/dog/01.png"
    )


def test_a_tree_of_links_to_a_store_is_read(tmp_path: Path) -> None:
    store = write_splits(tmp_path / "store", "train", "valid", "test")
    root = tmp_path / "data"
    for path in sorted(store.rglob("*.png")):
        link = root / path.relative_to(store)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    (root / "train/fox").symlink_to(write_image(tmp_path / "foxes/a.png", 400).parent, target_is_directory=True)
    assert images(load_folder(root)) == 25


@pytest.mark.parametrize("folder", ["archive", "archive/dataset", "a/b/c"])
def test_a_folder_that_holds_train_further_down_is_named(tmp_path: Path, folder: str) -> None:
    write_splits(tmp_path / folder, "train", "valid", "test")
    assert problems_of(tmp_path) == (
        f"{tmp_path} has no train/ folder, but {folder}/ has one: give {tmp_path}/{folder} instead."
    )


def test_the_folder_above_train_is_named(tmp_path: Path) -> None:
    write_splits(tmp_path, "train")
    assert problems_of(tmp_path / "train") == (
        f"{tmp_path}/train has no train/ folder, because it is the train/ folder. Give the folder above it: {tmp_path}."
    )


ADVICE = (
    "Without labels no score is possible. To train, move test/ out of the data folder: a share of train/ is then set "
    "aside instead. harness predict names the classes of the images afterwards."
)


def test_a_test_split_without_labels_is_refused_with_what_can_be_done(tmp_path: Path) -> None:
    write_splits(tmp_path, "train", "valid")
    for number in range(3):
        write_image(tmp_path / "test" / f"{number}.png", 100 + number)
    assert problems_of(tmp_path) == f"test/ has images (3), but no class folders. {ADVICE}"
    (tmp_path / "test").rename(tmp_path / "unlabelled")
    assert images(load_folder(tmp_path)) == 16


def test_a_test_split_with_one_folder_of_no_class_is_refused_with_what_can_be_done(tmp_path: Path) -> None:
    write_splits(tmp_path, "train", "valid")
    write_image(tmp_path / "test" / "test" / "0.png", 100)
    assert problems_of(tmp_path) == f"test/ has one folder, test, which is not a class of train/. {ADVICE}"


COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def test_a_class_spelt_with_other_characters_than_in_train_is_named(tmp_path: Path) -> None:
    write_splits(tmp_path, "train", "test", classes=(COMPOSED, "dog"))
    write_splits(tmp_path, "valid", classes=(DECOMPOSED, "dog"))
    assert problems_of(tmp_path).splitlines()[0] == (
        f"valid/ has a class that train/ does not have: {DECOMPOSED}. It looks like a class of train/, but is spelt "
        "with other characters (U+0065 U+0301, in train/ U+00E9): rename it, with the name copied from train/."
    )


def test_two_classes_of_train_that_look_the_same_are_named(tmp_path: Path) -> None:
    write_splits(tmp_path, "train", "valid", "test", classes=(COMPOSED, DECOMPOSED, "dog"))
    assert (
        f"train/ has two classes that look the same, {DECOMPOSED}: they differ in U+0065 U+0301 and U+00E9. "
        "Move the images of both into one folder."
    ) in problems_of(tmp_path)


def test_links_to_images_outside_of_the_splits_are_followed(tmp_path: Path) -> None:
    root = write_splits(tmp_path / "data", "train", "valid", "test")
    for place, name in ((tmp_path / "elsewhere", "far"), (root / "store", "near")):
        write_image(place / f"{name}.png", len(name) + 300)
        (root / "train/cat" / name).symlink_to(place, target_is_directory=True)
    assert images(load_folder(root)) == 26


@pytest.mark.parametrize("target", ["not mounted", "bird"])
def test_a_class_that_is_a_link_to_nothing_is_refused(tmp_path: Path, target: str) -> None:
    write_splits(tmp_path, "train", "valid", "test")
    (tmp_path / "train" / "bird").symlink_to(target)
    (tmp_path / "train" / ".hidden").symlink_to(".hidden")
    assert problems_of(tmp_path) == "train/bird: a link to nothing. Restore or remove it."


@pytest.mark.parametrize("name", ["train/fox", "train/cat/fox.png"])
def test_a_link_that_may_not_be_followed_is_not_called_a_link_to_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removing it, which is the remedy for a link to nothing, would lose a good link."""
    write_splits(tmp_path, "train", "valid", "test")
    (tmp_path / name).symlink_to("locked")
    scandir = os.scandir

    class Locked:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self.name, self.is_symlink = entry.name, entry.is_symlink

        def is_dir(self) -> bool:
            return False

        def stat(self) -> os.stat_result:
            raise PermissionError(errno.EACCES, "Permission denied")

    def locked(folder: Path) -> Any:
        with scandir(folder) as found:
            return contextlib.nullcontext([Locked(entry) if entry.name.startswith("fox") else entry for entry in found])

    monkeypatch.setattr(os, "scandir", locked)
    problem = "a link that cannot be followed (Permission denied). Check its target's permissions and disk."
    assert problems_of(tmp_path) == f"{name}: {problem}"


@pytest.mark.parametrize("kind", ["a link to nothing", "a link to itself", "a file"])
def test_a_split_that_is_not_a_folder_is_refused_and_no_other_is_cut(tmp_path: Path, kind: str) -> None:
    write_splits(tmp_path, "train", "valid")
    if kind == "a file":
        (tmp_path / "test").touch()
    else:
        (tmp_path / "test").symlink_to("test" if kind == "a link to itself" else "not mounted")
    problem, *others = problems_of(tmp_path).splitlines()
    assert problem == "test has the name of a split, but is not a folder. Restore, rename or remove it."
    assert others == []


def test_a_hidden_class_with_images_is_refused(tmp_path: Path) -> None:
    write_splits(tmp_path, "train", "valid", "test", classes=(".NET", "java", "rust"))
    assert problems_of(tmp_path).splitlines()[0] == (
        "train/.NET/ holds images (4), but a class folder whose name begins with a dot is not read: rename it, "
        "or move it out of the data folder."
    )
    assert len(problems_of(tmp_path).splitlines()) == 3


def test_a_named_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    write_splits(tmp_path, "train", "valid", "test")
    os.mkfifo(tmp_path / "train/cat/fifo.jpg")
    assert problems_of(tmp_path) == "train/cat/fifo.jpg: a named pipe or device, not a file. Remove it."


def test_files_that_are_not_read_are_named_by_kind(tmp_path: Path) -> None:
    write_splits(tmp_path, "train", "valid", "test")
    for seed, name in enumerate(("a.jfif", "b.jpe", "c.JPG")):
        write_image(tmp_path / "train/cat" / name, 100 + seed)
    for name in ("a.heic", "b.heic", "notes"):
        (tmp_path / "train/cat" / name).write_bytes(b"other")
    for seed, name in enumerate(("x", "y.jpg~")):
        write_image(tmp_path / "train/dog" / name, 200 + seed)
    folder = load_folder(tmp_path)
    assert images(folder) == 27
    assert folder.notes == (
        "5 files are not read: 2 .heic (a.heic, b.heic), 2 without extension (notes, x), 1 .jpg~ (y.jpg~)",
        "files without the extension of an image hold images: train/dog/x, train/dog/y.jpg~. "
        "Rename them to have them read, for example to x.png",
    )
    assert folder.ignored == {"not images": 5}


def test_of_many_problems_of_a_kind_twenty_are_named_and_the_rest_are_counted(tmp_path: Path) -> None:
    """A disk that is not mounted makes every link one to nothing."""
    write_splits(tmp_path, "train", "valid", "test")
    for number in range(30):
        (tmp_path / "train" / f"bird {number:02d}").symlink_to("not mounted")
        (tmp_path / "train" / "cat" / f"{number:02d}.jpg").symlink_to("not mounted")
        os.mkfifo(tmp_path / "valid" / "cat" / f"{number:02d}.jpg")
    problems = problems_of(tmp_path).splitlines()
    assert len(problems) == 63
    assert problems[0] == "train/bird 00: a link to nothing. Restore or remove it."
    assert problems[-3:] == [
        "... and 10 more links that cannot be followed.",
        "... and 10 more links or files that cannot be followed or read.",
        "... and 10 more named pipes or devices.",
    ]


def test_of_many_unknown_classes_twenty_get_a_hint_and_the_rest_are_counted(tmp_path: Path) -> None:
    write_splits(tmp_path, "train", "test", count=1, classes=tuple(f"class {number}" for number in range(30)))
    write_splits(tmp_path, "valid", count=1, classes=tuple(f"klass {number}" for number in range(30)), seed=500)
    problems = problems_of(tmp_path).splitlines()
    assert len(problems) == 21
    assert problems[0] == "valid/ has a class that train/ does not have: klass 0. Did you mean class 0?"
    assert problems[-1] == "valid/ has 10 more classes that train/ does not have."


@pytest.mark.timeout(60)  # comparing each name with each takes ten minutes
def test_a_folder_per_person_with_the_same_names_in_each_takes_no_time() -> None:
    files = [f"train/ill/person {number:05d}/scan.png" for number in range(20_000)]
    assert nested.twins(files) == {}
    assert nested.twins([*files, "train/ill/scan.png", "train/ill/person 00007/left/scan.png"]) == {
        str(Path(file).parent): (file, "train/ill/scan.png") for file in files
    } | {"train/ill/person 00007/left": ("train/ill/person 00007/left/scan.png", files[7])}
    assert nested.twins([*files, "train/ill/masks/scan.png"]) == {
        "train/ill/masks": ("train/ill/masks/scan.png", files[0])
    }
