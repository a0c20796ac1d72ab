"""One image file as RGB pixels: every mode and orientation, and a plain reason where that is impossible."""

from __future__ import annotations

import dataclasses
import io
import os
import stat
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base

from harness.data.file_kinds import SNIFFED, why_not_an_image
from harness.data.pixel_budget import decoding, max_pixels, size_problem

# The formats that class folders are searched for, and no others: the content of a file cannot select
# another decoder, such as PostScript.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM")

# A JPEG may be decoded at a half, a quarter or an eighth of its size if at least this many times the side that is
# needed is left. Against full decoding, images of 12 megapixels at a short side of 256 then differ by 0.2 to 0.6 of
# 255 levels on average, less than JPEG's own loss; at 1 instead of 2 it would be up to 2.4.
SPARE = 2

# The limit below replaces Pillow's, which cannot be set from outside; it is checked before any pixel is decoded.
Image.MAX_IMAGE_PIXELS = None
# The pixels are good without EXIF data; a filter per call would not be thread-safe.
warnings.filterwarnings("ignore", message="Corrupt EXIF data", category=UserWarning)

BYTES_PER_PIXEL = 8  # of a file, at most: four channels of 16 bits, not compressed

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TURNED = (5, 6, 7, 8)  # orientations that exchange width and height


