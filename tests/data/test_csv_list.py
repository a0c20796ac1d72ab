from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from harness.data.image_folder import ImageFolder, fingerprint
from harness.errors import DataError
from tests.helpers.folders import load_folder


@pytest.fixture
def root(data_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(data_folder, tmp_path / "data")
    return tmp_path / "data"


def write_list(root: Path, columns: str = "path,label,split", *rows: str) -> Path:
    """A list of the images in a folder, last ones first, or of `rows`."""
    listed = rows or [
        f"{path.relative_to(root).as_posix()},{path.parent.name},{path.parts[-3]}"
        for path in sorted(root.rglob("*.png"), reverse=True)
    ]
    (root / "list.csv").write_text("\n".join([columns, *listed]) + "\n", encoding="utf-8-sig")
    return root / "list.csv"


def message(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_folder(path)
    return str(caught.value)


def same(one: ImageFolder, other: ImageFolder) -> bool:
    return (one.classes, one.root, fingerprint(one, one.digests)) == (
        other.classes,
        other.root,
        fingerprint(other, other.digests),
    )


def test_a_list_is_read_as_the_folder_that_it_describes(root: Path) -> None:
    listed = load_folder(write_list(root))
    assert same(listed, load_folder(root))
    assert [len(split.files) for split in listed.splits] == [21, 9, 9]
    assert listed.read("train/class 1/000.png") == (root / "train/class 1/000.png").read_bytes()
    assert listed.notes == ()


def test_labels_come_from_the_list_and_other_columns_are_ignored(root: Path) -> None:
    rows = [f"4,{split}/class {n}/00{n}.png,{'ab'[n]},{split}" for split in ("train", "test") for n in (0, 1)]
    rows += [f"4,valid/class {n}/000.png,{'ab'[n]},val" for n in (0, 1)]
    listed = load_folder(write_list(root, "width,path,label,split", *rows))
    assert listed.classes == ("a", "b")
    assert listed.train.files == ("train/class 0/000.png", "train/class 1/001.png")
    assert listed.train.labels.tolist() == listed.val.labels.tolist() == listed.test.labels.tolist() == [0, 1]


def test_without_a_column_split_validation_and_test_are_cut_from_the_list(root: Path) -> None:
    rows = [f"train/class {n}/00{m}.png,class {n}" for n in range(3) for m in range(7)]
    listed = load_folder(write_list(root, "path,label", *rows), split_seed=3)
    assert [len(split.files) for split in listed.splits] == [15, 3, 3]
    shutil.rmtree(root / "valid")
    shutil.rmtree(root / "test")
    assert same(listed, load_folder(root, split_seed=3))


def test_copies_in_two_splits_are_a_problem(root: Path) -> None:
    shutil.copy(root / "train/class 0/000.png", root / "train/copy.png")
    rows = [f"train/class {n}/00{m}.png,{n},{('train', 'train', 'val', 'test')[m]}" for n in range(2) for m in range(4)]
    assert "train/class 0/000.png = train/copy.png" in message(
        write_list(root, "path,label,split", *rows, "train/copy.png,0,test")
    )


def test_rows_that_cannot_be_used_are_all_named(root: Path) -> None:
    (root / "folder").mkdir()
    rows = [
        "train/class 0/000.png,cat,train",
        "train/class 1/000.png,dog,train",
        "train/class 0/000.png,dog,train",
        "nothing.png,cat,train",
        "../list.csv,cat,train",
        f"{root}/train/class 0/001.png,cat,train",
        "./train/class 0/001.png,cat,train",
        "folder,cat,train",
        "train/class 0/001.png,,train",
        "train/class 0/001.png,a/b,train",
        "train/class 0/001.png,cat,holdout",
        "train/class 0/001.png",
    ]
    text = message(write_list(root, "path,label,split", *rows))
    assert f"{root}/list.csv has rows that cannot be used (10). Correct or remove them:" in text
    for line in (
        "line 4: train/class 0/000.png is listed twice",
        "line 5: nothing.png: No such file or directory",
        "line 6: path '../list.csv' must lead to a file below the folder of the list, as in folder/name.jpg",
        f"line 7: path '{root}/train/class 0/001.png' must lead to",
        "line 8: path './train/class 0/001.png' must lead to",
        "line 9: folder is not a file",
        "line 10: label '' must be a name",
        "line 11: label 'a/b' must be a name without / and without spaces at its ends",
        "line 12: split 'holdout' is not one of train, valid, val, validation, test",
        "line 13: label '' must be a name",
    ):
        assert line in text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it has no column path and no column label"),
        (b"file,label\na.png,cat\n", "it has no column path"),
        (b"path,label\n\xff\xfe.png,cat\n", "'utf-8' codec can't decode byte 0xff"),
        (b'path,label\n"a.png,cat\n', "unexpected end of data"),
        (b"path,label\n" + b"x" * 200_000 + b",cat\n", "field larger than field limit"),
    ],
)
def test_a_file_that_is_not_a_list_is_named(root: Path, content: bytes, reason: str) -> None:
    (root / "list.csv").write_bytes(content)
    text = message(root / "list.csv")
    assert text.startswith(f"{root}/list.csv is not a list of images: {reason}")
    assert "Give a CSV file in UTF-8 whose first line names the columns path, label and" in text


def test_a_list_that_is_not_there_or_not_a_file(root: Path) -> None:
    assert message(root / "none.csv") == f"{root}/none.csv cannot be read (No such file or directory)."
    os.mkfifo(root / "pipe.csv")
    assert message(root / "pipe.csv") == f"{root}/pipe.csv is a named pipe or device, not a file."
    assert "lists no training images" in message(write_list(root, "path,label,split", "test/class 0/000.png,a,test"))


def test_messages_about_a_list_name_splits_and_not_folders(root: Path) -> None:
    rows = [f"train/class {n}/00{m}.png,{n},{('train', 'train', 'valid')[m]}" for n in range(2) for m in range(3)]
    text = message(write_list(root, "path,label,split", *rows, "test/class 0/000.png,zebra,valid"))
    assert (
        "split valid has a class that split train does not have: zebra. Add the class to split train or remove" in text
    )
    assert "remove its rows." in text
    text = message(write_list(root, "path,label", "train/class 0/000.png,cat", "train/class 1/000.png,dog"))
    assert "There is no split valid and split test, so each class of split train has to give one image to" in text
    text = message(write_list(root, "path,label", "train/class 0/000.png,cat", "train/class 0/001.png,cat"))
    assert "split train has one class (cat)" in text
    assert "/ has" not in text and "train/ " not in text
    rows = [f"train/class {n}/00{m}.png,class {n}" for n in range(3) for m in range(7)]
    notes = load_folder(write_list(root, "path,label", *rows)).notes
    assert notes[0].startswith("valid: 3 of train's 21 images set aside, as there is no such split in the list (")
