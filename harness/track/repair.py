"""wandb's own file of a run that was killed: readable to its end again.

`wandb sync` stops at a record that was cut off, and sends nothing of the run's later starts, as if all were well.
"""

from __future__ import annotations

import struct
from pathlib import Path

# The log format of LevelDB (github.com/google/leveldb, doc/log_format.md) behind a header of wandb's: records in
# fragments, each with a checksum, its length and its kind, none across the border of a block.
_MAGIC = b":W&B"
_HEADER = 7
_BLOCK = 32 * 1024
_FRAGMENT = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def truncate_partial_record(path: Path) -> bool:
    """Cut off a record that was not written to its end; whether there was one. Nobody may be writing to the file."""
    content = path.read_bytes()
    if not content.startswith(_MAGIC):
        return False
    whole = _whole(content)
    if whole is None or whole == len(content):
        return False
    with path.open("r+b") as file:
        file.truncate(whole)
    return True


def _whole(content: bytes) -> int | None:
    """Bytes up to the end of the last whole record; None where something else than an early end is wrong."""
    position = whole = _HEADER
    while position < len(content):
        room = _BLOCK - position % _BLOCK
        if room < _FRAGMENT.size:
            position += room
            continue
        if len(content) - position < _FRAGMENT.size:
            break
        _, length, kind = _FRAGMENT.unpack_from(content, position)
        if kind not in (_FULL, _FIRST, _MIDDLE, _LAST):
            # A machine that lost its power may leave zeros where the file had grown already.
            return None if any(content[position:]) else whole
        position += _FRAGMENT.size + length
        if position <= len(content) and kind in (_FULL, _LAST):
            whole = position
    return whole
