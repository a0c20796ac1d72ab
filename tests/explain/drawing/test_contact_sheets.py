"""Sheets of many images: what is on which page in which order, and the numbers behind the colours."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.explain.drawing import canvas, contact_sheets, right_wrong
from harness.explain.maps import comparable_maps
from harness.runs.attention_files import Archive
from tests.helpers.explained import made_up_archive, plain_images

CLASS_MEANS = ["class_means_relevance_1", "class_means_legrad_1", "class_means_rollout_1"]


def drawn_texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that is written from here on, as it was meant."""
    lines: list[str] = []
    write = contact_sheets.write

    def recording(image: Image.Image, place: tuple[int, int], text: str, size: int, **options: Any) -> None:
        x, y = place
        assert 0 <= x <= image.width and 0 <= y <= image.height
        lines.append(text)
        write(image, place, text, size, **options)

    monkeypatch.setattr(contact_sheets, "write", recording)
    monkeypatch.setattr(right_wrong, "write", recording)
    return lines


def make(archive: Archive, folder: Path) -> dict[str, Path]:
    images = plain_images(archive)
    return contact_sheets.contact_sheets(archive, lambda index: images[index], folder)


def test_every_kind_of_sheet_is_made(tmp_path: Path) -> None:
    paths = make(made_up_archive(), tmp_path / "sheets")
    names = [
        "confidence_1",
        "error_1",
        *CLASS_MEANS,
        "right_wrong",
    ]
    assert list(paths) == names
    assert sorted(path.name for path in (tmp_path / "sheets").iterdir()) == sorted(f"{name}.jpg" for name in names)
    for path in paths.values():
        with Image.open(path) as file:
            assert file.format == "JPEG" and 700 <= file.width <= 1600


def test_images_are_ordered_by_confidence_and_by_error() -> None:
    archive = made_up_archive(
        probability=np.array([0.9, 0.2, 0.5, 0.5, 1, np.nan], np.float32),
        label_probability=np.array([0.9, 0.1, 0.5, np.nan, 0.05, 0.3], np.float32),
        labels=np.array([0, 1, 2, -1, 0, 1], np.int32),
    )
    assert contact_sheets.by_confidence(archive).tolist() == [5, 1, 2, 3, 0, 4]
    assert contact_sheets.by_error(archive).tolist() == [4, 1, 5, 2, 0]


def test_sheet_shows_images_in_order_framed_by_right_and_wrong() -> None:
    archive, order = made_up_archive(n=9), np.array([4, 1, 8, 0, 3, 2, 7])
    images = plain_images(archive)
    pixels = np.asarray(contact_sheets.contact_sheet(archive, lambda index: images[index], order, "some"))
    side, wide, high = 112, 2 * 112 + 2 * right_wrong.GAP, 112 + 64
    for number, index in enumerate(order):
        x = right_wrong.MARGIN + number % contact_sheets.COLUMNS * wide
        y = right_wrong.HEADER + number // contact_sheets.COLUMNS * high
        assert (pixels[y : y + side, x : x + side] == images[index][0, 0]).all()
        assert tuple(pixels[y - 1, x]) == (canvas.RIGHT if index % 2 == 0 else canvas.WRONG)
        # The brightest cell of the overlay, which lies over one grey, is where the map is largest.
        cells = pixels[y : y + side, x + side : x + 2 * side].reshape(7, 16, 7, 16, 3)[:, 8, :, 8].astype(int).sum(-1)
        assert cells.ravel()[archive.relevance[index].argmax()] == cells.max()


def test_pages_are_filled_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contact_sheets, "ROWS", 1)
    monkeypatch.setattr(contact_sheets, "PAGES", 3)
    lines = drawn_texts(monkeypatch)
    paths = make(made_up_archive(n=14), tmp_path)
    assert [name for name in paths if name.startswith("confidence")] == [f"confidence_{page}" for page in (1, 2, 3)]
    assert "Lowest confidence first: 13 to 14 of 14" in lines
    lines.clear()
    paths = make(made_up_archive(n=20), tmp_path)
    assert [name for name in paths if name.startswith("error")] == [f"error_{page}" for page in (1, 2, 3)]
    title = "Lowest probability of the true class first: 13 to 18 of 20; the last 2 are not shown"
    assert title in lines
    shown = [line for line in lines if line.startswith("image ")]
    assert len(shown) == 2 * 18


def test_texts_say_what_was_predicted_and_what_is_true(monkeypatch: pytest.MonkeyPatch) -> None:
    archive = made_up_archive(outlier_attention=np.full(6, 0.5, np.float32))
    archive.labels[4] = -1
    lines = drawn_texts(monkeypatch)
    contact_sheets.contact_sheet(archive, lambda index: plain_images(archive)[index], np.arange(6), "title")
    scale = f"⚠ {1 / 49:.2g} to {archive.relevance[0].max():.2g}"
    assert lines[2:6] == ["50 % ant", "right", "image 1", scale]
    assert lines[6:8] == ["59 % cat", "20.5 % truth: bee"]
    assert lines[18:20] == ["86 % bee", "truth unknown"]


def test_without_labels_there_are_no_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = made_up_archive(labels=np.full(6, -1, np.int32), label_probability=np.full(6, np.nan, np.float32))
    lines = drawn_texts(monkeypatch)
    paths = make(archive, tmp_path)
    assert list(paths) == ["confidence_1", *CLASS_MEANS]
    assert "Mean rollout of the predicted classes: 1 to 3 of 3" in lines


