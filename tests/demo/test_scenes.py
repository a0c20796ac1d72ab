"""The built-in data: scenes, image folders, and the weights of `--weights demo`."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torchvision.models import VisionTransformer

from harness.demo import scenes
from harness.demo.scenery.palette import choose_ink
from harness.demo.scenery.shapes import JOINTS, body, bounds, moved
from harness.demo.scenery.sports import DEMO_SPORTS
from harness.errors import DataError
from harness.model.architectures import ARCHITECTURES
from harness.model.pretrained import DEMO_FILE
from tests.demo.pretraining import train
from tests.demo.pretraining.sports import POSES, PRETRAIN_SPORTS

ALL_SPORTS = DEMO_SPORTS | PRETRAIN_SPORTS
TINY = ("goal_kick", "ring_hang")


def contents(root: Path) -> dict[str, bytes]:
    """Every file under `root`, by relative path."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_there_are_ten_demo_classes_and_other_pretraining_classes() -> None:
    assert len(scenes.DEMO_CLASSES) == 10
    assert 20 <= len(PRETRAIN_SPORTS) <= 30
    assert not set(scenes.DEMO_CLASSES) & set(PRETRAIN_SPORTS)
    assert list(scenes.DEMO_CLASSES) == sorted(scenes.DEMO_CLASSES)


def test_no_demo_sport_equals_a_pretraining_sport_with_another_name() -> None:
    pretrained = [(sport.pose, *(part.shapes for part in sport.parts)) for sport in PRETRAIN_SPORTS.values()]
    for name, sport in DEMO_SPORTS.items():
        assert (sport.pose, *(part.shapes for part in sport.parts)) not in pretrained, name


@pytest.mark.parametrize("name", ALL_SPORTS)
def test_a_scene_has_the_right_shape_and_a_plausible_mask(name: str) -> None:
    for index in (1, 2, 3):
        pixels, mask = scenes.draw(name, seed=0, index=index, sports=ALL_SPORTS)
        assert pixels.shape == (64, 64, 3)
        assert pixels.dtype == np.uint8
        assert mask.shape == (64, 64)
        assert mask.dtype == bool
        assert 0.02 < mask.mean() < 0.6
        assert pixels.std() > 8


def test_the_object_is_inside_the_image() -> None:
    for name in scenes.DEMO_CLASSES:
        mask = scenes.draw(name, seed=0, index=1)[1]
        border = np.concatenate([mask[0], mask[:, 0], mask[:, -1]])
        assert not border.any(), name


def test_a_scene_depends_only_on_class_seed_split_and_index() -> None:
    first = scenes.draw("goal_kick", seed=3, index=5)
    scenes.draw("oar_race", seed=1, index=1)
    again = scenes.draw("goal_kick", seed=3, index=5)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    others = (
        scenes.draw("goal_kick", seed=3, index=6),
        scenes.draw("goal_kick", seed=4, index=5),
        scenes.draw("goal_kick", seed=3, index=5, split="test"),
        scenes.draw("hoop_shot", seed=3, index=5),
    )
    for pixels, mask in others:
        assert np.mean(pixels != first[0]) > 0.5
        assert not np.array_equal(mask, first[1])


def test_mask_lies_on_the_object() -> None:
    for name in ("goal_kick", "ring_hang", "wave_glide"):
        pixels, mask = scenes.draw(name, seed=0, index=1)
        edges = np.abs(np.diff(pixels.astype(int), axis=1)).sum(axis=2)
        assert edges[mask[:, 1:]].mean() > 1.5 * edges[~mask[:, 1:]].mean()


def test_colour_alone_does_not_give_the_class() -> None:
    def colours(split: str, count: int) -> np.ndarray:
        drawn = (
            scenes.draw(name, seed=0, index=i, split=split)[0] for name in scenes.DEMO_CLASSES for i in range(count)
        )
        return np.array([pixels.mean(axis=(0, 1)) for pixels in drawn]).reshape(10, count, 3)

    centroids = colours("train", 16).mean(axis=1)
    test = colours("test", 10)
    guesses = np.linalg.norm(test[:, :, None] - centroids, axis=3).argmin(axis=2)
    assert np.mean(guesses == np.arange(10)[:, None]) < 0.35


def test_every_pose_has_every_joint_at_or_above_the_ground() -> None:
    for name, joints in POSES.items():
        assert tuple(joints) == JOINTS, name
        assert min(y for _, y in joints.values()) >= 0, name


def test_a_body_is_about_one_unit_high_and_scales() -> None:
    ink = choose_ink([(90, 90, 90)], np.random.default_rng(0))
    left, bottom, right, top = bounds(body(POSES["stand"], ink))
    assert 0.95 < top - bottom < 1.1
    twice = bounds(moved(body(POSES["stand"], ink), (1.0, 0.0), size=2.0))
    assert twice == pytest.approx((2 * left + 1, 2 * bottom, 2 * right + 1, 2 * top))


def test_write_makes_an_image_folder_with_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = scenes.write(tmp_path / "new" / "data", classes=TINY, train=3, valid=2, test=1, seed=7)
    assert capsys.readouterr().err == f"Drawing {6 * len(TINY)} images of scenes\n"  # off a terminal, no bar
    files = contents(root)
    expected = {
        f"{folder}{split}/{name}/{index:04d}.{ending}"
        for folder, ending in (("", "jpg"), ("masks/", "png"))
        for split, count in (("train", 3), ("valid", 2), ("test", 1))
        for name in TINY
        for index in range(1, count + 1)
    }
    assert set(files) == expected | {"scenes.json"}
    assert [path.name for path in root.parent.iterdir()] == ["data"]

    pixels, mask = scenes.draw("ring_hang", seed=7, index=2, split="valid")
    with Image.open(root / "masks/valid/ring_hang/0002.png") as stored:
        assert stored.mode == "L"
        assert np.array_equal(np.asarray(stored), mask * np.uint8(255))
    with Image.open(root / "valid/ring_hang/0002.jpg") as stored:
        assert np.abs(np.asarray(stored).astype(int) - pixels).mean() < 6


