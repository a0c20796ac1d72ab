"""Built-in data: small scenes of sports. The class is in shapes and their arrangement, never in colour.

A scene is an athlete in a pose, the equipment of the sport, and a marked ground. Palette, light, place, scale,
direction, clutter and distractors are random. Each image has a mask of its object: the athlete and the equipment.
Random numbers come from a counter-based generator (Salmon et al., 2011: "Parallel random numbers: as easy as 1, 2,
3"), so an image depends only on its class, split, index and seed.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from harness.demo.scenery.backdrop import light_up, paint_backdrop
from harness.demo.scenery.ground import choose_place
from harness.demo.scenery.palette import choose_ink
from harness.demo.scenery.shapes import Ink, Points, Shape, body, bounds, moved, paint
from harness.demo.scenery.sports import DEMO_SPORTS, Sport
from harness.errors import DataError

SIZE = 64  # pixels, the side of an image
_DETAIL = 4  # scenes are drawn this many times larger and then averaged
_STREAM = 0x5CE9E5  # separates these random numbers from other uses of the seed
_SPLITS = ("train", "valid", "test")
_MARKER = "scenes.json"

DEMO_CLASSES: tuple[str, ...] = tuple(DEMO_SPORTS)


def draw(
    class_name: str, *, seed: int, index: int, split: str = "train", sports: Mapping[str, Sport] = DEMO_SPORTS
) -> tuple[np.ndarray, np.ndarray]:
    """One scene: RGB pixels uint8 (64, 64, 3) and the mask of its object, bool (64, 64)."""
    sport = sports[class_name]
    counter = [0, index, zlib.crc32(class_name.encode()), _SPLITS.index(split)]
    rng = np.random.Generator(np.random.Philox(key=[seed, _STREAM], counter=counter))
    side = SIZE * _DETAIL
    base = side * rng.uniform(0.74, 0.90)
    place = choose_place(side, base, rng)
    ink = choose_ink([place.haze, place.ground, place.far], rng)
    canvas = paint_backdrop(place, str(rng.choice(sport.grounds)), rng)
    shapes = _object(sport, ink, rng)
    origin, axes = _fit(bounds(shapes), base, side, rng)

    layer, mask = canvas.copy(), Image.new("L", (side, side), 0)
    paint(shapes, layer, mask, origin, axes)
    canvas.paste((0, 0, 0), (int(rng.integers(-10, 11)), 7), mask.point(lambda value: value * 0.3))  # its shadow
    canvas.paste(layer, mask=mask)
    pixels = light_up(np.asarray(canvas.reduce(_DETAIL)), rng)
    return pixels, np.asarray(mask.reduce(_DETAIL)) >= 64


def _object(sport: Sport, ink: Ink, rng: np.random.Generator) -> list[Shape]:
    """The athlete, with joints near those of the pose, and the equipment in front and behind."""
    joints = {name: (x + rng.normal(0, 0.014), y + rng.normal(0, 0.014)) for name, (x, y) in sport.pose.items()}
    behind: list[Shape] = []
    front: list[Shape] = []
    for part in sport.parts:
        if isinstance(part.at, str):
            (x, y), spread, sway = joints[part.at], 0.0, 5.0
        else:
            (x, y), spread, sway = part.at, part.drift, 1.5
        at = (x + rng.normal(0, spread), y + rng.normal(0, spread) * (0.3 if y < 0.1 else 1.0))
        turn, size = part.turn + rng.normal(0, sway), part.size * rng.uniform(0.92, 1.1)
        shapes = moved(part.shapes(ink), at, turn, size)
        (behind if part.behind else front).extend(shapes)
    return moved(behind + body(joints, ink) + front, (0.0, 0.0), turn=rng.normal(0, 2))


def _fit(
    box: tuple[float, float, float, float], base: float, side: int, rng: np.random.Generator
) -> tuple[Points, Points]:
    """Origin (2,) and axes (2, 2) that place y = 0 on row `base` and the whole object inside the image."""
    left, bottom, right, top = box
    margin = 0.03 * side
    room = min((side - 2 * margin) / (right - left), (base - margin) / top, (side - margin - base) / max(-bottom, 1e-3))
    scale = room * rng.uniform(0.74, 1.0)
    facing = float(rng.choice([-1.0, 1.0]))
    start, end = sorted((facing * left * scale, facing * right * scale))
    x = rng.uniform(margin - start, side - margin - end)
    return np.array([x, base]), scale * np.array([[facing, 0.0], [0.0, -1.0]])


def write(
    root: Path,
    *,
    classes: tuple[str, ...] = DEMO_CLASSES,
    train: int = 24,
    valid: int = 8,
    test: int = 10,
    seed: int = 0,
) -> Path:
    """Write an image folder with so many `train`, `valid` and `test` images per class, and their masks in `masks/`.

    The folder appears only when it is complete. If it exists with the same data, it is unchanged; any other content
    raises DataError.
    """
    counts = dict(zip(_SPLITS, (train, valid, test), strict=True))
    marker: dict[str, Any] = {"classes": list(classes), **counts, "seed": seed, "size": SIZE}
    if _exists(root, marker):
        return root
    aside: Path | None = None
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
        partial = aside / "scenes"  # a temporary folder itself is readable only for its owner
        todo = [(split, name, index) for split in _SPLITS for name in classes for index in range(1, counts[split] + 1)]
        terminal = sys.stderr.isatty()
        if not terminal:  # a bar would fill a log with one line per update
            print(f"Drawing {len(todo)} images of scenes", file=sys.stderr, flush=True)
        for split, name, index in tqdm(todo, desc="Drawing scenes", unit=" images", disable=not terminal):
            _write_one(partial, split, name, index, seed)
        (partial / _MARKER).write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")
        partial.replace(root)
    except OSError as error:
        if _exists(root, marker):  # another process has written the same data meanwhile
            return root
        raise DataError(f"Cannot write the built-in data to {root}: {error.strerror or error}.") from error
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
    return root


def _exists(root: Path, marker: dict[str, Any]) -> bool:
    """Whether `root` already holds this data. Raises DataError for any other content."""
    try:
        if not root.exists() or not any(root.iterdir()):
            return False
        existing = json.loads((root / _MARKER).read_text(encoding="utf-8"))
    except PermissionError:
        raise
    except (OSError, ValueError):
        existing = None
    if existing is None:
        raise DataError(f"{root} exists and does not hold the built-in data: choose another folder, or empty this one.")
    if existing != marker:
        raise DataError(f"{root} holds built-in data with other settings: choose another folder.")
    for split in _SPLITS:
        images = sum(1 for _ in root.glob(f"{split}/*/*.jpg"))
        if images != marker[split] * len(marker["classes"]):
            raise DataError(f"{root / split} has missing or additional images: remove {root} and draw it again.")
    return True


def _write_one(root: Path, split: str, name: str, index: int, seed: int) -> None:
    pixels, mask = draw(name, seed=seed, index=index, split=split)
    image_path = root / split / name / f"{index:04d}.jpg"
    mask_path = root / "masks" / split / name / f"{index:04d}.png"
    for path in (image_path, mask_path):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(image_path, quality=92, subsampling=0)
    Image.fromarray(mask.astype(np.uint8) * 255).save(mask_path)
