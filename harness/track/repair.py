"""Repair the log file that wandb wrote for a run that was killed.

`wandb sync` stops at a partial record without an error, and does not send what the resumed run wrote later.
"""

from __future__ import annotations

import struct
from pathlib import Path

# The log format of LevelDB (github.com/google/leveldb, doc/log_format.md) after a header of wandb's: records are
# split into fragments, each with a checksum, a length and a type. No fragment crosses a block boundary.
_MAGIC = b":W&B"
_HEADER = 7
_BLOCK = 32 * 1024
_FRAGMENT = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def truncate_partial_record(path: Path) -> bool:
    """Remove a partial last record; returns whether there was one. No process may be writing to the file."""
    content = path.read_bytes()
    if not content.startswith(_MAGIC):
        return False
    complete = _complete_length(content)
    if complete is None or complete == len(content):
        return False
    with path.open("r+b") as file:
        file.truncate(complete)
    return True


def _complete_length(content: bytes) -> int | None:
    """Length in bytes up to the end of the last complete record; None if the file is damaged in another way."""
    position = complete = _HEADER
    while position < len(content):
        room = _BLOCK - position % _BLOCK
        if room < _FRAGMENT.size:
            position += room
            continue
        if len(content) - position < _FRAGMENT.size:
            break
        _, length, kind = _FRAGMENT.unpack_from(content, position)
        if kind not in (_FULL, _FIRST, _MIDDLE, _LAST):
            # After a power failure, a file may end in zeros.
            return None if any(content[position:]) else complete
        position += _FRAGMENT.size + length
        if position <= len(content) and kind in (_FULL, _LAST):
            complete = position
    return complete
