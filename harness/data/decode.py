"""One image file as RGB pixels: every mode and orientation, and a plain reason where that is impossible."""

from __future__ import annotations

import dataclasses
import io
import os
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

# The formats that class folders are searched for, and no others: the content of a file cannot select
# another decoder, such as PostScript.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM")

# Pillow warns above this and raises above twice this; here it is one hard limit, checked in the header.
MAX_PIXELS = Image.MAX_IMAGE_PIXELS or 89_478_485

SNIFFED = 512  # bytes read to describe a file that is not an image

# Both are dealt with below, and a filter per call would not be thread-safe.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", message="Corrupt EXIF data", category=UserWarning)

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class DecodeError(Exception):
    """Why a file is not an image that can be used, in a few plain words; `unread` when not even its bytes came."""

    def __init__(self, reason: str, *, unread: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.unread = unread


@dataclasses.dataclass(frozen=True)
class Header:
    """Header of an image: stored width and height in pixels, and Pillow's colour mode."""

    width: int
    height: int
    mode: str


def decode(source: str | os.PathLike[str] | bytes) -> np.ndarray:
    """The image, uint8 (H, W, 3)."""
    return np.asarray(decode_pil(source))


def decode_pil(source: str | os.PathLike[str] | bytes) -> Image.Image:
    """The whole image as RGB, upright by its EXIF orientation; of an animation the first frame."""
    content = source if isinstance(source, bytes) else read(source)
    image = _open(content)
    try:
        image.load()
        orientation = _orientation(image)
        rgb = _rgb(image)
        return rgb.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else rgb
    except (DecodeError, MemoryError):
        raise
    except Exception as error:  # decoders of damaged files raise nearly anything: OSError, SyntaxError, struct.error…
        raise DecodeError(_damage(error)) from error


def header(source: str | os.PathLike[str] | bytes) -> Header:
    """Size and mode without decoding: of a file, only its first bytes are read."""
    image = _open(source if isinstance(source, bytes) else Path(source))
    with image:
        return Header(image.width, image.height, image.mode)


def upright_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(width, height) that a file's image has once it is decoded, from its first bytes."""
    with _open(Path(path)) as image:
        turned = _orientation(image) in (5, 6, 7, 8)
        return (image.height, image.width) if turned else image.size


def read(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DecodeError(_unreadable(error), unread=True) from error


def read_below(root: Path, file: str) -> bytes:
    """The bytes of a file by its path relative to `root`."""
    return read(root / file)


def _open(source: bytes | Path) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DecodeError(_too_large(_declared_size(source))) from None
    except UnidentifiedImageError:
        raise DecodeError(_not_an_image(_first_bytes(source, SNIFFED))) from None
    except MemoryError:
        raise
    except OSError as error:
        if error.errno is not None:
            raise DecodeError(_unreadable(error), unread=True) from error
        raise DecodeError(_damage(error)) from error
    except Exception as error:
        raise DecodeError(_damage(error)) from error
    if image.width * image.height > MAX_PIXELS:
        raise DecodeError(_too_large(image.size))
    return image


def _declared_size(source: bytes | Path) -> tuple[int, int] | None:
    """(width, height) in the header of an image that Pillow refuses for its size without naming it."""
    start = _first_bytes(source, 16)
    for factory, accepts in (Image.OPEN[name] for name in FORMATS):
        if accepts is None or accepts(start) is True:
            with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as content:
                try:
                    return factory(content, "").size
                except Exception:  # it is refused already; this only words the reason
                    return None
    return None


def _first_bytes(source: bytes | Path, count: int) -> bytes:
    if isinstance(source, bytes):
        return source[:count]
    with source.open("rb") as content:
        return content.read(count)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 (upright) where there is none or it is damaged, as the pixels are then still good."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    """The loaded image in RGB.

    Transparent images are laid on white, the page that logos and cut-outs are drawn for: dropping alpha would
    show whatever colour happens to be stored beneath it. Alpha that is 0 everywhere is ignored.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if image.mode == "F":
        raise DecodeError("floating-point pixels have no fixed scale; save it with 8 or 16 bits")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        # An unused channel, as in BMP files of 32 bits: everything would become white.
        if layer.getchannel("A").getextrema() == (0, 0):
            return layer.convert("RGB")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _eight_bits(grey: np.ndarray) -> np.ndarray:
    """16-bit grey (H, W), in whatever integer type Pillow keeps it, as uint8: the high byte.

    Pillow's own convert clips instead, which turns nearly every 16-bit image white; 16-bit colour it does
    reduce to the high byte.
    """
    if grey.min() < 0 or grey.max() > 65535:
        raise DecodeError(f"grey values {grey.min()} to {grey.max()} have no fixed scale; save it with 8 or 16 bits")
    return (grey.astype(np.uint32) >> 8).astype(np.uint8)


def _unreadable(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no longer there"
    return (error.strerror or str(error)).lower()


def _too_large(size: tuple[int, int] | None) -> str:
    pixels = f"{size[0]}x{size[1]} pixels" if size else "too many pixels"
    return f"{pixels}, more than the {MAX_PIXELS:,} allowed"


def _damage(error: Exception) -> str:
    text = str(error)
    if isinstance(error, EOFError) or "truncat" in text.lower():
        return "truncated"
    return f"damaged ({' '.join(text.split())[:100] or type(error).__name__})"


def _not_an_image(start: bytes) -> str:
    if not start:
        return "empty file"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the image: run git lfs pull"
    text = start.decode("utf-8", "ignore")
    cut_off = 3 if len(start) == SNIFFED else 0  # bytes of a letter that the end of `start` may have cut in two
    if "\0" in text or len(text.encode()) < len(start) - cut_off:
        return "not an image of a known format, or damaged at its start"
    if text.lstrip().lower().startswith(("<!doctype html", "<html")):
        return "not an image (a web page)"
    return "not an image (text)"
