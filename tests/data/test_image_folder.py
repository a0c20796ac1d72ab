from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.data import image_folder
from harness.data.folder_scan import EXTENSIONS
from harness.errors import DataError
from tests.helpers.folders import load_folder, problems_of


def fill(root: Path, **splits: dict[str, int]) -> Path:
    """Files that look like images from outside; finding them does not decode. Every content is different."""
    for split, classes in splits.items():
        for name, count in classes.items():
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                path = root / split / name / f"{number:03}.jpg"
                path.write_bytes(f"{split}/{name}/{number:03}".encode())
    return root


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return fill(tmp_path, train={"cat": 4, "dog": 3}, valid={"cat": 1, "dog": 2}, test={"cat": 2, "dog": 1})


def test_splits_labels_and_order_are_those_of_the_folder(whole: Path) -> None:
    found = load_folder(whole)
    assert found.classes == ("cat", "dog")
    assert found.train.files[3:5] == ("train/cat/003.jpg", "train/dog/000.jpg")
    assert found.train.labels.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert found.train.labels.dtype == np.int64
    assert found.val.name == "val"
    assert found.val.files == ("valid/cat/000.jpg", "valid/dog/000.jpg", "valid/dog/001.jpg")
    assert found.test.labels.tolist() == [0, 0, 1]
    assert found.notes == () and found.ignored == {}


@pytest.mark.parametrize("spelling", ["valid", "val", "validation"])
def test_every_spelling_of_validation(tmp_path: Path, spelling: str) -> None:
    fill(tmp_path, train={"a": 2, "b": 2}, test={"a": 1, "b": 1}, **{spelling: {"a": 1, "b": 2}})
    assert load_folder(tmp_path).val.files[-1] == f"{spelling}/b/001.jpg"


def test_labels_are_train_s_by_name_when_a_split_lacks_a_class(tmp_path: Path) -> None:
    fill(tmp_path, train={"a": 2, "b": 2, "c": 2}, valid={"b": 1, "c": 1}, test={"a": 1, "b": 1, "c": 1})
    found = load_folder(tmp_path)
    assert found.val.labels.tolist() == [1, 2]
    assert found.notes == ("valid: no images of 1 of 3 classes (a); they count 0 in macro F1",)


def test_names_with_spaces_quotes_markup_and_other_scripts(tmp_path: Path) -> None:
    names = ["air hockey", '<b>"quoted"</b>'.replace("/", "|"), "ski-слалом", "柔道", "it's"]
    fill(tmp_path, **{split: dict.fromkeys(names, 1) for split in ("train", "valid", "test")})
    found = load_folder(tmp_path)
    assert found.classes == tuple(sorted(names))
    assert [found.classes[label] for label in found.test.labels] == [f.split("/")[1] for f in found.test.files]


def test_every_extension_nested_folders_and_what_is_ignored(whole: Path) -> None:
    deep = whole / "train" / "cat" / "2021" / "june"
    deep.mkdir(parents=True)
    for number, extension in enumerate(EXTENSIONS):
        (deep / f"p{number}{extension.upper()}").write_bytes(b"extension" + extension.encode())
    (deep / "notes.txt").write_text("x")
    (whole / "train" / "cat" / ".DS_Store").write_text("x")
    (whole / "train" / ".ipynb_checkpoints").mkdir()
    (whole / "train" / ".ipynb_checkpoints" / "a.jpg").write_text("x")
    (whole / "extra").mkdir()
    found = load_folder(whole)
    assert found.classes == ("cat", "dog")
    assert sum(file.startswith("train/cat/2021/june/p") for file in found.train.files) == 12
    assert found.ignored == {"by-products": 2, "not images": 1, "folder(s) beside train, valid and test": 1}
    assert found.notes == (
        "images in folders below a class are read as that class: train/cat/2021/june (12)",
        "left out: 2 by-products (.ipynb_checkpoints, .DS_Store), 1 folder(s) beside train, valid and test (extra)",
        "1 file is not read: 1 .txt (notes.txt)",
    )


def test_a_link_in_a_circle_ends(whole: Path) -> None:
    (whole / "train" / "cat" / "again").symlink_to(whole / "train" / "cat", target_is_directory=True)
    found = load_folder(whole)
    assert len(found.train.files) == 7
    assert found.ignored == {"links to a folder above": 1}


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    assert problems_of(tmp_path / "nowhere") == (
        f"{tmp_path}/nowhere: no such folder. --data takes a folder with train/<class>/<image>, "
        "and the same under valid/ and test/."
    )


