"""The kinds of image files that people have, each with the image in it or the reason why it is refused."""

from __future__ import annotations

import dataclasses
import io
import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tests.helpers.raw_images import big_tiff, png_of_16_bits, tiff

NO_SCALE = "floating-point pixels have no fixed scale; save it with 8 or 16 bits"
OTHER_TIFF = "a kind of TIFF that is not read, or damaged at its start; convert it to PNG"
CONVERT = "which is not read; convert it to JPEG or PNG"
UNKNOWN = "not an image of a known format, or damaged at its start"
LOSSY = 4.0  # of 255 levels on average


@dataclasses.dataclass(frozen=True)
class ImageKind:
    name: str
    content: bytes
    expected: np.ndarray | str  # uint8 (H, W, 3), or the reason of the refusal
    tolerance: float = 0.0  # mean absolute difference


def scene(width: int = 96, height: int = 64, seed: int = 5) -> np.ndarray:
    """Smooth colours with a red square at the top left, uint8 (H, W, 3): it shows how an image was turned."""
    cells = np.random.default_rng(seed).integers(0, 230, (4, 5, 3), dtype=np.uint8)
    pixels = np.array(Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC))
    pixels[height // 16 : height // 4, width // 16 : width // 4] = (250, 20, 20)
    return pixels


def image_kinds() -> Iterator[ImageKind]:
    yield from _transparent()
    yield from _png_of_16_bits()
    yield from _tiff_samples()
    yield from _tiff_compressions()
    yield from _turned()
    yield from _other_colours()
    yield from _animations()
    yield from _wrong_names()
    yield from _damaged()
    yield from _sizes()


def stored(pixels: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _more(pixels: np.ndarray) -> dict[str, object]:
    """Options that store a second image in a file."""
    return {"save_all": True, "append_images": [Image.fromarray(pixels)]}


def grey(pixels: np.ndarray) -> np.ndarray:
    """One channel as three."""
    return np.repeat(pixels[..., None], 3, axis=2)


def _cut_out() -> tuple[np.ndarray, np.ndarray]:
    """The scene with its left third transparent (H, W, 4), and on white."""
    alpha = np.full((64, 96), 255, np.uint8)
    alpha[:, :32] = 0
    on_white = scene()
    on_white[:, :32] = 255
    return np.dstack([scene(), alpha]), on_white


def _transparent() -> Iterator[ImageKind]:
    cut_out, on_white = _cut_out()
    luma = np.asarray(Image.fromarray(scene()).convert("L"))
    on_white_luma = np.where(cut_out[..., 3] > 0, luma, 255).astype(np.uint8)
    clear = np.dstack([scene(), np.zeros((64, 96), np.uint8)])
    yield ImageKind("rgba.png", stored(cut_out, "PNG"), on_white)
    yield ImageKind("la.png", stored(np.dstack([luma, cut_out[..., 3]]), "PNG"), grey(on_white_luma))
    yield ImageKind("rgb with a transparent colour.png", stored(scene(), "PNG", transparency=(250, 20, 20)), _no_red())
    yield ImageKind("alpha of 0.png", stored(clear, "PNG"), scene())
    yield ImageKind("transparent.gif", stored(cut_out, "GIF"), on_white, tolerance=12)
    logo = Image.new("RGBA", (96, 64), (255, 255, 255, 0))
    logo.paste((255, 255, 255, 255), (20, 10, 70, 55))
    yield ImageKind("white logo.png", stored(logo, "PNG"), np.full((64, 96, 3), 255, np.uint8))
    palette = Image.fromarray(scene()).quantize(16)
    index, colours = np.asarray(palette), np.array(palette.getpalette()[:48], float).reshape(16, 3)
    one = colours.copy()
    one[3] = 255
    yield ImageKind("palette with one clear entry.png", stored(palette, "PNG", transparency=3), _looked_up(one, index))
    alpha = np.array([0, 128, 255] + [255] * 13) / 255
    mixed = colours * alpha[:, None] + 255 * (1 - alpha[:, None])
    content = stored(palette, "PNG", transparency=bytes([0, 128, 255] + [255] * 13))
    yield ImageKind("palette with alpha.png", content, _looked_up(mixed, index), tolerance=0.5)
    rows = clear[::-1][..., [2, 1, 0, 3]].tobytes()
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    head = struct.pack("<IiiHHIIiiII", 108, 96, 64, 1, 32, 3, len(rows), 0, 0, 0, 0) + masks
    start = b"BM" + struct.pack("<IHHI", 14 + len(head) + len(rows), 0, 0, 14 + len(head))
    yield ImageKind("32 bits.bmp", start + head + rows, scene())


def _no_red() -> np.ndarray:
    pixels = scene()
    pixels[(pixels == (250, 20, 20)).all(-1)] = 255
    return pixels


def _looked_up(colours: np.ndarray, index: np.ndarray) -> np.ndarray:
    return colours.round().astype(np.uint8)[index]


def _png_of_16_bits() -> Iterator[ImageKind]:
    cut_out, on_white = _cut_out()
    red = scene()[..., 0]
    yield ImageKind("grey 16.png", stored(red.astype(np.uint16) * 257, "PNG"), grey(red))
    yield ImageKind("grey 12 in 16.png", stored(red.astype(np.uint16) * 16, "PNG"), grey(red))
    yield ImageKind("rgb 16.png", png_of_16_bits(scene().astype(np.uint16) * 257), scene())
    yield ImageKind("rgba 16.png", png_of_16_bits(cut_out.astype(np.uint16) * 257), on_white)
    rows = (red.astype(np.uint16) * 257).astype(">u2").tobytes()
    yield ImageKind("16.pgm", b"P5\n96 64\n65535\n" + rows, grey(red))
    rows = (red.astype(np.uint16) * 16).astype(">u2").tobytes()
    yield ImageKind("12.pgm", b"P5\n96 64\n4095\n" + rows, grey(red), tolerance=1)


def _tiff_samples() -> Iterator[ImageKind]:
    pixels = scene()
    red = pixels[..., 0]
    five = np.dstack([pixels, pixels[..., :2]])
    yield ImageKind("rgb 16.tif", tiff(pixels.astype(np.uint16) * 257, photometric=2), pixels)
    yield ImageKind("grey 16.tif", tiff(red.astype(np.uint16) * 257, photometric=1), grey(red))
    yield ImageKind("grey 12 in 16.tif", tiff(red.astype(np.uint16) * 16, photometric=1), grey(red))
    yield ImageKind("grey 12.tif", tiff(red.astype(np.uint16) // 4, photometric=1, bits=12), grey(red // 4 >> 4))
    yield ImageKind("float.tif", tiff((red / 255).astype(np.float32), photometric=1), NO_SCALE)
    yield ImageKind("float rgb.tif", tiff((pixels / 255).astype(np.float32), photometric=2), OTHER_TIFF)
    wide = red.astype(np.int32) * 1000
    no_range = f"grey values {wide.min()} to {wide.max()} have no fixed scale; save it with 8 or 16 bits"
    yield ImageKind("int 32.tif", tiff(wide, photometric=1), no_range)
    signed = red.astype(np.int16) - 100
    no_range = f"grey values {signed.min()} to {signed.max()} have no fixed scale; save it with 8 or 16 bits"
    yield ImageKind("signed 16.tif", tiff(signed, photometric=1), no_range)
    yield ImageKind("planes.tif", tiff(pixels, photometric=2, planar=True), pixels)
    yield ImageKind("five bands.tif", tiff(five, photometric=2), pixels)
    yield ImageKind("five grey bands.tif", tiff(five, photometric=1, planar=True), OTHER_TIFF)
    yield ImageKind("white is zero.tif", tiff(255 - red, photometric=0), grey(red))
    yield ImageKind("big.tif", big_tiff(pixels), pixels)
    yield ImageKind("pages.tif", stored(pixels, "TIFF", **_more(255 - pixels)), pixels)


def _tiff_compressions() -> Iterator[ImageKind]:
    for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "lzma", "zstd"):
        yield ImageKind(f"{name}.tif", stored(scene(), "TIFF", compression=name), scene())
    yield ImageKind("jpeg.tif", stored(scene(), "TIFF", compression="jpeg", quality=95), scene(), tolerance=LOSSY)
    yield ImageKind("webp.tif", tiff(scene(), photometric=2, compression=50001), "damaged (decoder error -2)")
    yield ImageKind("jpeg 2000.tif", tiff(scene(), photometric=2, compression=34712), OTHER_TIFF)


def _turned() -> Iterator[ImageKind]:
    pixels = scene()
    upright = {
        3: pixels[::-1, ::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, -1),
        8: np.rot90(pixels, 1),
        42: pixels,  # not a value that EXIF has
    }
    for orientation, expected in upright.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        name = f"turned {orientation}"
        yield ImageKind(f"{name}.jpg", stored(pixels, "JPEG", exif=exif, quality=95), expected, tolerance=LOSSY)
        if orientation == 42:
            continue
        yield ImageKind(f"{name}.png", stored(pixels, "PNG", exif=exif), expected)
        yield ImageKind(f"{name}.webp", stored(pixels, "WEBP", exif=exif, lossless=True), expected)
        yield ImageKind(f"{name}.tif", stored(pixels, "TIFF", exif=exif), expected)
        yield ImageKind(f"{name}, pages.tif", stored(pixels, "TIFF", exif=exif, **_more(255 - pixels)), expected)
    junk = b"Exif\0\0MM\0*\xff\xff\xff\xff nothing"
    yield ImageKind("damaged exif.jpg", stored(pixels, "JPEG", exif=junk, quality=95), pixels, tolerance=LOSSY)


def _other_colours() -> Iterator[ImageKind]:
    image = Image.fromarray(scene())
    luma = grey(np.asarray(image.convert("L")))
    yield ImageKind("cmyk.jpg", stored(image.convert("CMYK"), "JPEG", quality=95), scene(), tolerance=LOSSY)
    yield ImageKind("cmyk.tif", stored(image.convert("CMYK"), "TIFF"), scene())
    yield ImageKind("lab.tif", stored(image.convert("LAB"), "TIFF"), scene(), tolerance=3)
    yield ImageKind("ycbcr.tif", stored(image.convert("YCbCr"), "TIFF"), scene(), tolerance=3)
    tones = image.convert("1")
    yield ImageKind("grey.png", stored(image.convert("L"), "PNG"), luma)
    yield ImageKind("two tones.png", stored(tones, "PNG"), grey(np.asarray(tones.convert("L"))))
    yield ImageKind("grey.pgm", stored(image.convert("L"), "PPM"), luma)
    yield ImageKind("rgb.ppm", stored(image, "PPM"), scene())
    yield ImageKind("rgb.bmp", stored(image, "BMP"), scene())


def _animations() -> Iterator[ImageKind]:
    later = {"quality": 95, "lossless": True, **_more(scene(seed=6))}
    for kind, tolerance in (("GIF", 12), ("WEBP", 0), ("MPO", LOSSY)):
        yield ImageKind(f"frames, {kind}", stored(scene(), kind, **later), scene(), tolerance)


def _wrong_names() -> Iterator[ImageKind]:
    yield ImageKind("png.jpg", stored(scene(), "PNG"), scene())
    yield ImageKind("webp.jpg", stored(scene(), "WEBP", lossless=True), scene())
    yield ImageKind("avif.jpg", b"\0\0\0\x20ftypavif\0\0\0\0avifmif1" + bytes(99), f"an AVIF image, {CONVERT}")
    yield ImageKind("jpeg 2000.jpg", stored(scene(), "JPEG2000"), f"a JPEG 2000 image, {CONVERT}")
    yield ImageKind("icon.png", stored(scene(), "ICO"), f"an icon (ICO), {CONVERT}")
    yield ImageKind("tga.png", stored(scene(), "TGA"), UNKNOWN)
    yield ImageKind("pcx.bmp", stored(scene(), "PCX"), UNKNOWN)
    yield ImageKind("page.jpg", b"<!DOCTYPE html><html><body>Not found</body></html>", "not an image (a web page)")
    yield ImageKind("error.jpg", b'{"error": "no such image"}', "not an image (text)")
    yield ImageKind("drawing.png", b'<?xml version="1.0"?><svg width="9" height="9"/>', "not an image (text)")
    yield ImageKind("empty.jpg", b"", "empty file")


def _damaged() -> Iterator[ImageKind]:
    pixels = scene(400, 300)
    jpeg = stored(pixels, "JPEG", quality=95)
    png = stored(pixels, "PNG")
    progressive = stored(pixels, "JPEG", quality=95, progressive=True)
    half = len(jpeg) // 2
    yield ImageKind("half.jpg", jpeg[:half], "truncated")
    yield ImageKind("without its end.jpg", jpeg[:-2], "truncated")
    yield ImageKind("without its last bytes.jpg", jpeg[:-20], "truncated")
    yield ImageKind("zeros after half.jpg", jpeg[:half] + bytes(len(jpeg) - half), "truncated")
    yield ImageKind("half.png", png[: len(png) // 2], "truncated")
    flipped = png[: len(png) // 2] + bytes([png[len(png) // 2] ^ 0xFF]) + png[len(png) // 2 + 1 :]
    yield ImageKind("one byte changed.png", flipped, "damaged (")
    yield ImageKind("progressive, a part.jpg", progressive[: len(progressive) * 6 // 10], "truncated")
    yield ImageKind("progressive.jpg", progressive, pixels, tolerance=LOSSY)
    yield ImageKind("bytes after its end.jpg", jpeg + b"more" * 100, pixels, tolerance=LOSSY)
    yield ImageKind("a line before its start.jpg", b"\n" + jpeg, UNKNOWN)
    # A JPEG has no checksum: a damaged middle is decoded to something of the right size.
    middle = jpeg[:half] + bytes(60) + jpeg[half + 60 :]
    yield ImageKind("zeros in the middle.jpg", middle, pixels, tolerance=255)


def _sizes() -> Iterator[ImageKind]:
    strip = "1x5000 pixels: the long side is more than 1000 times the short one"
    dot = np.full((1, 1, 3), 9, np.uint8)
    yield ImageKind("1x1.png", stored(dot, "PNG"), dot)
    yield ImageKind("8x8.png", stored(scene(8, 8), "PNG"), scene(8, 8))
    yield ImageKind("1x5000.png", stored(np.zeros((5000, 1, 3), np.uint8), "PNG"), strip)
    yield ImageKind("20x5000.png", stored(scene(20, 5000), "PNG"), scene(20, 5000))
    large = stored(Image.new("L", (12_000, 9_000), 120), "JPEG", quality=30)
    yield ImageKind("108 megapixels.jpg", large, np.full((900, 1200, 3), 120, np.uint8), tolerance=1)
