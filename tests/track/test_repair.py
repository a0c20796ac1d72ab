from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from wandb.proto import wandb_internal_pb2 as pb

from harness.track.repair import remove_sweep, truncate_partial_record

BLOCK = 32 * 1024


def log(lengths: list[int]) -> tuple[bytes, list[int]]:
    """A log file of wandb with records of these lengths, and the position at which each ends."""
    content, ends = bytearray(b":W&B" + struct.pack("<HB", 0xBEE1, 0)), []
    for length in lengths:
        left, begun = length, False
        while left or not begun:
            room = BLOCK - len(content) % BLOCK
            if room < 7:
                content += bytes(room)
                continue
            part = min(left, room - 7)
            # full 1, first 2, middle 3, last 4
            kind = (4 if part == left else 3) if begun else (1 if part == left else 2)
            payload = b"x" * part
            content += struct.pack("<IHB", zlib.crc32(bytes([kind]) + payload), part, kind) + payload
            left, begun = left - part, True
        ends.append(len(content))
    return bytes(content), ends


@pytest.mark.parametrize("lengths", [[10, 20, 30], [0, 5], [100_000, 40], [BLOCK - 14, 3, 70_000], [BLOCK - 20, 9]])
def test_a_file_cut_anywhere_keeps_its_complete_records(tmp_path: Path, lengths: list[int]) -> None:
    content, ends = log(lengths)
    path = tmp_path / "run.wandb"
    path.write_bytes(content)
    assert not truncate_partial_record(path)
    assert path.read_bytes() == content
    for cut in sorted({*range(7, len(content), 997), *range(max(7, len(content) - 60), len(content))}):
        path.write_bytes(content[:cut])
        expected = max([7, *(end for end in ends if end <= cut)])
        assert truncate_partial_record(path) == (expected < cut)
        assert path.read_bytes() == content[:expected]
        # The repaired file needs no second repair.
        assert not truncate_partial_record(path)


def test_zeros_after_a_power_failure_are_removed(tmp_path: Path) -> None:
    content, ends = log([10, 20])
    path = tmp_path / "run.wandb"
    path.write_bytes(content[: ends[0]] + bytes(3000))
    assert truncate_partial_record(path)
    assert path.read_bytes() == content[: ends[0]]


@pytest.mark.parametrize("content", [b"", b":W&", b"something else", log([10])[0] + b"\xff" * 50])
def test_other_damage_is_left_unchanged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.wandb"
    path.write_bytes(content)
    assert not truncate_partial_record(path)
    assert path.read_bytes() == content


def test_a_sweep_that_no_server_knows_is_removed_and_nothing_else(tmp_path: Path) -> None:
    record = pb.Record(num=1, run=pb.RunRecord(run_id="0ab1c2d3-4", run_group="grid", sweep_id="0ab1c2d3", host="h"))
    record.run.config.update.add(key="lr", value_json="0.1")
    payload = record.SerializeToString()
    content, _ = log([10, len(payload), BLOCK])
    start = content.index(b"x" * len(payload), 7 + 7 + 10)
    checksum = struct.pack("<I", zlib.crc32(b"\x01" + payload))
    content = content[: start - 7] + checksum + content[start - 3 : start] + payload + content[start + len(payload) :]
    path = tmp_path / "run.wandb"
    path.write_bytes(content)
    assert not remove_sweep(path, "ffffffff")
    assert path.read_bytes() == content

    assert remove_sweep(path, "0ab1c2d3")
    repaired = path.read_bytes()
    changed = repaired[start : start + len(payload)]
    assert (repaired[: start - 7], repaired[start - 3 : start]) == (content[: start - 7], content[start - 3 : start])
    assert repaired[start + len(payload) :] == content[start + len(payload) :]
    assert repaired[start - 7 : start - 3] == struct.pack("<I", zlib.crc32(b"\x01" + changed))
    read = pb.Record.FromString(changed)
    read.run.DiscardUnknownFields()
    record.run.ClearField("sweep_id")
    assert read == record
    assert not remove_sweep(path, "0ab1c2d3")
