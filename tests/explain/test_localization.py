"""Attention on the object: known maps, known masks."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.demo import scenes
from harness.errors import DataError
from harness.explain import localization, output, standalone
from harness.explain.archive import write_archive
from harness.explain.images import of_files
from harness.explain.localization import centre_prior, coverage, energy, mask_path, measure, on_object
from harness.explain.output_folder import OutputFolder
from harness.explain.test_set import ExplainResult
from harness.model.preprocessing import Preprocessing
from harness.runs.attention_files import Archive, read_archive
from harness.runs.rules import AGGREGATES
from tests.helpers.explained import made_up_archive

RULE = Preprocessing(
    crop_size=28, resize_size=32, interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
)  # 7 x 7 patches of 4


def save(root: Path, file: str, image: np.ndarray, mask: np.ndarray | None) -> str:
    """An image and its mask, both (H, W) uint8."""
    for path, pixels in ((root / file, image), (mask_path(root, file), mask)):
        if pixels is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return file


def white(height: int, width: int, rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    mask[rows, columns] = 255
    return mask


def archive_of(files: list[str], root: Path, **changed: Any) -> Archive:
    made = made_up_archive(n=len(files), **changed)
    settings = made.settings | {"preprocessing": dataclasses.asdict(RULE), "root": str(root), "seconds": 1.0}
    return dataclasses.replace(made, files=np.array(files), settings=settings)


def test_an_even_map_is_chance_exactly() -> None:
    covered = np.random.default_rng(0).random((5, 49))
    even = np.full((5, 49), np.float16(1 / 49))
    np.testing.assert_allclose(energy(even, covered), covered.mean(1), rtol=1e-14)
    found = measure({"rollout": even}, covered).maps[0]
    assert found.above_chance.value == pytest.approx(0, abs=1e-15)
    assert abs(found.above_chance.low) < 1e-14 and abs(found.above_chance.high) < 1e-14


def test_shares_of_maps_inside_outside_and_half_on_the_object() -> None:
    covered = np.zeros((3, 49))
    covered[:, :10] = 1
    maps = np.zeros((3, 49))
    maps[0, 3], maps[1, 20] = 7, 7
    maps[2, [0, 30]] = 2
    assert energy(maps, covered).tolist() == [1, 0, 0.5]
    assert energy(maps, covered / 4).tolist() == [0.25, 0, 0.125]  # of patches that the object covers in part


def test_masks_are_resized_and_cropped_as_images(tmp_path: Path) -> None:
    # The image is its own mask: what is left of one must be what is left of the other.
    for number, shape in enumerate(((50, 91), (91, 50), (28, 28), (64, 64))):
        drawn = white(*shape, slice(shape[0] // 3, shape[0] // 2), slice(shape[1] // 5, shape[1] // 2))
        file = save(tmp_path, f"test/a/{number}.png", drawn, drawn)
        seen = of_files(tmp_path, [file], RULE)(0)[..., 0] / 255.0
        expected = seen.reshape(7, 4, 7, 4).mean((1, 3)).ravel()
        assert 0 < expected.mean() < 1
        np.testing.assert_allclose(coverage(tmp_path, [file], RULE, 7)[0], expected, atol=1e-12)


def test_a_mask_is_upright_also_where_exif_turns_the_image(tmp_path: Path) -> None:
    file = "test/a/0.jpg"
    save(tmp_path, "test/a/0.png", np.zeros((1, 1), np.uint8), white(64, 32, slice(0, 32), slice(None)))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter: 64 x 32 as stored, 32 x 64 upright
    Image.new("RGB", (64, 32)).save(tmp_path / file, exif=exif)
    covered = coverage(tmp_path, [file], RULE, 7)[0].reshape(7, 7)
    assert (covered[:3] == 1).all() and (covered[4:] == 0).all()


def test_the_prior_at_the_centre() -> None:
    prior = centre_prior(7).reshape(7, 7)
    assert prior.argmax() == 24 and np.array_equal(prior, prior.T) and np.allclose(prior, prior[::-1])
    # Three patches of seven from the centre are 3/7 of the side; the standard deviation is a quarter of it.
    assert prior[3, 6] / prior[3, 3] == pytest.approx(np.exp(-0.5 * (3 / 7 / 0.25) ** 2))


def test_intervals_are_paired_and_cover_the_mean() -> None:
    random = np.random.default_rng(1)
    covered = np.zeros((40, 49))
    for index, size in enumerate(random.integers(2, 40, 40)):
        covered[index, random.permutation(49)[:size]] = 1
    # Twice as dense on the object as elsewhere: shares differ a lot between images, their lead on chance less so.
    found = measure({"rollout": 1 + covered, "relevance": np.ones((40, 49))}, covered)
    rollout, even = found.maps
    assert (found.n, rollout.n) == (40, 40)
    assert found.chance.value == pytest.approx(covered.mean())
    shares = 2 * covered.sum(1) / (49 + covered.sum(1))
    assert rollout.share.value == pytest.approx(shares.mean())
    assert rollout.share.low < rollout.share.value < rollout.share.high
    # As the normal approximation has it.
    assert rollout.share.high - rollout.share.low == pytest.approx(3.92 * shares.std() / np.sqrt(40), rel=0.1)
    width = rollout.above_chance.high - rollout.above_chance.low
    assert rollout.above_chance.low > 0 and width < 0.4 * (rollout.share.high - rollout.share.low)
    assert even.share == found.chance and even.above_chance.high == 0
    assert measure({"rollout": 1 + covered}, covered).maps[0] == rollout


def test_maps_without_mass_have_no_share() -> None:
    covered = np.random.default_rng(0).random((4, 49))
    partly = np.ones((4, 49))
    partly[1], partly[2, 5] = 0, np.nan
    found = measure({"rollout": partly, "relevance": np.zeros((4, 49))}, covered)
    assert [one.name for one in found.maps] == ["rollout"] and found.maps[0].n == 2
    assert found.maps[0].share.value == pytest.approx(covered[[0, 3]].mean())
    assert "relevance" not in found.sentence() and "object/relevance" not in found.summary()


def test_images_that_have_masks_are_measured(tmp_path: Path) -> None:
    left = white(28, 28, slice(None), slice(0, 14))
    files = [
        save(tmp_path, "test/a/0.png", left, left),
        save(tmp_path, "test/a/1.png", left, None),
        save(tmp_path, "test/b/2.png", left, left),
        # Its object is at the edge that is cropped off.
        save(
            tmp_path, "test/b/3.png", white(40, 80, slice(None), slice(0, 4)), white(40, 80, slice(None), slice(0, 4))
        ),
    ]
    seen = archive_of(files, tmp_path)
    found = on_object(seen, tmp_path)
    assert found and found.n == 2
    assert [one.name for one in found.maps] == [*AGGREGATES, "layer 1", "layer 2", "layer 3"]
    covered = coverage(tmp_path, [files[0]], RULE, 7)[0]
    measured = {2: seen.layers.mean(1), 3: seen.rollout, 6: seen.layers[:, 2]}
    for (index, every), name in zip(measured.items(), ("mean over layers", "rollout", "layer 3"), strict=True):
        maps = every[[0, 2]]
        one = found.maps[index]
        expected = (maps.astype(float) @ covered / maps.astype(float).sum(1)).mean()
        assert one.name == name and one.share.value == pytest.approx(expected, rel=2e-3)


def test_bad_masks_are_named_together(tmp_path: Path) -> None:
    image = white(28, 28, slice(0, 9), slice(0, 9))
    good = save(tmp_path, "test/good.png", image, image)
    small = save(tmp_path, "test/small.png", image, image[:20])
    dark = save(tmp_path, "test/dark.png", image, image // 255)
    broken = save(tmp_path, "test/broken.png", image, image)
    mask_path(tmp_path, broken).write_bytes(b"")
    with pytest.raises(DataError) as raised:
        coverage(tmp_path, [good, small, dark, broken], RULE, 7)
    said = str(raised.value)
    assert "3 of 4 masks cannot be used" in said
    assert "masks/test/small.png (28x20 pixels, its image has 28x28)" in said
    assert "masks/test/dark.png (its brightest value is 1; object pixels must be 255)" in said
    assert "masks/test/broken.png (empty file)" in said


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "draw", lambda *_: {})


def look(seen: Archive, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """What a summary keeps of a look, and what is said of it."""
    said: list[str] = []
    sight = ExplainResult(seen, lambda index: np.zeros((28, 28, 3), np.uint8), None, np.zeros(0), np.zeros(0))
    return output.write_and_log(sight, OutputFolder.of_run(folder), None, said.append), said


@pytest.mark.usefixtures("undrawn")
def test_attention_is_measured_on_the_objects_of_the_demo_scenes(tmp_path: Path) -> None:
    root = scenes.write(tmp_path / "scenes", classes=scenes.DEMO_CLASSES[:2], train=1, valid=1, test=3)
    files = sorted(path.relative_to(root).as_posix() for path in root.glob("test/*/*.jpg"))
    covered = coverage(root, files, RULE, 7)
    seen = archive_of(files, root, rollout=covered.astype(np.float16))
    summary, said = look(seen, tmp_path)
    kept = json.loads((tmp_path / "attention" / "object.json").read_text())
    assert summary["object/n"] == kept["n"] == 6
    assert summary["object/chance"] == kept["chance"]["value"] == pytest.approx(covered.mean())
    rollout = next(one for one in kept["maps"] if one["name"] == "rollout")
    assert summary["object/rollout"] == rollout["share"]["value"]
    assert summary["object/rollout_low"] == rollout["share"]["low"] < summary["object/rollout_high"]
    assert rollout["above_chance"]["low"] > 0.1 and rollout["above_centre"]["low"] > 0.1
    assert {"object/mean", "object/relevance", "object/centre"} < set(summary)
    assert [line for line in said if line.startswith("On the object (6 images with masks")]


@pytest.mark.usefixtures("undrawn")
def test_missing_masks_print_nothing_and_bad_masks_lose_only_their_measurement(tmp_path: Path) -> None:
    image = white(28, 28, slice(0, 9), slice(0, 9))
    files = [save(tmp_path, f"test/a/{number}.png", image, None) for number in range(2)]
    seen = archive_of(files, tmp_path)
    summary, said = look(seen, tmp_path)
    assert not [key for key in summary if key.startswith("object/")] and "object" not in " ".join(said)
    assert not (tmp_path / "attention" / "object.json").exists()
    save(tmp_path, files[0], image, image)
    assert look(seen, tmp_path)[0]["object/n"] == 1
    mask_path(tmp_path, files[0]).write_bytes(b"")
    summary, said = look(seen, tmp_path)
    assert "1 of 1 masks cannot be used" in said[0] and "object/n" not in summary
    assert not (tmp_path / "attention" / "object.json").exists()


@pytest.mark.usefixtures("undrawn")
def test_masks_in_a_forbidden_folder_lose_only_their_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_file = Path.is_file

    def refuse(path: Path) -> bool:
        if localization.FOLDER in path.parts:
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    files = [save(tmp_path, "test/a/0.png", white(28, 28, slice(0, 9), slice(0, 9)), None)]
    monkeypatch.setattr(Path, "is_file", refuse)
    summary, said = look(archive_of(files, tmp_path), tmp_path)
    assert "Permission denied" in said[0] and str(mask_path(tmp_path, files[0])) in said[0]
    assert "seconds/draw" in summary and "object/n" not in summary


def test_maps_without_any_mass_give_no_measurement(tmp_path: Path) -> None:
    image = white(28, 28, slice(0, 9), slice(0, 9))
    seen = archive_of([save(tmp_path, "test/a/0.png", image, image)], tmp_path)
    assert on_object(seen, tmp_path) is not None
    nothing = {name: np.zeros_like(getattr(seen, name)) for name in ("layers", "rollout", "relevance", "legrad")}
    assert on_object(dataclasses.replace(seen, **nothing), tmp_path) is None


def test_files_of_earlier_arrays_are_removed_if_explaining_ends_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = white(28, 28, slice(0, 9), slice(0, 9))
    files = [save(tmp_path, f"test/a/{number}.png", image, image) for number in range(2)]
    belonging = [
        tmp_path / name
        for name in ("attention/object.json", "attention/sprites/sprites.json", "figures/attention_object.png")
    ]
    look(archive_of(files, tmp_path), tmp_path)
    assert all(path.is_file() for path in belonging)
    monkeypatch.setattr(localization, "on_object", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        look(archive_of(files[1:], tmp_path), tmp_path)
    assert len(read_archive(tmp_path / "attention" / "attention.npz", Archive)) == 1
    assert not [path for path in belonging if path.exists()]


def test_redrawing_without_masks_keeps_the_earlier_measurement(tmp_path: Path) -> None:
    image = white(28, 28, slice(0, 9), slice(0, 9))
    files = [save(tmp_path / "data", f"test/a/{number}.png", image, image) for number in range(2)]
    look(archive_of(files, tmp_path / "data"), tmp_path)
    belonging = [tmp_path / "attention" / "object.json", tmp_path / "figures" / "attention_object.png"]
    before = [path.read_bytes() for path in belonging]
    shutil.rmtree(tmp_path / "data" / "masks")
    standalone.redraw(OutputFolder.of_run(tmp_path), None, print)
    assert [path.read_bytes() for path in belonging] == before


def test_a_run_folder_from_before_sprites_and_objects_is_drawn_again_with_them(tmp_path: Path) -> None:
    image = white(28, 28, slice(0, 9), slice(0, 9))
    files = [save(tmp_path, f"test/a/{number}.png", image, image) for number in range(2)]
    write_archive(tmp_path / "attention" / "attention.npz", archive_of(files, tmp_path))
    (tmp_path / "config.json").write_text("{}")
    said: list[str] = []
    standalone.redraw(OutputFolder.of_run(tmp_path), None, said.append)
    assert json.loads((tmp_path / "attention" / "object.json").read_text())["n"] == 2
    assert json.loads((tmp_path / "attention" / "sprites" / "sprites.json").read_text())["pictures"] == [0, 1]
    assert (tmp_path / "figures" / "attention_object.png").is_file()
    assert said[0].startswith("On the object (2 images with masks")


def test_the_folder_is_where_the_scenes_are_written(tmp_path: Path) -> None:
    root = scenes.write(tmp_path / "scenes", classes=scenes.DEMO_CLASSES[:2], train=1, valid=1, test=1)
    assert {path.relative_to(root).parts[0] for path in root.rglob("*.png")} == {localization.FOLDER}
    for image in root.rglob("*.jpg"):
        assert mask_path(root, image.relative_to(root).as_posix()).is_file()