def test_a_file_instead_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "data.zip").write_text("x")
    assert "data.zip is not a folder." in problems_of(tmp_path / "data.zip")


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    assert "has no train/ folder. Expected train/<class>/<image>" in problems_of(tmp_path)


def test_classes_without_train_and_another_spelling_of_train(tmp_path: Path) -> None:
    fill(tmp_path / "flat", cat={".": 1}, dog={".": 1})
    assert "Its folders hold images (cat, dog): if they are the classes, move them under train/, as train/cat/" in (
        problems_of(tmp_path / "flat")
    )
    fill(tmp_path / "capital", Train={"cat": 1, "dog": 1})
    assert "has no train/ folder, but Train/: rename it to train/." in problems_of(tmp_path / "capital")


def test_a_train_folder_without_images_is_named(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    assert problems_of(tmp_path) == "train/ holds no images. Expected train/<class>/<image>."


def test_images_without_a_class_folder_are_named(whole: Path) -> None:
    (whole / "train" / "loose.png").write_bytes(b"loose")
    assert problems_of(whole) == (
        "train/ has images outside of any class (1): put them in a folder per class, train/<class>/."
    )


def test_one_class_is_too_few(tmp_path: Path) -> None:
    fill(tmp_path, train={"cat": 4}, valid={"cat": 1}, test={"cat": 1})
    assert problems_of(tmp_path) == "train/ has one class (cat): training needs at least two."


def test_two_validation_folders_are_named(whole: Path) -> None:
    fill(whole, val={"cat": 1, "dog": 1})
    assert "has valid/ and val/: keep one of them as the validation split." in problems_of(whole)


def test_an_empty_validation_folder(tmp_path: Path) -> None:
    fill(tmp_path, train={"a": 9, "b": 9}, valid={"a": 0}, test={"a": 1})
    assert problems_of(tmp_path) == (
        "valid/ holds no images. Expected valid/<class>/<image>, or remove the folder to have a share of train "
        "set aside."
    )


def test_many_problems_are_reported_together(tmp_path: Path) -> None:
    train = {"archery": 1, "bowling": 0, "curling": 0}
    fill(tmp_path, train=train, valid={"archrey": 1}, test={"archery": 1, "zzz": 1})
    assert problems_of(tmp_path).splitlines() == [
        "train/ has class folders without an image (2): bowling, curling. Add images (.jpg, .jpeg, .jpe, .jfif, .png, "
        ".bmp, .webp, .tif, .tiff, .gif, .ppm, .pgm) or remove the folders.",
        "train/ has more classes (3) than images (1): every class needs at least one.",
        "valid/ has a class that train/ does not have: archrey. Did you mean archery?",
        "test/ has a class that train/ does not have: zzz. Add the class to train/ or remove the folder.",
    ]


def test_a_link_to_nothing_and_a_name_that_is_not_utf8(whole: Path) -> None:
    (whole / "train" / "cat" / "gone.jpg").symlink_to(whole / "gone.jpg")
    (whole / "train" / "dog" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"latin")
    text = problems_of(whole)
    assert "train/cat/gone.jpg: a link to nothing. Restore or remove it." in text
    assert r"train/dog/caf\udce9.jpg: the name is not UTF-8, so no table could hold it. Rename it." in text


def test_a_folder_without_permission(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: os.PathLike[str]) -> object:
        if Path(path).name == "dog" and Path(path).parent.name == "train":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    expected = f"{whole}/train/dog: cannot be listed (Permission denied). Check its permissions (ls -ld)."
    assert expected in problems_of(whole)


def test_copies_across_splits_are_named(whole: Path) -> None:
    content = (whole / "train" / "cat" / "001.jpg").read_bytes()
    (whole / "test" / "dog" / "copy.jpg").write_bytes(content)
    (whole / "valid" / "dog" / "same size.jpg").write_bytes(content[::-1])
    assert problems_of(whole) == (
        "The same images, byte for byte, are in two splits (1), so scores would count what was trained on. "
        "Keep one of each:\n  train/cat/001.jpg = test/dog/copy.jpg"
    )


def test_copies_are_listed_ten_at_a_time(tmp_path: Path) -> None:
    fill(tmp_path, train={"a": 12, "b": 12}, valid={"a": 1, "b": 1})
    for number in range(12):
        target = tmp_path / "test" / "a" / f"{number}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((tmp_path / "train" / "a" / f"{number:03}.jpg").read_bytes())
    text = problems_of(tmp_path)
    assert "are in two splits (12), so" in text and text.endswith("\n  and 2 more")
    assert text.count(" = ") == 10


def test_large_images_that_differ_outside_their_middle_are_no_copies(whole: Path) -> None:
    (whole / "train" / "cat" / "big.jpg").write_bytes(b"a" + bytes(20_000))
    (whole / "test" / "cat" / "big.jpg").write_bytes(b"b" + bytes(20_000))
    assert len(load_folder(whole).train.files) == 8


def test_missing_splits_are_cut_from_train(tmp_path: Path) -> None:
    fill(tmp_path, train={"a": 20, "b": 10, "c": 3})
    found = load_folder(tmp_path, split_seed=1, split_fraction=0.2)
    assert np.bincount(found.val.labels).tolist() == [4, 2, 1]
    assert np.bincount(found.test.labels).tolist() == [4, 2, 1]
    assert np.bincount(found.train.labels).tolist() == [12, 6, 1]
    together = [file for split in found.splits for file in split.files]
    assert len(set(together)) == len(together) == 33
    assert found.notes == (
        "valid: 7 of train's 33 images set aside, as there is no such folder (share 0.2 of each class, seed 1)",
        "test: 7 of train's 33 images set aside, as there is no such folder (share 0.2 of each class, seed 1)",
    )


def test_the_cut_depends_on_the_seed_but_not_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, train={"a": 20, "b": 20}, test={"a": 1, "b": 1})
    first = load_folder(tmp_path, split_seed=3)
    assert load_folder(tmp_path, split_seed=4).val.files != first.val.files
    (tmp_path / "train" / "c").mkdir()
    for number in range(5):
        (tmp_path / "train" / "c" / f"{number}.jpg").write_bytes(f"c{number}".encode())
    monkeypatch.setattr("harness.data.folder_scan.sorted", lambda found, key: list(found)[::-1], raising=False)
    again = load_folder(tmp_path, split_seed=3)
    assert tuple(file for file in again.val.files if "/c/" not in file) == first.val.files


