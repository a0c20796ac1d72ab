from __future__ import annotations

import errno
import hashlib
import os
import shutil
import types
from pathlib import Path

import pytest

from harness.config import RunConfig
from harness.data import digests
from harness.data.dataset import open_dataset
from harness.data.decode import DecodeError
from harness.data.digests import known_files, stamp_of, table_path
from harness.data.image_folder import fingerprint, load_image_folder
from harness.errors import DataError
from harness.model.vit import Preprocessing

PREPROCESSING = Preprocessing(32, 32, "bilinear", (0.5,) * 3, (0.5,) * 3)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for name in ("a", "b", "größe c"):
        (tmp_path / "data" / name).write_text(f"content {name}")
    return tmp_path / "data"


class Reader:
    """Reads files under `root` and records their names."""

    def __init__(self, root: Path) -> None:
        self.root, self.names = root, list[str]()

    def __call__(self, name: str) -> bytes:
        self.names.append(name)
        return (self.root / name).read_bytes()


def known(root: Path, caches: Path) -> tuple[dict[str, str], list[str]]:
    """The digests of every file under `root`, and which were read for them."""
    reader = Reader(root)
    stamps = {path.name: stamp_of(path.stat()) for path in sorted(root.iterdir())}
    return {name: file.digest for name, file in known_files(root, stamps, reader, caches).items()}, sorted(reader.names)


def blake2b(content: str) -> str:
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def test_a_file_is_read_once(root: Path, tmp_path: Path) -> None:
    expected = {name: blake2b(f"content {name}") for name in ("a", "b", "größe c")}
    assert known(root, tmp_path) == (expected, ["a", "b", "größe c"])
    assert known(root, tmp_path) == (expected, [])
    assert known(root, tmp_path / "another")[1] == ["a", "b", "größe c"]


def test_a_file_with_another_time_size_or_inode_is_read_again(root: Path, tmp_path: Path) -> None:
    known(root, tmp_path)
    status = (root / "a").stat()
    (root / "a").write_text("CONTENT a")  # of the same size
    os.utime(root / "a", ns=(0, status.st_mtime_ns + 1))
    assert known(root, tmp_path) == (
        {"a": blake2b("CONTENT a"), "b": blake2b("content b"), "größe c": blake2b("content größe c")},
        ["a"],
    )
    status = (root / "b").stat()
    (root / "new").write_text("content B")
    os.utime(root / "new", ns=(status.st_atime_ns, status.st_mtime_ns))
    (root / "new").replace(root / "b")
    found, names = known(root, tmp_path)
    assert (found["b"], names) == (blake2b("content B"), ["b"])
    with (root / "b").open("a") as file:
        file.write("!")
    os.utime(root / "b", ns=(status.st_atime_ns, status.st_mtime_ns))
    found, names = known(root, tmp_path)
    assert (found["b"], names) == (blake2b("content B!"), ["b"])
    (root / "d").write_text("d")
    assert known(root, tmp_path)[1] == ["d"]
    assert known(root, tmp_path)[1] == []


def test_a_file_that_cannot_be_read_is_tried_again(root: Path, tmp_path: Path) -> None:
    def refuse(name: str) -> bytes:
        raise DecodeError("permission denied", unread=True)

    stamps = {path.name: stamp_of(path.stat()) for path in root.iterdir()}
    assert {file.digest for file in known_files(root, stamps, refuse, tmp_path).values()} == {""}
    assert known(root, tmp_path)[1] == ["a", "b", "größe c"]


def test_inodes_and_times_of_64_bits_are_remembered(root: Path, tmp_path: Path) -> None:
    """GlusterFS and mergerfs number inodes with all 64 bits."""

    def read_for(inode: int) -> list[str]:
        reader = Reader(root)
        status = types.SimpleNamespace(st_size=9, st_mtime_ns=2**63 + 7, st_ino=inode)
        known_files(root, {"a": stamp_of(status)}, reader, tmp_path)
        return reader.names

    assert [read_for(inode) for inode in (2**64 - 2, 2**64 - 2, 2**64 - 3)] == [["a"], [], ["a"]]


def with_one_bit_flipped(content: bytes) -> bytes:
    """A file of numpy that seems to be encrypted."""
    place = content.rindex(b"PK\1\2") + 8
    return content[:place] + b"\1" + content[place + 1 :]


def test_a_damaged_or_unwritable_table_only_costs_time(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = known(root, tmp_path)
    path = table_path(root, tmp_path)
    for content in (b"", b"nonsense", path.read_bytes()[:-50], with_one_bit_flipped(path.read_bytes())):
        path.write_bytes(content)
        assert known(root, tmp_path) == (expected, ["a", "b", "größe c"])
        assert known(root, tmp_path) == (expected, [])

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path.unlink()
    monkeypatch.setattr(digests, "_save", full)
    assert known(root, tmp_path) == (expected, ["a", "b", "größe c"])


def count_opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the images that are opened from here on."""
    opened: list[str] = []
    read_bytes = Path.read_bytes

    def record(path: Path) -> bytes:
        opened.append(path.name)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", record)
    return opened


def test_a_second_start_opens_no_image(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunConfig(data=str(data_folder), cache_dir=str(tmp_path))
    first = open_dataset(load_image_folder(config), PREPROCESSING, config)
    opened = count_opened(monkeypatch)
    again = open_dataset(load_image_folder(config), PREPROCESSING, config)
    assert opened == []
    assert again.fingerprint == first.fingerprint
    assert again.fingerprint == fingerprint(load_image_folder(config), first.pixels.digests)


def test_a_first_start_reads_each_image_for_its_digest_once_over_all_loads(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = count_opened(monkeypatch)
    config = RunConfig(data=str(data_folder), cache_dir=str(tmp_path))
    for _ in range(3):  # `harness train`, the run it starts, and another trial
        load_image_folder(config)
    assert len(opened) == 39


def test_copies_in_two_splits_are_found_without_opening_an_image(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "data"
    shutil.copytree(data_folder, root)
    shutil.copy(root / "train" / "class 0" / "000.png", root / "test" / "class 1" / "copy.png")
    config = RunConfig(data=str(root), cache_dir=str(tmp_path / "caches"))
    message = "train/class 0/000.png = test/class 1/copy.png"
    with pytest.raises(DataError, match=message):
        load_image_folder(config)
    opened = count_opened(monkeypatch)
    with pytest.raises(DataError, match=message):
        load_image_folder(config)
    assert opened == []