class DecodeError(Exception):
    """Why a file is not an image that can be used, in a few plain words; `unread` when not even its bytes came."""

    def __init__(self, reason: str, *, unread: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.unread = unread


@dataclasses.dataclass(frozen=True)
class Decoded:
    """One image as RGB, upright."""

    image: Image.Image
    size: tuple[int, int]  # width and height, before a JPEG was reduced
    box: tuple[float, float, float, float]  # left, top, right, bottom of what is not the padding of a reduced JPEG
    mode: str  # Pillow's, of the file
    grey_bits: int | None  # of the values in a 16-bit grey file


def decode_pil(source: str | os.PathLike[str] | bytes) -> Image.Image:
    """The whole image as RGB, upright by its EXIF orientation; of an animation the first frame."""
    return decode_image(source).image


def decode_image(source: str | os.PathLike[str] | bytes, short_side: int | None = None) -> Decoded:
    """As `decode_pil`; with `short_side`, a JPEG may come smaller, with SPARE times that side or more."""
    content = source if isinstance(source, bytes) else read(source)
    image = _open(content)
    mode, full = image.mode, image.size
    factor = _reduce(image, SPARE * short_side) if short_side else 1
    padding = image.width - full[0] / factor, image.height - full[1] / factor
    try:
        # A progressive JPEG is held whole while it is decoded, whatever its size afterwards.
        pixels = full[0] * full[1] if image.info.get("progressive") else image.width * image.height
        with decoding(pixels):
            image.load()
            orientation = _orientation(image)
            rgb, grey_bits = _rgb(image)
            upright = rgb.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else rgb
    except (DecodeError, MemoryError):
        raise
    except Exception as error:  # decoders of damaged files raise nearly anything: OSError, SyntaxError, struct.error…
        raise DecodeError(_damage(error)) from error
    if orientation in TURNED:
        full, padding = (full[1], full[0]), (padding[1], padding[0])
    return Decoded(upright, full, _box(upright, padding, orientation), mode, grey_bits)


def upright_rgb(image: Image.Image) -> Image.Image:
    """An image that the caller has opened, as files are decoded: RGB, upright, transparency on white. DecodeError."""
    (rgb, _), orientation = _rgb(image), _orientation(image)
    return rgb.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else rgb


def _box(upright: Image.Image, padding: tuple[float, float], orientation: int) -> tuple[float, float, float, float]:
    """`upright` without the columns and rows of padding, which were at the right and at the bottom before turning."""
    left = padding[0] if orientation in (2, 3, 6, 7) else 0
    top = padding[1] if orientation in (3, 4, 7, 8) else 0
    return left, top, left + upright.width - padding[0], top + upright.height - padding[1]


def upright_size(source: str | os.PathLike[str] | bytes) -> tuple[int, int]:
    """(width, height) that an image has once it is decoded; of a file, only its first bytes are read."""
    with _open(source if isinstance(source, bytes) else _image_file(source)) as image:
        tags = getattr(image, "tag_v2", {})  # of a TIFF, whose size newer versions of Pillow turn at once
        width, height = tags.get(Base.ImageWidth, image.width), tags.get(Base.ImageLength, image.height)
        return (height, width) if _orientation(image) in TURNED else (width, height)


def read(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file."""
    file = _image_file(path)
    try:
        return file.read_bytes()
    except OSError as error:
        raise DecodeError(_unreadable(error), unread=True) from error


def _image_file(path: str | os.PathLike[str]) -> Path:
    """The path; DecodeError if it is not that of a file, or of one too large to be an image."""
    path = Path(path)
    try:
        status = path.stat()
    except OSError as error:
        raise DecodeError(_unreadable(error), unread=True) from error
    if not stat.S_ISREG(status.st_mode):  # opening a named pipe would wait for a writer
        raise DecodeError("a folder, named pipe or device, not a file", unread=True)
    if status.st_size > (most := BYTES_PER_PIXEL * max_pixels()):
        raise DecodeError(f"{status.st_size:,} bytes, more than the {most:,} that an image may have", unread=True)
    return path


def read_below(root: Path, file: str) -> bytes:
    """The bytes of a file by its path relative to `root`."""
    return read(root / file)


def _open(source: bytes | Path) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
    except UnidentifiedImageError:
        raise DecodeError(why_not_an_image(_first_bytes(source, SNIFFED))) from None
    except MemoryError:
        raise
    except OSError as error:
        if error.errno is not None:
            raise DecodeError(_unreadable(error), unread=True) from error
        raise DecodeError(_damage(error)) from error
    except Exception as error:
        raise DecodeError(_damage(error)) from error
    if problem := size_problem(*image.size):
        image.close()
        raise DecodeError(f"{image.width}x{image.height} pixels{problem}")
    return image


def _reduce(image: Image.Image, least: int) -> int:
    """Have a JPEG decoded at a fraction of its size, as long as its short side keeps `least` pixels: the divisor."""
    if image.format not in ("JPEG", "MPO"):
        return 1
    factor = next((factor for factor in (8, 4, 2) if min(image.size) // factor >= least), 1)
    reduced = factor > 1 and image.draft(image.mode, (image.width // factor, image.height // factor))
    return factor if reduced else 1


def _first_bytes(source: bytes | Path, count: int) -> bytes:
    if isinstance(source, bytes):
        return source[:count]
    with source.open("rb") as content:
        return content.read(count)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 (upright) where there is none or it is damaged, as the pixels are then still good."""
    try:
        return int(image.getexif().get(Base.Orientation, 1))
    except Exception:
        return 1


def _rgb(image: Image.Image) -> tuple[Image.Image, int | None]:
    """The loaded image in RGB, and the bits of its values if they are 16-bit grey.

    Transparent images are laid on white, the page that logos and cut-outs are drawn for: dropping alpha would
    show whatever colour happens to be stored beneath it. Alpha that is 0 everywhere is ignored.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image, None
    if image.mode == "I" or image.mode.startswith("I;16"):
        grey = np.asarray(image)
        bits = _grey_bits(image, grey)
        return Image.fromarray((grey.astype(np.uint32) >> (bits - 8)).astype(np.uint8)).convert("RGB"), bits
    if image.mode == "F":
        raise DecodeError("floating-point pixels have no fixed scale; save it with 8 or 16 bits")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        # An unused channel, as in BMP files of 32 bits: everything would become white.
        if layer.getchannel("A").getextrema() == (0, 0):
            return layer.convert("RGB"), None
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB"), None
    return image.convert("RGB"), None


def _grey_bits(image: Image.Image, grey: np.ndarray) -> int:
    """Bits of the values (H, W) of a 16-bit grey image; the 8 high ones of these are kept.

    Cameras and scanners write 12-bit values into 16-bit files, where 8 of 16 bits would be nearly black. The file
    says how many bits it uses if it is a TIFF of 12 bits; else it is the fewest of 8, 12 and 16 that hold the values.
    Pillow's own convert clips instead, which turns nearly every 16-bit image white.
    """
    low, high = int(grey.min()), int(grey.max())
    if low < 0 or high > 65535:
        raise DecodeError(f"grey values {low} to {high} have no fixed scale; save it with 8 or 16 bits")
    stated = getattr(image, "tag_v2", {}).get(Base.BitsPerSample)
    if stated == (12,):
        return 12
    return next(bits for bits in (8, 12, 16) if high < 1 << bits)


def _unreadable(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no longer there"
    return (error.strerror or str(error)).lower()


def _damage(error: Exception) -> str:
    text = str(error)
    if isinstance(error, EOFError) or "truncat" in text.lower():
        return "truncated"
    return f"damaged ({' '.join(text.split())[:100] or type(error).__name__})"
