"""The resize rule: what an image's short side becomes, exactly as torchvision's Resize(size) treats a PIL image."""

from __future__ import annotations

import dataclasses

from PIL import Image

from harness.data.decode import MAX_PIXELS, DecodeError

INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclasses.dataclass(frozen=True)
class Resize:
    """Scale to a short side of `size` pixels, up or down, antialiased, aspect kept."""

    size: int
    interpolation: str = "bilinear"  # or "bicubic"

    def __post_init__(self) -> None:
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation {self.interpolation!r} is none of {', '.join(INTERPOLATIONS)}")


def resized_shape(width: int, height: int, resize: Resize) -> tuple[int, int]:
    """(width, height) after resizing; the long side is cut, not rounded, as in torchvision."""
    short, long = sorted((width, height))
    stretched = int(resize.size * long / short)
    return (resize.size, stretched) if width <= height else (stretched, resize.size)


def resized(image: Image.Image, resize: Resize) -> Image.Image:
    """The image with its short side at `resize.size`."""
    width, height = resized_shape(image.width, image.height, resize)
    if width * height > MAX_PIXELS:  # a strip of few pixels' height would blow up
        raise DecodeError(
            f"{image.width}x{image.height} pixels, so elongated that a short side of {resize.size} makes it "
            f"{width}x{height}, more than the {MAX_PIXELS:,} pixels allowed"
        )
    if (width, height) == image.size:
        return image
    return image.resize((width, height), INTERPOLATIONS[resize.interpolation])
