from __future__ import annotations

import functools
import io

import numpy as np
import pytest
from PIL import Image

from harness.data.decode import decode_image, decode_pil
from harness.data.resize import Resize, decode_resized, resized


@functools.cache
def detailed(width: int, height: int) -> Image.Image:
    """Smooth colours with edges and noise, as JPEGs of cameras have them."""
    generator = np.random.default_rng(0)
    coarse = Image.fromarray(generator.integers(0, 256, (height // 40, width // 40, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray(np.clip(smooth + generator.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8))


def jpeg(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=92, **options)
    return file.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_reduced_jpeg_looks_like_one_decoded_whole(orientation: int) -> None:
    """Also where the last column of 4x4 pixels is only a part of one: the others must not be stretched over it."""
    interpolation, progressive = ("bilinear", "bicubic")[orientation % 2], orientation % 4 < 2
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = jpeg(detailed(1601, 1203), exif=exif, progressive=progressive)
    resize = Resize(128, interpolation)
    assert sorted(decode_image(content, short_side=128).image.size) == [301, 401]
    reduced = np.asarray(decode_resized(content, resize)).astype(int)
    whole = np.asarray(resized(decode_pil(content), resize)).astype(int)
    assert reduced.shape == whole.shape
    assert sorted(reduced.shape) == [3, 128, 170]
    assert np.abs(reduced - whole).mean() < 0.6
    assert np.abs(reduced - whole).max() <= 12


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_image_less_than_four_times_as_large_as_needed_is_decoded_whole(kind: str) -> None:
    file = io.BytesIO()
    detailed(640, 511).save(file, kind)
    assert decode_image(file.getvalue(), short_side=128).image.size == (640, 511)
    np.testing.assert_array_equal(
        np.asarray(decode_resized(file.getvalue(), Resize(128))),
        np.asarray(resized(decode_pil(file.getvalue()), Resize(128))),
    )


def test_a_turned_image_is_reduced_too() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = jpeg(detailed(1600, 1200), exif=exif)
    decoded = decode_image(content, short_side=128)
    assert (decoded.image.size, decoded.size) == ((300, 400), (1200, 1600))
    assert decode_resized(content, Resize(128)).size == (128, 170)


@pytest.mark.parametrize("mode", ["CMYK", "L", "MPO"])
def test_other_kinds_of_jpeg_are_reduced_too(mode: str) -> None:
    file = io.BytesIO()
    image = detailed(1600, 1200) if mode == "MPO" else detailed(1600, 1200).convert(mode)
    image.save(file, "MPO" if mode == "MPO" else "JPEG", quality=92)
    assert decode_image(file.getvalue(), short_side=128).image.size == (400, 300)
    reduced = np.asarray(decode_resized(file.getvalue(), Resize(128))).astype(int)
    whole = np.asarray(resized(decode_pil(file.getvalue()), Resize(128))).astype(int)
    assert np.abs(reduced - whole).mean() < 0.6
