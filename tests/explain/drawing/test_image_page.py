"""Pages of single images, read back pixel by pixel."""

from __future__ import annotations

import dataclasses
import errno
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageFont

from harness.errors import TrainingError
from harness.explain.drawing import canvas, image_page, page_layout
from harness.explain.drawing.canvas import percent
from harness.runs.attention_files import Archive
from tests.helpers.explained import made_up_archive, plain_images


def page_of(archive: Archive, index: int = 0, image: np.ndarray | None = None) -> tuple[np.ndarray, page_layout.Page]:
    image = plain_images(archive)[index] if image is None else image
    return np.asarray(image_page.draw_page(archive, index, image)), page_layout.Page.of(archive)


def values_in(pixels: np.ndarray, place: tuple[int, int], page: page_layout.Page, grid: int) -> np.ndarray:
    """The colours of a small map as shares of its scale, (g, g); every pixel of a cell must be alike."""
    x, y = place
    part = pixels[y : y + page.side, x : x + page.side].reshape(grid, page.factor, grid, page.factor, 3)
    assert (part == part[:, :1, :, :1]).all()
    cells = part[:, 0, :, 0].astype(int)
    table = canvas.colour_table(canvas.SEQUENTIAL).astype(int)
    distances = np.abs(cells[:, :, None] - table).sum(-1)
    assert (distances.min(-1) == 0).all()
    return distances.argmin(-1) / 255


@pytest.mark.parametrize("name", [canvas.SEQUENTIAL, canvas.DIVERGING])
def test_the_colour_table_is_that_of_matplotlib(name: str) -> None:
    table = canvas.colour_table(name)
    assert table.shape == (256, 3) and table.dtype == np.uint8
    np.testing.assert_allclose(table / 255, matplotlib.colormaps[name](np.arange(256))[:, :3], atol=0.5 / 255 + 1e-9)


def test_sequential_table_is_brighter_with_every_step() -> None:
    """Also without colour: relative luminance never falls."""
    luminance = canvas.colour_table(canvas.SEQUENTIAL).astype(float) @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(luminance) > -0.5).all() and luminance[-1] - luminance[0] > 200


def test_colours_end_at_the_scale() -> None:
    table = canvas.colour_table("inferno")
    drawn = canvas.coloured(np.array([-1, 0, 0.5, 1, 2]), 0, 1)
    np.testing.assert_array_equal(drawn, table[[0, 0, 128, 255, 255]])
    np.testing.assert_array_equal(canvas.coloured(np.array([np.nan, np.inf]), 0, 1), [canvas.NOT_FINITE] * 2)
    np.testing.assert_array_equal(canvas.coloured(np.zeros(2), 0, 0), table[[0, 0]])


@pytest.mark.parametrize("grid", [7, 14, 24])
def test_maps_show_their_numbers_each_on_its_own_scale(grid: int) -> None:
    archive = made_up_archive(grid=grid, layers=13, heads=3)
    pixels, page = page_of(archive, 2)
    for places, maps in ((page.strips[0], archive.layers[2]), (page.strips[2], archive.heads[2])):
        assert len(places) == len(maps)
        for place, cells in zip(places, maps.astype(float), strict=True):
            drawn = values_in(pixels, place, page, grid)
            np.testing.assert_allclose(drawn, (cells / cells.max()).reshape(grid, grid), atol=0.6 / 255)
            assert drawn.ravel()[cells.argmax()] == 1
    assert archive.legrad is not None
    means = (archive.relevance[2], archive.legrad[2], archive.layers[2].mean(0, dtype=float), archive.rollout[2])
    for place, cells in zip(page.small, means, strict=True):
        drawn = values_in(pixels, place, page, grid)
        np.testing.assert_allclose(drawn.ravel(), cells / cells.max(), atol=1 / 255)


def test_second_strip_has_one_scale() -> None:
    archive = made_up_archive()
    archive.layers[0, 1] *= 4
    archive.heads[0, 0] *= 3
    pixels, page = page_of(archive)
    for places, maps in ((page.strips[1], archive.layers[0]), (page.strips[3], archive.heads[0])):
        for place, cells in zip(places, maps, strict=True):
            drawn = values_in(pixels, place, page, 7).ravel()
            np.testing.assert_allclose(drawn, cells / maps.max(), atol=1 / 255)


def test_overlay_keeps_image_and_map() -> None:
    image = np.zeros((14, 14, 3), np.uint8)
    image[:, 7:] = 200
    cells = np.zeros(49)
    cells[24] = 1
    drawn = canvas.overlay(image, cells).astype(int)
    centre, lit, dark = drawn[6, 6], drawn[0, 13], drawn[0, 0]
    assert (np.abs(lit - dark - 100) <= 1).all()  # half of the image, in grey
    expected = 0.6 * canvas.colour_table("inferno")[255]
    assert (np.abs(centre - expected) <= 1).all()
    pixels, page = page_of(made_up_archive(), 0, image)
    x, y = page.large[0]
    seen = pixels[y : y + 2 * page.side, x : x + 2 * page.side]
    assert (seen[:, : page.side - 12] == 0).all() and (seen[:, page.side + 12 :] == 200).all()


