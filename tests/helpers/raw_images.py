"""Writers of TIFF and PNG files with kinds of samples and layouts that Pillow reads but does not write."""

from __future__ import annotations

import struct
import zlib

import numpy as np

_KINDS = {"u": 1, "i": 2, "f": 3}  # values of the tag SampleFormat


def tiff(
    samples: np.ndarray, *, photometric: int, bits: int | None = None, planar: bool = False, compression: int = 1
) -> bytes:
    """One image of samples (H, W) or (H, W, bands), little-endian, in one strip per plane.

    `photometric` is 0 for white is zero, 1 for black is zero, 2 for RGB. `bits=12` packs two samples into three bytes.
    """
    height, width = samples.shape[:2]
    bands = 1 if samples.ndim == 2 else samples.shape[2]
    planes = [samples[..., band] for band in range(bands)] if planar else [samples]
    strips = [_packed(plane) if bits == 12 else plane.tobytes() for plane in planes]
    extra = max(0, bands - (3 if photometric == 2 else 1))
    start = 8 + np.cumsum([0, *map(len, strips)])[:-1]
    fields = [
        (256, 4, [width]),
        (257, 4, [height]),
        (258, 3, [bits or samples.dtype.itemsize * 8] * bands),
        (259, 3, [compression]),
        (262, 3, [photometric]),
        (273, 4, start.tolist()),
        (277, 3, [bands]),
        (278, 4, [height]),
        (279, 4, [len(strip) for strip in strips]),
        (284, 3, [2 if planar else 1]),
        *([(338, 3, [0] * extra)] if extra else []),
        (339, 3, [_KINDS[samples.dtype.kind]] * bands),
    ]
    content = b"".join(strips)
    content += bytes(len(content) % 2)
    return b"II*\0" + struct.pack("<I", 8 + len(content)) + content + _directory(fields, 8 + len(content))


def big_tiff(pixels: np.ndarray) -> bytes:
    """RGB pixels uint8 (H, W, 3) as BigTIFF, whose offsets have 64 bits."""
    height, width, _ = pixels.shape
    content = pixels.tobytes()
    fields = {256: width, 257: height, 259: 1, 262: 2, 273: 16, 277: 3, 278: height, 279: len(content), 284: 1}
    entries = {tag: struct.pack("<HHQQ", tag, 16, 1, value) for tag, value in fields.items()}
    entries[258] = struct.pack("<HHQ4H", 258, 3, 3, 8, 8, 8, 0)
    directory = struct.pack("<Q", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + bytes(8)
    return b"II+\0" + struct.pack("<HHQ", 8, 0, 16 + len(content)) + content + directory


def png_of_16_bits(samples: np.ndarray) -> bytes:
    """A PNG of samples of 16 bits (H, W, 3 or 4)."""
    height, width, bands = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    start = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[bands], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", start) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _directory(fields: list[tuple[int, int, list[int]]], place: int) -> bytes:
    """Entries of (tag, type, values); values of more than four bytes follow the entries."""
    after = place + 2 + 12 * len(fields) + 4
    entries, values = b"", b""
    for tag, kind, numbers in fields:
        packed = struct.pack(f"<{len(numbers)}{'H' if kind == 3 else 'I'}", *numbers)
        inline = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack("<I", after + len(values))
        entries += struct.pack("<HHI", tag, kind, len(numbers)) + inline
        values += packed if len(packed) > 4 else b""
    return struct.pack("<H", len(fields)) + entries + bytes(4) + values


def _packed(samples: np.ndarray) -> bytes:
    """12-bit samples (H, W), W even, most significant bits first."""
    first, second = samples[:, ::2].astype(np.uint16), samples[:, 1::2].astype(np.uint16)
    parts = first >> 4, (first & 15) << 4 | second >> 8, second & 255
    return np.stack(parts, axis=-1).astype(np.uint8).tobytes()