def test_a_class_too_small_to_cut(tmp_path: Path) -> None:
    fill(tmp_path, train={"a": 5, "b": 2, "c": 1})
    assert problems_of(tmp_path) == (
        "There is no valid/ and test/, so each class of train/ has to give one image to each missing split and keep "
        "one. Too few for that: b (2), c (1). Add images to them, or add valid/ and test/."
    )


@pytest.mark.parametrize("count", range(3, 30))
def test_every_class_keeps_an_image_however_large_the_share(tmp_path: Path, count: int) -> None:
    fill(tmp_path, train={"a": count, "b": 3})
    found = load_folder(tmp_path, split_fraction=0.499)
    assert all(np.bincount(split.labels, minlength=2).min() >= 1 for split in found.splits)


def test_the_cut_keeps_byte_identical_images_of_two_classes_in_one_split(tmp_path: Path) -> None:
    fill(tmp_path, train={"a": 20, "b": 20})
    for number in range(0, 12, 2):
        for twin in (f"b/{number:03}.jpg", f"a/{number + 1:03}.jpg"):
            (tmp_path / "train" / twin).write_bytes(f"copy {number}".encode())
    for seed in range(5):
        folder = load_folder(tmp_path, split_seed=seed)
        split_of = {file: split.name for split in folder.splits for file in split.files}
        assert [len(split.files) for split in folder.splits] == [24, 8, 8]
        for number in range(0, 12, 2):
            assert split_of[f"train/b/{number:03}.jpg"] == split_of[f"train/a/{number + 1:03}.jpg"]
    assert folder.notes[-1] == (
        "images that belong together (copies, images made from others, groups of --split-group) were left in one "
        "split: 12 images in 6 groups (train/a/001.jpg + train/b/000.jpg; train/a/003.jpg + train/b/002.jpg; "
        "train/a/005.jpg + train/b/004.jpg; and 3 more)"
    )


def test_a_class_of_copies_alone_cannot_be_cut(tmp_path: Path) -> None:
    fill(tmp_path, train={"a": 10, "b": 10}, test={"a": 1, "b": 1})
    for file in (tmp_path / "train" / "a").iterdir():
        file.write_bytes(b"all the same")
    assert problems_of(tmp_path) == (
        "There is no valid/, so each class of train/ has to give one group of images that belong together to each "
        "missing split and keep one. Too few for that: a (10 in groups: 1). Add images to them, or add valid/."
    )


