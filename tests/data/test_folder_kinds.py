"""Every kind of data folder that people have: how many images its splits get, or the sentences that refuse it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.data.image_folder import scan_image_folder
from tests.helpers.folders import folder_config
from tests.helpers.messy_folders import write_image, write_splits

ODD_NAMES = (
    *(
        "with space",
        " lead",
        "tab\tstop",
        "new\nline",
        "smile\U0001f600",
        'quote"d',
        "o'neil",
        "semi;colon",
        "a,b",
        "=1+1",
    ),
    *("<b>bold", "100%", "$HOME", "back\\slash", "x" * 200, "\u00e9", "\u4e2d\u6587", "nan", "None", "1", "10", "2"),
    *("-dash", "{curly}", "[square]", "*star", "?mark", "~tilde", "#hash", "RTL\u202eright"),
)


def whole(root: Path, classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    """12 training, 6 validation and 6 test images of two classes."""
    return write_counts(root, classes, train=6, valid=3, test=3)


def write_counts(root: Path, classes: tuple[str, ...] = ("cat", "dog"), **counts: int) -> Path:
    for number, (folder, count) in enumerate(counts.items()):
        write_splits(root, folder, classes=classes, count=count, seed=1000 * number)
    return root


def nfd(root: Path) -> None:
    whole(root, classes=("caf\u00e9", "dog"))
    (root / "valid" / "caf\u00e9").rename(root / "valid" / "cafe\u0301")


def synology(root: Path) -> None:
    whole(root)
    for path in sorted(root.rglob("*.png")):
        write_image(path.parent / "@eaDir" / path.name / "SYNOPHOTO_THUMB_M.jpg", 9000 + int(path.stem))


def extensions(root: Path) -> None:
    whole(root)
    for seed, name in enumerate(("a.jfif", "b.jpe", "c.JPG", "d.webp", "e.heic", "f.avif", "g", "h.jpg~", "i.jpeg_")):
        write_image(root / "train" / "cat" / name, 9000 + seed)


def mac_archive(root: Path) -> None:
    whole(root)
    write_image(root / "train/__MACOSX/cat/00.png", 9000)
    for name in (".DS_Store", "cat/._00.png", "cat/Thumbs.db", "cat/desktop.ini"):
        (root / "train" / name).write_bytes(b"\0\5\x16\7")


def flat_test(root: Path) -> None:
    whole(root)
    shutil.rmtree(root / "test")
    for number in range(4):
        write_image(root / "test" / f"{number}.png", 9000 + number)


def loop(root: Path) -> None:
    whole(root)
    (root / "train/cat/up").symlink_to("..", target_is_directory=True)


def masks(root: Path) -> None:
    whole(root)
    for number in range(6):
        write_image(root / f"train/cat/masks/{number:02d}.png", 9000 + number)


def class_of_test(root: Path) -> None:
    whole(root)
    write_image(root / "test/bird/0.png", 9000)


def copy_under_another_class(root: Path) -> None:
    whole(root)
    shutil.copy(root / "train/cat/00.png", root / "train/dog/copy.png")


def other_case(root: Path) -> None:
    whole(root)
    (root / "test/cat").rename(root / "test/Cat")


def pipe(root: Path) -> None:
    whole(root)
    os.mkfifo(root / "train/cat/fifo.jpg")


def no_splits(root: Path) -> None:
    for number, name in enumerate(("cat", "dog")):
        for image in range(6):
            write_image(root / name / f"{image}.png", 10 * number + image)


READ: dict[str, tuple[Callable[[Path], object], tuple[int, int, int]]] = {
    "as expected": (whole, (12, 6, 6)),
    "thumbnails of a disk station": (synology, (12, 6, 6)),
    "many extensions": (extensions, (16, 6, 6)),
    "odd names": (lambda root: write_counts(root, ODD_NAMES, train=3, valid=1, test=1), (90, 30, 30)),
    "an archive from a Mac": (mac_archive, (12, 6, 6)),
    "an image under two classes": (copy_under_another_class, (13, 6, 6)),
    "numbers as names": (
        lambda root: write_counts(root, tuple(map(str, range(12))), train=3, valid=1, test=1),
        (36, 12, 12),
    ),
}

REFUSED: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "capital letters": (
        lambda root: write_counts(root, train=6, Valid=3, Test=3),
        ("Test/ looks like the test split: rename", "Valid/ looks like the valid split: rename"),
    ),
    "testing": (
        lambda root: write_counts(root, train=6, val=3, testing=3),
        ("testing/ looks like the test split: rename it to test/.",),
    ),
    "test images without labels": (flat_test, ("test/ has images (4), but no class folders. Without labels",)),
    "a name in two encodings": (
        nfd,
        (
            "valid/ has a class that train/ does not have: cafe\u0301. It looks like a class of train/, but is spelt "
            "with other characters (U+0065 U+0301, in train/ U+00E9)",
        ),
    ),
    "a class that begins with a dot": (
        lambda root: whole(root, classes=(".NET", "java", "rust")),
        tuple(f"{split}/.NET/ holds images ({n})" for split, n in (("train", 6), ("valid", 3), ("test", 3))),
    ),
    "a link in a circle": (loop, ("train/cat/up links to ",)),
    "masks below a class": (masks, ("train/cat/masks/ holds images (6) with the names of others of the class",)),
    "a class of test alone": (
        class_of_test,
        ("test/ has a class that train/ does not have: bird. Add the class to train/ or remove the folder.",),
    ),
    "a folder in a folder": (
        lambda root: whole(root / "archive/dataset"),
        ("{root} has no train/ folder, but archive/dataset/ has one: give {root}/archive/dataset instead.",),
    ),
    "one image per class": (
        lambda root: write_counts(root, train=1),
        ("There is no valid/ and test/, so each class of train/ has to give one image",),
    ),
    "a class in another case": (
        other_case,
        ("test/ has a class that train/ does not have: Cat. Did you mean cat?",),
    ),
    "classes without splits": (
        no_splits,
        ("{root} has no train/ folder. Its folders hold images (cat, dog): if they are the classes, move them",),
    ),
    "a named pipe": (pipe, ("train/cat/fifo.jpg: a named pipe or device, not a file. Remove it.",)),
    "nothing": (lambda root: None, ("{root} has no train/ folder. Expected train/<class>/<image>",)),
}


def test_the_table_has_every_kind() -> None:
    assert len(READ) + len(REFUSED) == 21
    assert len(set(ODD_NAMES)) == 30


@pytest.mark.parametrize("kind", READ)
def test_a_folder_is_read(kind: str, tmp_path: Path) -> None:
    make, counts = READ[kind]
    make(tmp_path)
    folder, problems = scan_image_folder(folder_config(tmp_path))
    assert problems == []
    assert tuple(len(split.files) for split in folder.splits) == counts


@pytest.mark.parametrize("kind", REFUSED)
def test_a_folder_is_refused_with_what_to_do(kind: str, tmp_path: Path) -> None:
    make, expected = REFUSED[kind]
    make(tmp_path)
    _, problems = scan_image_folder(folder_config(tmp_path))
    starts = [sentence.format(root=tmp_path) for sentence in expected]
    assert len(problems) == len(starts)
    assert [problem[: len(start)] for problem, start in zip(problems, starts, strict=True)] == starts
