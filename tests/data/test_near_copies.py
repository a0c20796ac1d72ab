from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data import near_copies
from harness.data.image_folder import ImageFolder
from tests.data.test_check import smooth_image
from tests.data.test_digests import count_opened, with_one_bit_flipped
from tests.data.test_missing_splits import BOTH, cut_by_image
from tests.helpers.folders import load_folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of ten images, no two alike; valid and test are cut from them."""
    for label, name in enumerate(("cat", "dog")):
        folder = tmp_path / "data" / "train" / name
        folder.mkdir(parents=True)
        for number in range(10):
            smooth_image(100 * label + number).save(folder / f"{number}.png")
    return tmp_path / "data"


def load(root: Path, seed: int = 0) -> ImageFolder:
    return load_folder(root, split_seed=seed, cache_dir=root.parent / "caches")


def add_copies(root: Path, count: int) -> list[tuple[str, str]]:
    """Save copies of cats, resized and compressed, under names that tell nothing; returns pairs of files."""
    pairs = []
    for number in range(count):
        file = root / "train" / "cat" / f"holiday-{40 - number}.jpg"
        Image.open(root / f"train/cat/{number}.png").resize((70, 60)).save(file, quality=40)
        pairs.append((f"train/cat/{number}.png", f"train/cat/{file.name}"))
    return pairs


def split_of(folder: ImageFolder) -> dict[str, str]:
    return {file: split.name for split in folder.splits for file in split.files}


@pytest.mark.parametrize("seed", range(5))
def test_near_copies_are_in_one_split_and_counted(root: Path, seed: int) -> None:
    pairs = add_copies(root, 6)
    folder = load(root, seed)
    splits = split_of(folder)
    assert [splits[first] for first, _ in pairs] == [splits[second] for _, second in pairs]
    assert {splits[first] for first, _ in pairs} > {"train"}  # whole pairs are dealt, they do not just stay
    assert [copy[:2] for copy in folder.near_copies] == sorted(pairs)
    [note] = [note for note in folder.notes if note.startswith("near-copies")]
    assert note.startswith(
        "near-copies (images that look nearly the same) were left in one split: 6 pairs (train/cat/0.png ~ "
        "train/cat/holiday-40.jpg ("
    )
    assert splits == split_of(load(root, seed))


def test_images_without_near_copies_are_cut_as_before(root: Path) -> None:
    train = {name: [f"train/{name}/{number}.png" for number in range(10)] for name in ("cat", "dog")}
    expected = cut_by_image(train, BOTH, 3, 0.2)
    folder = load(root, 3)
    assert {split.name: list(split.files) for split in folder.splits} == {
        split: sorted(file for files in classes.values() for file in files) for split, classes in expected.items()
    }
    assert not any("near-copies" in note for note in folder.notes)
    add_copies(root, 3)  # of cats; dogs are cut as before
    dogs = {split.name: [file for file in split.files if "/dog/" in file] for split in load(root, 3).splits}
    assert dogs == {split: sorted(classes["dog"]) for split, classes in expected.items()}


def test_near_copies_in_two_given_splits_are_named_and_not_moved(root: Path) -> None:
    for split in ("valid", "test"):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            smooth_image(len(split) * 1000 + len(name) + ord(name[0])).save(root / split / name / "a.png")
    Image.open(root / "train/cat/3.png").resize((60, 60)).save(root / "valid" / "cat" / "b.jpg", quality=50)
    Image.open(root / "train/dog/4.png").resize((50, 60)).save(root / "test" / "dog" / "c.jpg", quality=50)
    folder = load(root)
    splits = split_of(folder)
    assert (splits["valid/cat/b.jpg"], splits["test/dog/c.jpg"]) == ("val", "test")
    [note] = folder.notes
    head, *lines = note.split("\n")
    assert head == (
        "near-copies (images that look nearly the same) are in two splits (2 pairs), and scores count them as unseen. "
        "Compare them and keep one of each:"
    )
    assert [line.split(" (")[0] for line in lines] == [
        "  train/cat/3.png ~ valid/cat/b.jpg",
        "  train/dog/4.png ~ test/dog/c.jpg",
    ]


def test_a_class_of_near_copies_is_cut_and_named_instead_of_refused(root: Path) -> None:
    for number in range(1, 10):
        Image.open(root / "train/cat/0.png").resize((60 + number, 60)).save(root / f"train/cat/{number}.png")
    folder = load(root)
    assert [sum("/cat/" in file for file in split.files) for split in folder.splits] == [6, 2, 2]
    assert "near-copies could not be left in one split in classes with too few other images (1): cat" in folder.notes
    [crossing] = [note for note in folder.notes if "are in two splits" in note]
    assert "(28 pairs)" in crossing  # 45 pairs of ten images; 15, 1 and 1 of them within a split


def test_images_that_all_look_alike_do_not_count_as_copies(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_copies(root, 6)
    monkeypatch.setattr(near_copies, "PAIRS_PER_IMAGE", 0.2)  # 5.2 pairs of 26 images
    for _ in range(2):  # searched, and from the cache
        folder = load(root)
        assert folder.near_copies == ()
        [note] = [note for note in folder.notes if "near-copies" in note]
        assert note.startswith("images look so much alike (more than 0.2 pairs per image)")


def test_among_images_that_are_alike_only_the_closest_count(root: Path) -> None:
    """A bright outline that all images share makes different images alike, as bodies do in X-rays."""
    random = np.random.default_rng(0)
    outline = random.uniform(0, 255, (16, 16))
    for number in range(10):
        for name in ("cat", "dog"):
            cells = np.clip(outline + random.normal(0, 30, (16, 16)), 0, 255).astype(np.uint8)
            Image.fromarray(cells).resize((64, 64)).convert("RGB").save(root / f"train/{name}/{number}.png")
    Image.open(root / "train/cat/3.png").resize((60, 60)).save(root / "train" / "dog" / "copy.jpg", quality=50)
    folder = load(root)
    assert [copy[:2] for copy in folder.near_copies] == [("train/cat/3.png", "train/dog/copy.jpg")]
    [note] = [note for note in folder.notes if note.startswith("images look")]
    assert note.startswith("images look so much alike (2") and note.endswith(
        " pairs with a likeness of 0.8 or more) that only pairs with 0.95 or more count as near-copies: 1"
    )


def test_many_images_are_compared_within_their_class(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = add_copies(root, 2)
    shutil.copy(root / pairs[0][1], root / "train" / "dog" / "a.jpg")
    Image.open(root / "train/cat/5.png").resize((60, 60)).save(root / "train" / "dog" / "b.jpg")
    assert ("train/cat/5.png", "train/dog/b.jpg") in [copy[:2] for copy in load(root).near_copies]
    monkeypatch.setattr(near_copies, "ALL_PAIRS", 12)
    folder = load(root)
    assert [copy[:2] for copy in folder.near_copies] == sorted(pairs)
    assert "near-copies were searched within each class only, as there are more than 12 images" in folder.notes


def test_a_second_search_opens_and_compares_no_image(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_copies(root, 3)
    first = load(root)
    opened = count_opened(monkeypatch)

    def refuse(*arguments: object) -> None:
        raise AssertionError("compared again")

    monkeypatch.setattr(near_copies, "alike", refuse)
    again = load(root)
    assert opened == []
    assert (again.notes, again.near_copies, again.val.files) == (first.notes, first.near_copies, first.val.files)


def test_the_cut_does_not_depend_on_the_cache(root: Path, tmp_path: Path) -> None:
    add_copies(root, 4)
    first = load(root)
    for damaged in (lambda content: b"", lambda content: b"nonsense", with_one_bit_flipped):
        for path in (tmp_path / "caches").glob("*/*.npz"):
            path.write_bytes(damaged(path.read_bytes()))
        assert load(root).val.files == first.val.files
    (tmp_path / "file").touch()  # a cache that can be neither read nor written
    assert load_folder(root, cache_dir=tmp_path / "file" / "caches").val.files == first.val.files


def test_blank_and_broken_images_count_as_no_copies(root: Path) -> None:
    for number, name in enumerate(("white", "whiter")):
        Image.new("RGB", (50 + number, 50), "white").save(root / "train" / "cat" / f"{name}.png")
        (root / "train" / "dog" / f"{name}.png").write_bytes(b"broken" * (number + 1))
    assert load(root).near_copies == ()


def test_an_image_of_many_megapixels_is_compared_by_a_fraction_of_its_pixels(root: Path) -> None:
    large = Image.fromarray(np.asarray(smooth_image(7).resize((1500, 1500), Image.Resampling.BICUBIC)))
    large.save(root / "train" / "dog" / "large.jpg", quality=90)
    assert [copy[:2] for copy in load(root).near_copies] == [("train/cat/7.png", "train/dog/large.jpg")]
