"""Repair the log file that wandb wrote for an offline run, so that all of it can be sent.

`wandb sync` stops at the partial record of a killed run without an error, and does not send what the resumed run wrote
later. A server refuses a run of a sweep that it does not know, and earlier versions recorded such a sweep.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

# The log format of LevelDB (github.com/google/leveldb, doc/log_format.md) after a header of wandb's: records are
# split into fragments, each with a checksum, a length and a type. No fragment crosses a block boundary.
_MAGIC = b":W&B"
_HEADER = 7
_BLOCK = 32 * 1024
_FRAGMENT = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4

# Fields of a RunRecord in wandb's wandb_internal.proto, as protobuf writes their numbers: the sweep (12), and a number
# that no field has (1000), which readers ignore. Both hold text.
_SWEEP_FIELD = bytes([12 << 3 | 2])
_UNKNOWN_FIELD = b"\xc2\x3e"


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


def remove_sweep(path: Path, sweep_id: str) -> bool:
    """Make the log name no sweep instead of this one; returns whether it named it. No process may be writing to it.

    The field becomes one of the same length with an unknown number, so that nothing else in the file moves.
    """
    content = path.read_bytes()
    name = sweep_id.encode()
    field = _SWEEP_FIELD + bytes([len(name)]) + name
    unknown = _UNKNOWN_FIELD + bytes([len(name) - 1]) + name[1:]
    if not content.startswith(_MAGIC) or field not in content:
        return False
    repaired: dict[int, bytes] = {}  # fragments by their positions
    for position, length, kind in _fragments(content):
        start = position + _FRAGMENT.size
        payload = content[start : start + length]
        if field in payload and len(payload) == length:
            payload = payload.replace(field, unknown)
            checksum = zlib.crc32(bytes([kind]) + payload)
            repaired[position] = _FRAGMENT.pack(checksum, length, kind) + payload
    with path.open("r+b") as file:
        for position, fragment in repaired.items():
            file.seek(position)
            file.write(fragment)
    return bool(repaired)


def _complete_length(content: bytes) -> int | None:
    """Length in bytes up to the end of the last complete record; None if the file is damaged in another way."""
    complete = _HEADER
    for position, length, kind in _fragments(content):
        if kind not in (_FULL, _FIRST, _MIDDLE, _LAST):
            # After a power failure, a file may end in zeros.
            return None if any(content[position:]) else complete
        end = position + _FRAGMENT.size + length
        if end <= len(content) and kind in (_FULL, _LAST):
            complete = end
    return complete


def _fragments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Position of each fragment's head, length of its payload, and type; the last may be partial."""
    position = _HEADER
    while position < len(content):
        room = _BLOCK - position % _BLOCK
        if room < _FRAGMENT.size:
            position += room
            continue
        if len(content) - position < _FRAGMENT.size:
            return
        _, length, kind = _FRAGMENT.unpack_from(content, position)
        yield position, length, kind
        position += _FRAGMENT.size + length