def test_overlay_shows_what_is_above_the_mean() -> None:
    image, table = np.zeros((14, 14, 3), np.uint8), 0.6 * canvas.colour_table(canvas.SEQUENTIAL)
    cells = np.tile([1.0, 3.0], 25)[:49]
    cells[48] = 4
    drawn = canvas.overlay(image, cells)[::2, ::2].reshape(49, 3)
    low, high = canvas.above_mean(cells)
    assert (low, high) == (pytest.approx(cells.mean()), 4)
    np.testing.assert_allclose(drawn[[0, 48]], table[[0, 255]], atol=1)
    np.testing.assert_allclose(drawn[1], table[round(255 * (3 - low) / (4 - low))], atol=1)
    # What hardly differs is not drawn as if it did.
    even = np.full(49, 1.0)
    even[5] = 1.1
    drawn = canvas.overlay(image, even)[::2, ::2].reshape(49, 3)
    np.testing.assert_allclose(drawn[5], table[round(255 * (1.1 - even.mean()) / (0.25 * even.mean()))], atol=1)
    assert canvas.above_mean(np.full(4, np.nan)) == (0, 0)


@pytest.mark.parametrize(
    ("layers", "heads", "grid"),
    [(1, 1, 7), (12, 12, 14), (24, 16, 14), (32, 16, 24), (6, 5, 1), (6, 4, 8), (6, 12, 14), (12, 3, 14)],
)
def test_nothing_overlaps_or_leaves_the_page(layers: int, heads: int, grid: int) -> None:
    page = page_layout.Page.of(made_up_archive(n=1, layers=layers, heads=heads, grid=grid))
    assert [len(places) for places in page.strips] == [layers, layers, heads, heads]
    boxes = [(x, y, 2 * page.side) for x, y in page.large] + [(x, y, page.side) for x, y in page.small]
    boxes += [(x, y, page.side + page_layout.CAPTION - 4) for places in page.strips for x, y in places]
    used = np.zeros((page.height, page.width), int)
    for x, y, side in boxes:
        assert x >= 0 and y >= 0 and x + min(side, page.side if side < 2 * page.side else side) <= page.width
        assert y + side <= page.height
        used[y : y + side, x : x + (side if side == 2 * page.side else page.side)] += 1
    assert used.max() == 1
    assert page.factor * grid == page.side and 84 <= page.side <= 140


@pytest.mark.parametrize(("layers", "heads"), [(6, 4), (12, 12), (6, 12), (2, 3)])
def test_the_width_of_the_page_is_used(layers: int, heads: int) -> None:
    """Maps reach into the last third of the page, also for few layers and heads."""
    page = page_layout.Page.of(made_up_archive(n=1, layers=layers, heads=heads))
    for first in (0, 2):
        rightmost = max(x + page.side for places in page.strips[first : first + 2] for x, _ in places)
        assert rightmost > 2 / 3 * page.width
    is_half = [2 * count <= page_layout.PER_ROW for count in (layers, heads)]
    for half, own, shared in zip(is_half, page.strips[::2], page.strips[1::2], strict=True):
        assert ({y for _, y in own} == {y for _, y in shared}) == half


def written(monkeypatch: pytest.MonkeyPatch, archive: Archive, index: int = 0) -> str:
    """All text of a page, one line each."""
    lines = []
    write = image_page.write

    def recording(image: Image.Image, place: tuple[int, int], text: str, size: int, **options: object) -> None:
        lines.append(text)
        write(image, place, text, size, **options)

    monkeypatch.setattr(image_page, "write", recording)
    image_page.draw_page(archive, index, plain_images(archive)[index])
    return "\n".join(lines)


def test_text_gives_prediction_truth_and_scales(monkeypatch: pytest.MonkeyPatch) -> None:
    archive = made_up_archive()
    text = written(monkeypatch, archive, 1)
    for line in ("wrong", "59 % predicted: cat", "20.5 % truth: bee", "image 2 of 6: bee/1.png"):
        assert line in text.split("\n")
    for cells in (*archive.layers[1], *archive.heads[1], archive.rollout[1]):
        assert f"0 to {100 * float(cells.max()):.3g} %" in text
    assert f"one scale: 0 to {100 * float(archive.layers[1].max()):.3g} %" in text
    assert f"0 to {float(archive.relevance[1].max()):.3g}\n" in text
    assert "each head of layer 3" in text and "⚠" not in text


def test_text_counts_the_prefix_tokens_and_says_whose_attention_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    archive = made_up_archive(grid=7)
    text = written(monkeypatch, archive)
    assert f"uniform attention: {percent(1 / 50)} per patch" in text
    assert f" of {math.log(50):.2f} nats," in text
    assert "on itself" in text
    assert "Attention of the class token in each layer" in text
    archive.settings.update({"prefix_tokens": 3, "pools_patches": True})
    text = written(monkeypatch, archive)
    assert f"uniform attention: {percent(1 / 52)} per patch" in text
    assert f" of {math.log(52):.2f} nats," in text
    assert "not on patches" in text and "on itself" not in text
    assert "Attention of the patches (mean) by each head of layer 3" in text and "class token" not in text
    archive.settings["prefix_tokens"] = "3"  # from a damaged file
    assert f"uniform attention: {percent(1 / 50)} per patch" in written(monkeypatch, archive)


