from __future__ import annotations

import io
import os
import re
import struct
import threading
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data import decode as decode_module
from harness.data.decode import DecodeError, decode_image, decode_pil, upright_size
from harness.data.resize import Resize, decode_resized
from harness.errors import ConfigError


def decode(source: str | Path | bytes) -> np.ndarray:
    """The image of a file, uint8 (H, W, 3)."""
    return np.asarray(decode_pil(source))


def smooth_pixels(width: int = 40, height: int = 30, seed: int = 0) -> np.ndarray:
    """Smooth random colours, uint8 (H, W, 3)."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def stored(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims any size."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    ihdr = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + ihdr + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def reason(source: bytes | Path) -> str:
    with pytest.raises(DecodeError) as caught:
        decode(source)
    return caught.value.reason


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_keep_every_pixel(kind: str, tmp_path: Path) -> None:
    pixels = smooth_pixels()
    content = stored(Image.fromarray(pixels), kind)
    (tmp_path / "a").write_bytes(content)
    for source in (content, tmp_path / "a", str(tmp_path / "a")):
        result = decode(source)
        assert result.dtype == np.uint8
        np.testing.assert_array_equal(result, pixels)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_formats_come_close(kind: str) -> None:
    pixels = smooth_pixels()
    result = decode(stored(Image.fromarray(pixels), kind, quality=95))
    assert result.shape == (30, 40, 3)
    assert np.abs(result.astype(int) - pixels).mean() < 4


def test_grey_and_black_and_white() -> None:
    grey = smooth_pixels()[..., 0]
    np.testing.assert_array_equal(decode(stored(Image.fromarray(grey), "PNG")), np.stack([grey] * 3, axis=-1))
    bits = Image.fromarray(grey > 128)
    assert bits.mode == "1"
    np.testing.assert_array_equal(decode(stored(bits, "PNG"))[..., 1], np.where(grey > 128, 255, 0))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    header_and_rows = b"P5 16 16 65535\n" + ramp.astype(">u2").tobytes()
    result = decode(header_and_rows if kind == "PPM" else stored(Image.fromarray(ramp), kind))
    np.testing.assert_array_equal(result[..., 0], np.arange(256).reshape(16, 16))
    assert (result[..., 0] == result[..., 2]).all()


@pytest.mark.parametrize(("bits", "highest"), [(8, 255), (12, 256), (12, 4095), (16, 4096), (16, 65535)])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_values_of_fewer_bits_than_their_file_has_are_not_black(kind: str, bits: int, highest: int) -> None:
    ramp = np.linspace(0, highest, 256).astype(np.uint16).reshape(16, 16)
    decoded = decode_image(stored(Image.fromarray(ramp), kind))
    assert decoded.grey_bits == bits
    np.testing.assert_array_equal(np.asarray(decoded.image)[..., 0], ramp >> (bits - 8))


def test_integers_and_floats_without_a_scale_are_refused() -> None:
    wide = Image.fromarray(np.full((2, 2), 70_000, np.int32))
    assert reason(stored(wide, "TIFF")) == "grey values 70000 to 70000 have no fixed scale; save it with 8 or 16 bits"
    real = Image.fromarray(np.full((2, 2), 0.5, np.float32))
    assert reason(stored(real, "TIFF")) == "floating-point pixels have no fixed scale; save it with 8 or 16 bits"


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_white(mode: str) -> None:
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[..., 3] = [0, 255, 128]
    result = decode(stored(Image.fromarray(pixels).convert(mode), "PNG"))
    np.testing.assert_array_equal(result, np.repeat([[[255], [0], [127]]], 3, axis=2))


def bmp_of_32_bits(pixels: np.ndarray, alpha: int) -> bytes:
    """A BMP of (H, W, 3) with a fourth byte per pixel, and a header of version 4 that says it is alpha."""
    height, width, _ = pixels.shape
    rows = np.dstack([pixels[::-1, :, ::-1], np.full((height, width), alpha, np.uint8)]).tobytes()
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    info = struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, len(rows), 0, 0, 0, 0) + masks
    return b"BM" + struct.pack("<IHHI", 14 + len(info) + len(rows), 0, 0, 14 + len(info)) + info + rows


def test_alpha_that_is_0_everywhere_is_ignored() -> None:
    clear = np.zeros((30, 40), np.uint8)
    whole = Image.fromarray(np.dstack([smooth_pixels(), clear]))
    for kind in ("PNG", "TIFF"):
        np.testing.assert_array_equal(decode(stored(whole, kind)), smooth_pixels())
    np.testing.assert_array_equal(decode(stored(whole, "WEBP", lossless=True, exact=True)), smooth_pixels())
    np.testing.assert_array_equal(decode(bmp_of_32_bits(smooth_pixels(), alpha=0)), smooth_pixels())
    np.testing.assert_array_equal(decode(bmp_of_32_bits(smooth_pixels(), alpha=255)), smooth_pixels())
    grey = Image.fromarray(np.dstack([smooth_pixels()[..., 0], clear]))
    assert grey.mode == "LA"
    np.testing.assert_array_equal(decode(stored(grey, "PNG"))[..., 2], smooth_pixels()[..., 0])
    palette = Image.fromarray(smooth_pixels()).quantize(16)
    expected = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(decode(stored(palette, "PNG", transparency=bytes(16))), expected)


def test_palettes_with_and_without_transparency() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putdata([0, 1])
    assert decode(stored(palette, "PNG")).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    assert decode(stored(palette, "PNG", transparency=0)).tolist() == [[[255, 255, 255], [40, 50, 60]]]
    assert decode(stored(palette, "PNG", transparency=b"\x80\xff")).tolist()[0][1] == [40, 50, 60]
    assert decode(stored(palette, "GIF", transparency=1)).tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_one_colour_made_transparent_in_rgb() -> None:
    image = Image.fromarray(np.array([[[1, 2, 3], [9, 9, 9]]], np.uint8))
    assert decode(stored(image, "PNG", transparency=(1, 2, 3))).tolist() == [[[255, 255, 255], [9, 9, 9]]]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_not_inverted(kind: str) -> None:
    """Adobe stores CMYK JPEGs inverted; read plainly, red paper would come out cyan."""
    content = stored(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), kind)
    assert (b"Adobe" in content) == (kind == "JPEG")
    red = decode(content).reshape(-1, 3)
    assert red[:, 0].min() > 250 and red[:, 1:].max() < 5


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(kind: str, orientation: int) -> None:
    """The upright image is dark but for a bright corner at the top left; each file stores it turned some way."""
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :16] = 255
    stored_as = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = stored(Image.fromarray(np.ascontiguousarray(stored_as)), kind, exif=exif)
    assert upright_size(content) == (48, 32)
    result = decode(content)
    assert result.shape == (32, 48, 3)
    assert np.abs(result.astype(int) - upright).mean() < 3


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_an_image_with_damaged_exif_is_read() -> None:
    image = Image.fromarray(smooth_pixels())
    np.testing.assert_array_equal(
        decode(stored(image, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff nonsense")), decode(stored(image, "JPEG"))
    )


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    content = stored(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(content)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP"])
@pytest.mark.parametrize("share", [0.5, 0.95])
def test_truncated_images_are_refused(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = stored(Image.fromarray(noise), kind)
    assert decode(content).shape == (64, 64, 3)
    assert reason(content[: int(len(content) * share)]) == "truncated"


def test_a_flipped_bit_in_a_png_is_an_error() -> None:
    content = bytearray(stored(Image.fromarray(smooth_pixels(200, 200)), "PNG"))
    content[len(content) // 2] ^= 0xFF
    assert reason(bytes(content)).startswith("damaged (")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty file"),
        (b"this is not an image\n" * 100, "not an image (text)"),
        ("déjà vu ".encode() * 100, "not an image (text)"),
        (b"\n<!DOCTYPE html><title>404", "not an image (a web page)"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer, not the image: run git lfs pull"),
        (bytes(1000), "not an image of a known format, or damaged at its start"),
        (b"\xff\xd8\xff", "not an image of a known format, or damaged at its start"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not an image (text)"),
    ],
)
def test_files_that_are_not_images_are_refused(content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    assert reason(tmp_path / "a.jpg") == expected
    with pytest.raises(DecodeError, match="^" + expected.split("(")[0]):
        upright_size(tmp_path / "a.jpg")


@pytest.mark.parametrize("size", [(10_000, 90_000), (25_001, 10_000), (2**31 - 1, 2**31 - 1)])
def test_a_decompression_bomb_is_refused_by_its_header(size: tuple[int, int], tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png_claiming(*size))
    expected = f"{size[0]}x{size[1]} pixels, more than the 250,000,000 allowed (HARNESS_MAX_PIXELS sets the limit)"
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("error")  # a stricter program around us changes nothing
        assert reason(tmp_path / "bomb.png") == expected
        assert reason(png_claiming(*size)) == expected
        with pytest.raises(DecodeError, match=re.escape(expected)):
            upright_size(tmp_path / "bomb.png")
    assert not heard


def test_the_limit_of_pixels_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    content = stored(Image.fromarray(smooth_pixels()), "PNG")
    monkeypatch.setenv("HARNESS_MAX_PIXELS", "1199")
    assert reason(content) == "40x30 pixels, more than the 1,199 allowed (HARNESS_MAX_PIXELS sets the limit)"
    monkeypatch.setenv("HARNESS_MAX_PIXELS", "1_200")
    assert decode(content).shape == (30, 40, 3)
    monkeypatch.setenv("HARNESS_MAX_PIXELS", "many")
    with pytest.raises(ConfigError, match="HARNESS_MAX_PIXELS is 'many'; give the number of pixels"):
        decode(content)


def test_an_image_of_108_megapixels_is_decoded_at_an_eighth() -> None:
    content = stored(Image.new("L", (12_000, 9_000), 120), "JPEG", quality=30)
    decoded = decode_image(content, short_side=256)
    assert (decoded.image.size, decoded.size) == ((1500, 1125), (12_000, 9_000))
    pixels = np.asarray(decode_resized(content, Resize(256)))
    assert pixels.shape == (256, 341, 3)
    assert 119 <= pixels.min() <= pixels.max() <= 121


def test_a_strip_is_refused_before_its_pixels_are_decoded(tmp_path: Path) -> None:
    (tmp_path / "strip.png").write_bytes(png_claiming(80_000_000, 1))
    expected = "80000000x1 pixels: the long side is more than 1000 times the short one"
    assert reason(tmp_path / "strip.png") == expected
    with pytest.raises(DecodeError, match=expected):
        upright_size(tmp_path / "strip.png")
    assert decode(stored(Image.new("RGB", (1000, 1)), "PNG")).shape == (1, 1000, 3)


def test_a_file_larger_than_any_image_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(2_000_000_001)
    assert reason(tmp_path / "a.jpg") == "2,000,000,001 bytes, more than the 2,000,000,000 that an image may have"


def test_a_named_pipe_and_a_device_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe.jpg", tmp_path / "zero.jpg", tmp_path):
        assert reason(path) == "a folder, named pipe or device, not a file"
        with pytest.raises(DecodeError, match="a folder, named pipe or device"):
            upright_size(path)


def test_threads_together_decode_no_more_pixels_than_one_image_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_MAX_PIXELS", "2500")
    content = stored(Image.fromarray(smooth_pixels()), "PNG")  # 1200 pixels
    running: list[int] = []
    pairs = threading.Barrier(2, timeout=60)  # one alone would wait
    convert = decode_module._rgb

    def slow_convert(image: Image.Image) -> object:
        running.append(1)
        pairs.wait()
        time.sleep(0.02)  # a third one would have this long to come
        assert len(running) <= 2
        running.pop()
        return convert(image)

    monkeypatch.setattr(decode_module, "_rgb", slow_convert)
    with ThreadPoolExecutor(8) as pool:
        assert [image.shape for image in pool.map(decode, [content] * 8)] == [(30, 40, 3)] * 8


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reason(tmp_path / "gone.jpg") == "no longer there"

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.jpg").write_bytes(b"x")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DecodeError) as caught:
        decode(tmp_path / "a.jpg")
    assert caught.value.reason == "permission denied" and caught.value.unread


def test_the_size_is_read_without_decoding(tmp_path: Path) -> None:
    content = stored(Image.fromarray(smooth_pixels(400, 300)[..., 0]), "JPEG")
    (tmp_path / "a.jpg").write_bytes(content[: len(content) // 2])
    assert upright_size(tmp_path / "a.jpg") == upright_size(content) == (400, 300)
