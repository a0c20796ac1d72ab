"""The resize rule: what an image's short side becomes, exactly as torchvision's Resize(size) treats a PIL image."""

from __future__ import annotations

import dataclasses
import os

from PIL import Image

from harness.data.decode import DecodeError, decode_image

MAX_PIXELS = 89_478_485  # of a resized image; Pillow's limit at which it warns of images that exhaust memory

INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclasses.dataclass(frozen=True)
class Resize:
    """Scale to a short side of `size` pixels, up or down, antialiased, aspect kept."""

    size: int
    interpolation: str = "bilinear"  # or "bicubic"


def resized_shape(width: int, height: int, resize: Resize) -> tuple[int, int]:
    """(width, height) after resizing; the long side is cut, not rounded, as in torchvision."""
    short, long = sorted((width, height))
    stretched = int(resize.size * long / short)
    return (resize.size, stretched) if width <= height else (stretched, resize.size)


def decode_resized(source: str | os.PathLike[str] | bytes, resize: Resize) -> Image.Image:
    """The image of a file as RGB, upright, with its short side at `resize.size`; DecodeError if that is impossible."""
    decoded = decode_image(source, short_side=resize.size)
    shape = _bounded_shape(*decoded.size, resize)
    if shape == decoded.image.size == decoded.size:
        return decoded.image
    return decoded.image.resize(shape, INTERPOLATIONS[resize.interpolation], decoded.box)


def resized(image: Image.Image, resize: Resize) -> Image.Image:
    """The image with its short side at `resize.size`."""
    shape = _bounded_shape(image.width, image.height, resize)
    return image if shape == image.size else image.resize(shape, INTERPOLATIONS[resize.interpolation])


def _bounded_shape(width: int, height: int, resize: Resize) -> tuple[int, int]:
    shape = resized_shape(width, height, resize)
    if shape[0] * shape[1] > MAX_PIXELS:  # a strip of few pixels' height would blow up
        raise DecodeError(
            f"{width}x{height} pixels; with a short side of {resize.size} they become "
            f"{shape[0]}x{shape[1]}, more than the {MAX_PIXELS:,} pixels allowed"
        )
    return shape