def test_unknown_labels_are_neither_right_nor_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = dataclasses.replace(made_up_archive(), labels=np.full(6, -1, np.int32))
    text = written(monkeypatch, unknown)
    assert "truth unknown" in text and "nan" not in text and "right\n" not in text


def test_the_page_warns_of_outliers(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = np.array([0.6, 0.4, 0, 0, 0, 0], np.float32)
    archive = made_up_archive(outlier_attention=taken, outlier_share=np.full(6, 0.02, np.float32))
    assert "⚠ maps may mislead: in one layer 60 % of the attention is on outliers, 2 % of the patches" in written(
        monkeypatch, archive, 0
    )
    assert "⚠" not in written(monkeypatch, archive, 1)


def test_values_that_are_not_finite_are_grey_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    archive = made_up_archive()
    archive.rollout[0] = np.nan
    pixels, page = page_of(archive)
    x, y = page.small[3]
    assert (pixels[y : y + page.side, x : x + page.side] == canvas.NOT_FINITE).all()
    assert "0 to 0 %, grey: not finite" in written(monkeypatch, archive)


@pytest.mark.parametrize("name", ["W" * 300, "競技場 " * 30, "каток", "מגרש", "a\nb\tc", "<b>&amp;</b> $\\frac$", ""])
def test_class_names_stay_within_their_room(name: str) -> None:
    archive = made_up_archive(classes=(name, "bee", name + "2"))
    pixels, page = page_of(archive)
    assert pixels.shape == (page.height, page.width, 3)
    assert (pixels[:, -page_layout.MARGIN :] == 255).all() and (pixels[:, : page_layout.MARGIN - 1] == 255).all()
    # The room between prediction and truth is empty, however long the first is.
    ink = (pixels[10:40] < 128).any((0, 2))
    words = np.flatnonzero(np.diff(np.flatnonzero(ink)) > 15)
    assert len(words) >= 2


def test_long_text_ends_in_an_ellipsis() -> None:
    whole, width = "a long name of a class", 90
    cut = canvas.cut(whole, width, 14)
    assert cut.endswith("…") and whole.startswith(cut[:-1].rstrip()) and len(cut) > 5
    assert canvas.font(14).getlength(cut) <= width < canvas.font(14).getlength(whole)
    assert canvas.cut("short", 90, 14) == "short"


def test_texts_that_need_no_shaping_have_one_lettering(monkeypatch: pytest.MonkeyPatch) -> None:
    layouts = {canvas.font(14, text).layout_engine for text in ("polo", "Pélo – π × Я…", "⚠ 3 − 2", "\ufffd")}
    assert layouts == {ImageFont.Layout.BASIC}
    mixed = "AVAVAVA Tomato, water VAVA To سلام"
    for width in range(30, 150):  # what is left of it may need no shaping
        cut = canvas.cut(mixed, width, 14)
        assert canvas.font(14, cut).getlength(cut) <= width
    canvas._open.cache_clear()
    monkeypatch.setattr(ImageFont.core, "HAVE_RAQM", False)
    with warnings.catch_warnings(action="error"):
        canvas.font(14, "سلام")
    canvas._open.cache_clear()


def test_letters_that_no_font_has_leave_the_number_of_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canvas, "_installed_fonts", tuple)
    names: Sequence[str] = ("ant", "𓀀𓀁")
    assert canvas.class_name(names, 0) == "ant"
    assert canvas.class_name(names, 1) == "class 1 𓀀𓀁"
    assert canvas.class_name(names, -1) == canvas.class_name(names, 7) == "unknown"


def test_every_image_gets_a_file(tmp_path: Path) -> None:
    archive = made_up_archive(n=3)
    archive = dataclasses.replace(archive, files=np.array(["../../etc/passwd", "a b/ü.jpeg", "." * 300]))
    images = plain_images(archive)
    paths = image_page.draw_pages(archive, lambda index: images[index], tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["00000-etc-passwd.jpg", "00001-a-b-ü.jpg", "00002-picture.jpg"]
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == sorted(path.name for path in paths)
    for index, path in enumerate(paths):
        exact = np.asarray(image_page.draw_page(archive, index, images[index])).astype(int)
        with Image.open(path) as file:
            assert file.format == "JPEG"
            assert np.abs(np.asarray(file).astype(int) - exact).mean() < 3


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Image.Image, file: BinaryIO, **options: object) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    archive = made_up_archive(n=1)
    with pytest.raises(TrainingError, match="No space left"):
        image_page.draw_pages(archive, lambda index: plain_images(archive)[index], tmp_path)
    assert list(tmp_path.iterdir()) == []
