"""Images with the detail of photographs, generated from a seed."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def detailed_image(random: np.random.Generator, size: int) -> np.ndarray:
    """Smooth colours, hard edges and grain: uint8 (size, size, 3)."""
    image = cv2.resize(random.uniform(0, 255, (7, 7, 3)), (size, size), interpolation=cv2.INTER_CUBIC)
    for _ in range(8):
        centre = (int(random.integers(size)), int(random.integers(size)))
        radius = int(random.integers(size // 56 + 1, size // 4))
        cv2.circle(image, centre, radius, random.uniform(0, 255, 3).tolist(), -1, cv2.LINE_AA)
    return np.clip(image + random.normal(0, 5, image.shape), 0, 255).astype(np.uint8)


def write_images(folder: Path, count: int, size: int, seed: int = 0) -> None:
    """JPEGs in one folder, which is made."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for number in range(count):
        cv2.imwrite(str(folder / f"{number:05}.jpg"), detailed_image(random, size), [cv2.IMWRITE_JPEG_QUALITY, 90])


def write_splits(root: Path, *, train: int, size: int, classes: int = 8, held_out: int = 1) -> Path:
    """A folder to train from: `train` images over all classes, `held_out` per class to validate and to test."""
    assert train % classes == 0, f"{train} images over {classes} classes"
    for split, count in enumerate((train // classes, held_out, held_out)):
        for label in range(classes):
            folder = root / ("train", "valid", "test")[split] / f"class {label}"
            write_images(folder, count, size, seed=split * classes + label)
    return root