def test_class_means_are_means() -> None:
    archive = made_up_archive(n=9)
    (_, image), *more = contact_sheets.class_means(archive, "rollout")
    assert not more
    pixels, side = np.asarray(image), 84
    means = np.stack([archive.rollout[label::3].astype(float).mean(0) for label in range(3)])
    differences = means - means.mean(0)
    most = np.quantile(np.abs(differences), 0.99)
    for number in range(3):
        x, y = right_wrong.MARGIN + number * (2 * side + 2 + right_wrong.GAP), right_wrong.HEADER + 28
        for values, low, high, table, left in (
            (means[number], 0, means[number].max(), canvas.SEQUENTIAL, x),
            (differences[number], -most, most, canvas.DIVERGING, x + side + 2),
        ):
            cells = pixels[y : y + side, left : left + side].reshape(7, 12, 7, 12, 3)[:, 6, :, 6].reshape(49, 3)
            places = ((values - low) / (high - low)).clip(0, 1) * 255
            expected = canvas.colour_table(table)[[np.floor(places).astype(int), np.ceil(places).astype(int)]]
            assert (cells == expected).all(-1).any(0).all()


def test_relevance_counts_every_image_the_same() -> None:
    archive = made_up_archive()
    louder = dataclasses.replace(archive, relevance=archive.relevance * np.array([[1000], [1], [1], [1], [1], [0]]))
    maps, again = (comparable_maps(each)["relevance"] for each in (archive, louder))
    np.testing.assert_allclose(maps.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(again[:5], maps[:5], rtol=1e-5)
    assert (again[5] == 0).all()


def test_right_against_wrong_is_that_worked_out_by_hand() -> None:
    right = np.array([[1.0, 4, 2], [3, 4, 2]])
    wrong = np.array([[0.0, 1, 2], [0, 3, 2], [0, 5, 2], [0, 7, 2]])
    compared = right_wrong._compared(right, wrong, right_wrong.Difference(np.array([True, False, False]), 0.01))
    np.testing.assert_allclose(compared[0][0], [2, 4, 2])
    np.testing.assert_allclose(compared[1][0], [0, 4, 2])
    assert compared[0][1:3] == compared[1][1:3] == (0, 4)
    np.testing.assert_allclose(compared[2][0], [2, 0, 0])
    assert compared[2][1:3] == (-2, 2)
    np.testing.assert_allclose(compared[3][0], [2, 0, 0])
    assert compared[3][1:3] == (-2, 2)


def test_a_planted_difference_is_marked_and_nothing_else_is() -> None:
    random = np.random.default_rng(0)
    right, wrong = random.random((60, 49)), random.random((30, 49))
    wrong[:, 10] += 1
    difference = right_wrong.beyond_chance(right, wrong)
    assert difference.marked is not None
    assert np.flatnonzero(difference.marked).tolist() == [10]
    assert difference.text == "1 of 49 patches, p ≤ 0.001"


def test_maps_without_a_difference_are_marked_at_the_nominal_rate() -> None:
    random = np.random.default_rng(1)
    # 20 wrong images, as many as the test asks for; skewed maps, as attention is.
    marked = [
        right_wrong.beyond_chance(random.exponential(size=(80, 16)), random.exponential(size=(20, 16))).marked
        for _ in range(200)
    ]
    # 10 of 200 are expected; more than 19 has a probability below 0.3 %.
    assert 1 <= sum(bool(one.any()) for one in marked if one is not None) <= 19


def test_fewer_than_twenty_images_on_a_side_are_too_few() -> None:
    random = np.random.default_rng(2)
    difference = right_wrong.beyond_chance(random.random((60, 49)), 100 + random.random((19, 49)))
    assert difference.marked is None and difference.text == "too few images"


@pytest.mark.parametrize("wrong", [0, 1, 3])
def test_with_too_few_wrong_images_the_difference_is_grey(wrong: int) -> None:
    archive = made_up_archive(n=7)
    archive.predicted[:] = archive.labels
    archive.predicted[:wrong] = (archive.labels[:wrong] + 1) % 3
    pixels = np.asarray(right_wrong.right_wrong(archive))
    top = right_wrong.HEADER + 24
    tiles = [pixels[top + row * (168 + 26) :][:168, 150 : 150 + 168] for row in range(4)]
    grey = [bool((part == canvas.NOT_FINITE).all()) for part in tiles]
    assert grey == ([False, True, True, True] if wrong == 0 else [False, False, False, True])


def test_numbers_beside_right_and_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = drawn_texts(monkeypatch)
    right_wrong.right_wrong(made_up_archive())
    assert lines[0] == "3 right against 3 wrong images"
    at = lines.index("probability of the prediction")
    # 0.5, 0.68, 0.86 against 0.59, 0.77, 0.95; the deviation of both is 0.18, over √3.
    assert lines[at + 1 : at + 5] == ["0.68", "± 0.1", "0.77", "± 0.1"]


def test_attention_that_is_not_on_patches_has_the_name_of_its_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    lines, archive = drawn_texts(monkeypatch), made_up_archive()
    right_wrong.right_wrong(archive)
    assert "class token on itself, last layer" in lines
    archive.settings["prefix_tokens"] = 3
    right_wrong.right_wrong(archive)
    assert "attention not on patches, last layer" in lines


@pytest.mark.parametrize("grid", [1, 7, 24])
def test_any_grid_and_any_name(grid: int, tmp_path: Path) -> None:
    archive = made_up_archive(grid=grid, classes=("W" * 200, "競技場", ""), n=5)
    for path in make(archive, tmp_path).values():
        with Image.open(path) as file:
            pixels = np.asarray(file).astype(int)
        assert (pixels[:, -8:] > 240).all() and (pixels[-4:] > 240).all()
