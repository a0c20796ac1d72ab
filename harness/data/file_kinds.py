"""What a file is, by its first bytes."""

from __future__ import annotations

SNIFFED = 512  # bytes read to describe a file

# First bytes of the formats that are read, and the extension that fits.
_READ = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG\r\n\x1a\n": ".png",
    b"GIF8": ".gif",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"II+\0": ".tif",
    b"MM\0+": ".tif",
}
# Others that people take for images with the names above, by an offset and the bytes there.
_NOT_READ = (
    (4, b"ftypavif", "an AVIF image"),
    (4, b"ftyphei", "a HEIC image"),
    (4, b"ftypmif1", "a HEIC image"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (0, b"\0\0\x01\0", "an icon (ICO)"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"%PDF", "a PDF"),
    (0, b"PK\x03\x04", "a ZIP archive"),
)


def extension_for(start: bytes) -> str:
    """The extension that fits a file that begins with `start`, "" if its format is not read."""
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return ".webp"
    return next((extension for magic, extension in _READ.items() if start.startswith(magic)), "")


def why_not_an_image(start: bytes) -> str:
    """Why a file whose first SNIFFED bytes are `start` cannot be opened as an image."""
    if not start:
        return "empty file"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the image: run git lfs pull"
    for offset, magic, name in _NOT_READ:
        if start[offset:].startswith(magic):
            return f"{name}, which is not read; convert it to JPEG or PNG"
    if extension_for(start) == ".tif":
        return "a kind of TIFF that is not read, or damaged at its start; convert it to PNG"
    text = start.decode("utf-8", "ignore")
    cut_off = 3 if len(start) == SNIFFED else 0  # bytes of a letter that the end of `start` may have cut in two
    if "\0" in text or len(text.encode()) < len(start) - cut_off:
        return "not an image of a known format, or damaged at its start"
    if text.lstrip().lower().startswith(("<!doctype html", "<html")):
        return "not an image (a web page)"
    return "not an image (text)"