def test_siblings_stay_in_one_split(tmp_path: Path) -> None:
    fill(tmp_path, train={"a": 10, "b": 10})
    for number in range(10):
        path = tmp_path / "train" / "a" / "cropped" / f"{number:03}_crop.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(f"crop {number}".encode())
    folder = load_folder(tmp_path, split_seed=1)
    split_of = {file: split.name for split in folder.splits for file in split.files}
    assert np.bincount(folder.val.labels).tolist() == np.bincount(folder.test.labels).tolist() == [4, 2]
    for number in range(10):
        assert split_of[f"train/a/{number:03}.jpg"] == split_of[f"train/a/cropped/{number:03}_crop.jpg"]


def test_images_of_two_classes_are_not_siblings(tmp_path: Path) -> None:
    fill(tmp_path, train={"a": 5, "b": 5})
    (tmp_path / "train" / "a" / "one.jpg").write_bytes(b"one")
    (tmp_path / "train" / "b" / "one_crop.jpg").write_bytes(b"crop")
    assert len(load_folder(tmp_path).notes) == 2  # of the two splits that were cut


def patients(root: Path) -> Path:
    """Two images per patient and class: patients 0 to 9 have images of both classes."""
    for name in ("healthy", "ill"):
        (root / "train" / name).mkdir(parents=True)
        for number in range(20):
            (root / "train" / name / f"p{number // 2}_{number}.jpg").write_bytes(f"{name}{number}".encode())
    return root


def test_split_group_keeps_a_patient_in_one_split(tmp_path: Path) -> None:
    folder = load_folder(patients(tmp_path), split_group=r"/(p\d+)_")
    persons = [{file.split("/")[2].split("_")[0] for file in split.files} for split in folder.splits]
    assert [len(names) for names in persons] == [6, 2, 2]
    assert len(set.union(*persons)) == 10
    assert [np.bincount(split.labels).tolist() for split in folder.splits] == [[12, 12], [4, 4], [4, 4]]


def test_images_without_a_group_are_named_and_a_pattern_without_a_match_is_refused(tmp_path: Path) -> None:
    patients(tmp_path)
    (tmp_path / "train" / "ill" / "unknown.jpg").write_bytes(b"unknown")
    folder = load_folder(tmp_path, split_group=r"/(p\d+)_")
    assert folder.notes[0] == (
        "--split-group does not match 1 of 41 images, which count as groups of one: train/ill/unknown.jpg"
    )
    with pytest.raises(DataError) as caught:
        load_folder(tmp_path, split_group="(video)")
    assert str(caught.value) == (
        "--split-group (video) matches none of the 41 images, such as train/healthy/p0_0.jpg. It is searched in the "
        "path of an image; its group (...) names the image's group."
    )


def test_a_patient_in_two_given_splits_is_a_problem(tmp_path: Path) -> None:
    patients(tmp_path)
    for split, name in (("valid", "p3_0"), ("test", "p11_0")):
        for label in ("healthy", "ill"):
            (tmp_path / split / label).mkdir(parents=True)
            (tmp_path / split / label / f"{name}{label}.jpg").write_bytes(f"{split}{label}".encode())
    with pytest.raises(DataError) as caught:
        load_folder(tmp_path, split_group=r"/(p\d+)_")
    assert str(caught.value) == (
        "Groups of --split-group are in two splits (1), so scores would count what was trained on. Move each group "
        "into one split:\n  p3: train/healthy/p3_6.jpg, valid/healthy/p3_0healthy.jpg"
    )
    assert load_folder(tmp_path).notes == ()


def test_fingerprint_is_of_content_not_of_place(tmp_path: Path) -> None:
    splits = {"train": {"a": 2, "b": 2}, "valid": {"a": 1, "b": 1}, "test": {"a": 1, "b": 1}}
    here, there = (load_folder(fill(tmp_path / place, **splits)) for place in ("here", "there"))
    digests = [str(number) for number in range(8)]
    assert image_folder.fingerprint(here, digests) == image_folder.fingerprint(there, digests)
    assert image_folder.fingerprint(here, [*digests[:-1], "x"]) != image_folder.fingerprint(here, digests)
    with pytest.raises(ValueError, match="shorter"):
        image_folder.fingerprint(here, digests[:-1])


@pytest.mark.parametrize("make", [lambda p: str(p), lambda p: p, lambda p: os.path.relpath(p)])
def test_a_data_folder_may_be_any_kind_of_path(whole: Path, make: Callable[[Path], str | Path]) -> None:
    assert load_folder(make(whole)).root == whole or load_folder(make(whole)).root.samefile(whole)