def test_writing_again_changes_nothing_and_another_folder_gets_the_same_bytes(tmp_path: Path) -> None:
    one = scenes.write(tmp_path / "one", classes=TINY, train=2, valid=1, test=1)
    times = {path: path.stat().st_mtime_ns for path in one.rglob("*")}
    scenes.write(one, classes=TINY, train=2, valid=1, test=1)
    assert {path: path.stat().st_mtime_ns for path in one.rglob("*")} == times
    two = scenes.write(tmp_path / "two", classes=TINY, train=2, valid=1, test=1)
    assert contents(two) == contents(one)


def test_a_folder_with_other_content_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(DataError, match="choose another folder"):
        scenes.write(tmp_path / "mine", classes=TINY, train=1, valid=1, test=1)
    assert contents(tmp_path) == {"mine/notes.txt": b"keep"}

    with pytest.raises(DataError, match="choose another folder"):
        scenes.write(tmp_path / "mine" / "notes.txt", classes=TINY, train=1, valid=1, test=1)

    root = scenes.write(tmp_path / "data", classes=TINY, train=1, valid=1, test=1)
    with pytest.raises(DataError, match="other settings"):
        scenes.write(root, classes=TINY, train=1, valid=1, test=1, seed=1)
    shutil.rmtree(root / "valid" / "ring_hang")
    with pytest.raises(DataError, match="missing or additional"):
        scenes.write(root, classes=TINY, train=1, valid=1, test=1)


def test_write_fills_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    scenes.write(tmp_path / "data", classes=TINY, train=1, valid=1, test=1)
    assert len(list(tmp_path.glob("data/*/*/*.jpg"))) == 6


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def stop_at_third(name: str, **rest: object) -> tuple[np.ndarray, np.ndarray]:
        drawn.append(name)
        if len(drawn) == 3:
            raise KeyboardInterrupt
        return np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), bool)

    monkeypatch.setattr(scenes, "draw", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        scenes.write(tmp_path / "data", classes=TINY, train=3, valid=1, test=1)
    assert list(tmp_path.iterdir()) == []


def test_the_weights_fit_the_demo_model_and_have_no_head() -> None:
    assert DEMO_FILE.stat().st_size <= 2_000_000
    expected = VisionTransformer(**asdict(ARCHITECTURES["vit_demo"]), num_classes=10).state_dict()
    with safe_open(DEMO_FILE, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    shapes = {name: tensor.shape for name, tensor in expected.items() if not name.startswith("heads.")}
    assert {name: tensor.shape for name, tensor in tensors.items()} == shapes
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
    assert json.loads(metadata["preprocessing"]) == {
        "resize_size": 64,
        "crop_size": 64,
        "interpolation": "bilinear",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    }
    source = json.loads(metadata["source"])
    assert source["classes"] == list(PRETRAIN_SPORTS)
    assert source["held_out_accuracy"] > 0.9


def test_neighbouring_positions_of_the_weights_are_similar() -> None:
    with safe_open(DEMO_FILE, framework="pt") as file:
        positions = file.get_tensor("encoder.pos_embedding")[0, 1:].float()
    unit = torch.nn.functional.normalize(positions - positions.mean(dim=0), dim=1)
    similarity = (unit @ unit.T).view(8, 8, 8, 8)
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(7), indexing="ij")
    assert similarity[rows, columns, rows, columns + 1].mean() > 0.5
    assert similarity[0, 0, 7, 7] < 0


def test_pretraining_is_reproducible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "_HELD_OUT", 1)
    monkeypatch.setattr(train, "PRETRAIN_SPORTS", dict(list(PRETRAIN_SPORTS.items())[:4]))
    recipe = train.Recipe(epochs=1, pictures=1, batch_size=2, warmup=1)
    threads = torch.get_num_threads()
    made = []
    for name in ("one", "two"):
        vit, accuracy = train.pretrain(recipe)
        train.save(vit, recipe, accuracy, tmp_path / name)
        with safe_open(tmp_path / name, framework="pt") as file:
            made.append((file.metadata(), {key: file.get_tensor(key) for key in file.keys()}))  # noqa: SIM118
    torch.set_num_threads(threads)
    assert made[0][0] == made[1][0]
    assert made[0][1].keys() == made[1][1].keys()
    assert all(torch.equal(tensor, made[1][1][name]) for name, tensor in made[0][1].items())


def test_outlines_have_the_order_of_the_patches() -> None:
    masks = torch.arange(64 * 64.0).view(1, 1, 64, 64)
    rows = train.outlines(masks)
    assert rows.shape == (1, 64, 64)
    assert torch.equal(rows[0, 9].view(8, 8), masks[0, 0, 8:16, 8:16])


def test_shifted_moves_image_and_mask_together() -> None:
    drawn = [scenes.draw("goal_kick", seed=0, index=index)[1] for index in range(1, 5)]
    masks = torch.from_numpy(np.stack(drawn)[:, None].astype(np.uint8))
    images, moved_masks = train.shifted(masks.expand(-1, 3, -1, -1) * 255, masks, np.random.default_rng(0))
    assert torch.equal((images[:, :1] + 1) / 2, moved_masks)
    assert not torch.equal(moved_masks, masks.float())
