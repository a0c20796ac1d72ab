from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data import duplicates
from harness.data.check import CheckReport, report
from tests.helpers.folders import folder_config


def smooth_image(seed: int, side: int = 96) -> Image.Image:
    """Smooth random shapes with some noise, different for every seed."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (7, 7, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray(np.clip(smooth + generator.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8))


def save(image: Image.Image, path: Path, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    seed = 0
    for split, count in (("train", 4), ("valid", 2), ("test", 2)):
        for name in ("cat", "dog"):
            for number in range(count):
                save(smooth_image(seed := seed + 1), tmp_path / split / name / f"{number}.png")
    return tmp_path


def checked(root: Path, **options: object) -> CheckReport:
    return report(folder_config(root, **options))


def test_a_folder_without_problems_has_an_empty_report(root: Path, tmp_path: Path) -> None:
    save(smooth_image(50, side=48).convert("L"), root / "train" / "dog" / "grey.png")
    result = checked(root, cache_dir=tmp_path / "caches")
    assert result.problems == () and result.notes == () and result.broken == {}
    assert result.copies_across_splits == result.copies_in_train == ()
    train = result.splits["train"]
    assert (train.pictures, train.smallest, train.median, train.largest) == (9, 4, 4.5, 5)
    assert train.smallest_classes == ("cat (4)", "dog (5)")
    assert result.splits["val"].smallest_classes == ()
    assert result.sizes is not None
    assert (result.sizes.smallest, result.sizes.median, result.sizes.largest) == ((48, 48), (96, 96), (96, 96))
    assert result.sizes.common == {"96x96": 16, "48x48": 1}
    assert result.modes == {"RGB": 16, "L": 1}
    assert result.cache_bytes == 17 * 256 * 256 * 3
    assert result.cache_dir == str(tmp_path / "caches")
    assert sorted(path.name for path in (tmp_path / "caches").iterdir()) == ["digests", "near-copies"]  # no pixels


def test_the_text_and_the_json_of_a_report_agree(root: Path) -> None:
    result = checked(root)
    text = "\n".join(result.lines())
    assert text.startswith(f"{root}: 2 classes\n")
    assert dataclasses.replace(result, classes=("cat",)).lines()[0] == f"{root}: 1 class"
    assert "  train            8   4, 4, 4\n" in text
    assert "most common 96x96 (16)" in text
    assert text.endswith("No problems found.")
    data = json.loads(result.to_json())
    assert data["splits"]["train"]["pictures"] == 8
    assert data["sizes"]["common"] == {"96x96": 16}
    assert data["problems"] == []


def test_images_of_nearly_one_colour_are_named_by_class(root: Path) -> None:
    logo = Image.new("RGBA", (96, 96), (255, 255, 255, 0))
    logo.paste((255, 255, 255, 255), (20, 20, 60, 60))
    save(logo, root / "train" / "cat" / "logo.png")
    dark = np.asarray(smooth_image(70)) // 16  # 12-bit values in a file of 16-bit colour
    save(Image.fromarray(dark), root / "train" / "cat" / "dark.png")
    save(Image.new("RGB", (9, 9), "gray"), root / "test" / "dog" / "grey.jpg")
    result = checked(root)
    assert set(result.blank) == {"train/cat/logo.png", "train/cat/dark.png", "test/dog/grey.jpg"}
    assert result.problems == ()
    assert result.notes == (
        "images are nearly one colour (3), by class: cat 2 of 10 (train/cat/dark.png), dog 1 of 9 "
        "(test/dog/grey.jpg). Look at them: white drawings on transparency, files of few bits and failed downloads "
        "look like this",
    )


def test_a_bit_depth_taken_from_the_values_is_reported(root: Path) -> None:
    values = np.asarray(smooth_image(80).convert("L")).astype(np.uint16) * 16
    save(Image.fromarray(values), root / "train" / "cat" / "scan.png")
    result = checked(root)
    assert result.blank == ()
    assert result.notes == ("16-bit grey files whose values need 12 bits are read as such (1): train/cat/scan.png",)


def test_a_strip_is_a_problem_and_does_not_count_in_the_size_of_the_cache(root: Path) -> None:
    expected = checked(root).cache_bytes
    save(Image.new("L", (30_000, 1)), root / "train" / "cat" / "strip.png")
    result = checked(root)
    assert result.broken == {
        "train/cat/strip.png": "30000x1 pixels: the long side is more than 1000 times the short one"
    }
    assert result.cache_bytes == expected


def test_a_cut_of_train_leaves_smaller_copies_with_their_originals(root: Path) -> None:
    shutil.rmtree(root / "valid")
    shutil.rmtree(root / "test")
    for number in range(4):
        save(smooth_image(number + 1).resize((64, 64)), root / "train" / "cat" / f"smaller{number}.png")
    result = checked(root)
    assert result.copies_across_splits == ()
    assert any(note.startswith("near-copies (images that look nearly the same) were left") for note in result.notes)


def test_broken_images_are_found_beside_structural_problems(root: Path) -> None:
    (root / "train" / "empty").mkdir()
    (root / "valid" / "cow").mkdir()
    whole = (root / "test" / "cat" / "0.png").read_bytes()
    (root / "test" / "cat" / "0.png").write_bytes(whole[:2000])
    (root / "train" / "cat" / "note.jpg").write_text("text")
    result = checked(root)
    assert result.broken == {"test/cat/0.png": "truncated", "train/cat/note.jpg": "not an image (text)"}
    empty, cow, broken = result.problems
    assert empty.startswith("train/ has class folders without an image (1): empty.")
    assert cow.startswith("valid/ has a class that train/ does not have: cow.")
    assert broken.startswith("2 of 17 images") and "\n  test/cat/0.png: truncated" in broken
    assert f"problem: {broken}" in result.lines()


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    result = checked(tmp_path / "nowhere")
    assert result.problems[0].startswith(f"{tmp_path}/nowhere: no such folder.")
    assert result.sizes is None and result.classes == ()
    assert result.lines()[-1].startswith("problem: ")
    assert json.loads(result.to_json())["splits"]["train"]["pictures"] == 0


def test_copies_across_splits_are_problems(root: Path) -> None:
    (root / "test" / "cat" / "same.png").write_bytes((root / "train" / "cat" / "1.png").read_bytes())
    save(
        smooth_image(1).resize((64, 64)), root / "valid" / "cat" / "smaller.jpg", quality=60
    )  # train/cat/0.png is seed 1
    result = checked(root)
    near, exact = sorted(result.copies_across_splits, key=lambda pair: pair.exact)
    assert (exact.first, exact.second, exact.likeness) == ("train/cat/1.png", "test/cat/same.png", 1.0)
    assert (near.first, near.second) == ("train/cat/0.png", "valid/cat/smaller.jpg")
    assert duplicates.COPY <= near.likeness <= 1
    assert len(result.problems) == 1 and "train/cat/1.png = test/cat/same.png" in result.problems[0]
    assert len(result.notes) == 1 and "train/cat/0.png ~ valid/cat/smaller.jpg" in result.notes[0]


def test_copies_within_train_are_counted_and_those_under_two_classes_named(root: Path) -> None:
    save(smooth_image(1), root / "train" / "cat" / "again.png")
    save(smooth_image(2), root / "train" / "dog" / "cat really.png")
    save(smooth_image(9), root / "valid" / "cat" / "again.png")  # a copy within valid is not a problem
    result = checked(root)
    assert len(result.copies_in_train) == 2
    assert result.copies_across_splits == ()
    assert result.notes == (
        "the training images contain copies of each other (2 pairs)",
        "duplicate training images have two different labels (1); correct one:"
        "\n  train/cat/1.png ~ train/dog/cat really.png",
    )


def test_unbalanced_classes_are_a_note_with_the_rule_and_the_options(root: Path) -> None:
    for number in range(7):  # eleven cats, four dogs: less than three times as many
        save(smooth_image(100 + number), root / "train" / "cat" / f"more {number}.png")
    assert checked(root).notes == ()
    save(smooth_image(110), root / "train" / "cat" / "one more.png")
    [note] = checked(root).notes
    assert note.startswith(
        "classes of the training images are unbalanced: the largest (cat: 12) has 3 times the images of the smallest "
        "(dog: 4); below 3 they count as balanced."
    )
    for words in ("--class-weights balanced", "--sampler balanced", "--logit-adjust 1"):
        assert words in note
