"""How large an image may be, and how many pixels are decoded at once: what bounds memory."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

from harness.errors import ConfigError

VARIABLE = "HARNESS_MAX_PIXELS"
DEFAULT = 250_000_000  # the largest sensors of phones have 200 million

# The long side of an image in short sides. A longer one would take gigabytes once its short side is enlarged.
MAX_ASPECT = 1000

_changed = threading.Condition()
_in_use = 0  # pixels that threads of this process are decoding


def max_pixels() -> int:
    """Pixels that one image may have, and that all threads together decode at once."""
    value = os.environ.get(VARIABLE, "")
    if not value.strip():
        return DEFAULT
    try:
        pixels = int(value.replace("_", "").replace(",", ""))
    except ValueError:
        pixels = 0
    if pixels < 1:
        raise ConfigError(f"{VARIABLE} is {value!r}; give the number of pixels that an image may have.")
    return pixels


def size_problem(width: int, height: int) -> str:
    """Why an image of this size is refused, after the words "WxH pixels"; "" if it is not."""
    if width * height > (most := max_pixels()):
        return f", more than the {most:,} allowed (HARNESS_MAX_PIXELS sets the limit)"
    if max(width, height) > MAX_ASPECT * min(width, height):
        return f": the long side is more than {MAX_ASPECT} times the short one"
    return ""


@contextlib.contextmanager
def decoding(pixels: int) -> Iterator[None]:
    """Wait until an image of this size fits beside those that other threads decode; one alone always fits.

    Pillow keeps 4 bytes a pixel, and one or two copies while it converts an image.
    """
    global _in_use
    most = max_pixels()
    with _changed:
        _changed.wait_for(lambda: _in_use == 0 or _in_use + pixels <= most)
        _in_use += pixels
    try:
        yield
    finally:
        with _changed:
            _in_use -= pixels
            _changed.notify_all()
