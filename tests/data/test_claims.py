"""Machines that share the disk of a cache divide the images. Here a process with a host name stands for a machine."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.data import claims, store
from harness.data.cache import open_cache, store_folder
from harness.errors import DataError
from tests import ROOT
from tests.data.test_cache import SMALL, kept, leftovers, names, paint

IMAGES = 60

# Decodes with one thread, which has claimed five images when it waits for a line at the first one. Prints the digest of
# each image and a hash of all pixels.
MACHINE = """
import hashlib, socket, sys
from pathlib import Path
from harness.data import cache, cache_build, parallel
from harness.data.resize import Resize
machine, root, caches = sys.argv[1:]
socket.gethostname = lambda: machine
parallel.usable_cores = lambda: 1
waited = []
decode = cache_build.decode_resized
def decode_and_print(content, resize):
    sys.stdout.write(hashlib.blake2b(content, digest_size=16).hexdigest() + "\\n")  # print writes the end apart
    sys.stdout.flush()
    if not waited:
        waited.append(sys.stdin.readline())
    return decode(content, resize)
cache_build.decode_resized = decode_and_print
files = sorted(path.name for path in Path(root).iterdir())
digests = [hashlib.blake2b(Path(root, name).read_bytes(), digest_size=16).hexdigest() for name in files]
print("ready", flush=True)
sys.stdin.readline()
result = cache.open_cache(root, files, digests=digests, resize=Resize(16), cache_dir=caches)
print("pixels", hashlib.sha256(b"".join(result.image(index).tobytes() for index in range(len(files)))).hexdigest())
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(IMAGES):
        paint(tmp_path / "data" / f"{number:02}.png", 20, 16 + number % 5, seed=number)
    return tmp_path / "data"


@pytest.fixture
def caches(tmp_path: Path) -> Path:
    return tmp_path / "caches"


@contextlib.contextmanager
def machines(root: Path, caches: Path, *hosts: str) -> Iterator[list[subprocess.Popen[str]]]:
    """A process for each host name, which waits for a line."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MACHINE, host, str(root), str(caches)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for host in hosts
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def begin(process: subprocess.Popen[str]) -> str:
    """Let it begin; returns the digest of the first image that it claims and decodes, at which it waits."""
    proceed(process)
    assert process.stdout is not None
    return process.stdout.readline().strip()


def proceed(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def end(process: subprocess.Popen[str]) -> tuple[list[str], str, str]:
    """The digests of the images that it decoded, the hash of all pixels, and what it printed as an error."""
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    *decoded, last = out.splitlines()
    return decoded, last, error


def test_machines_divide_the_images(root: Path, caches: Path) -> None:
    with machines(root, caches, "a", "b") as processes:
        first = [begin(process) for process in processes]  # each has claimed images, and decoded none
        for process in processes:
            proceed(process)
        (of_a, pixels_a, _), (of_b, pixels_b, _) = map(end, processes)
    of_a, of_b = [first[0], *of_a], [first[1], *of_b]
    assert len(of_a) >= 5 and len(of_b) >= 5
    assert len(of_a) + len(of_b) == len({*of_a, *of_b}) == kept(caches) == IMAGES
    assert leftovers(caches) == []
    with machines(root, caches.with_name("alone"), "alone") as (alone,):
        begin(alone)
        decoded, expected, _ = end(alone)
    assert len(decoded) == IMAGES - 1 and pixels_a == pixels_b == expected


def test_a_machine_that_dies_leaves_its_share_to_the_others(root: Path, caches: Path) -> None:
    with machines(root, caches, "hangs", "b") as (dying, other):
        claimed = begin(dying)
        decoded = [begin(other)]
        proceed(other)
        assert other.stdout is not None
        decoded += [other.stdout.readline().strip() for _ in range(IMAGES // 2)]
        assert claimed not in decoded
        dying.send_signal(signal.SIGKILL)
        rest, _, _ = end(other)
    assert sorted(decoded + rest) == sorted(open_cache(root, names(root), resize=SMALL, cache_dir=caches).digests)


def test_machines_with_other_images_do_not_wait(root: Path, tmp_path: Path, caches: Path) -> None:
    paint(tmp_path / "other" / "one.png", 20, 16, seed=99)
    with machines(root, caches, "hangs") as (hanging,), machines(tmp_path / "other", caches, "b") as (other,):
        assert begin(hanging)  # it has claimed a part, and holds it
        digest = next(iter(open_cache(tmp_path / "other", ["one.png"], resize=SMALL, cache_dir=tmp_path / "x").digests))
        assert begin(other) == digest
        end(other)


def test_what_another_machine_is_writing_takes_no_further_room(
    root: Path, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store_folder(SMALL, caches)
    folder.mkdir(parents=True)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 4200))
    with pytest.raises(DataError, match="but 4 kB are free"):
        open_cache(root, names(root), resize=SMALL, cache_dir=caches)
    shard = folder / f"other-1{store.BUILDING}"
    shard.write_bytes(bytes(100_000))
    os.utime(shard, (0, 0))  # of a machine that died long ago
    with pytest.raises(DataError, match="but 4 kB are free"):
        open_cache(root, names(root), resize=SMALL, cache_dir=caches)
    os.utime(shard)
    assert len(open_cache(root, names(root), resize=SMALL, cache_dir=caches).heights) == IMAGES


def test_a_machine_of_a_run_prints_no_progress_beside_the_first(
    root: Path, caches: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank, lines in (("3", 0), ("0", 2)):
        monkeypatch.setenv("RANK", rank)
        open_cache(root, names(root), resize=SMALL, cache_dir=caches / rank)
        assert len(capsys.readouterr().err.splitlines()) == lines


def test_the_parts_of_a_store_are_claimed_once(tmp_path: Path) -> None:
    code = (
        "import sys; from harness.data.claims import claim; file = open(sys.argv[1], 'a'); "
        "print([claim(file, part) for part in (3, 4)], flush=True); sys.stdin.read()"
    )
    with (tmp_path / claims.CLAIMS).open("a") as file:
        assert claims.claim(file, 4)
        other = subprocess.Popen(
            [sys.executable, "-c", code, file.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert other.stdout is not None
        assert other.stdout.readline() == "[True, False]\n"
        assert not claims.claim(file, 3) and claims.claim(file, 255)
        other.kill()
        other.communicate()
        assert claims.claim(file, 3)


def test_a_disk_without_locks_refuses_no_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError(number, "refused")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with (tmp_path / claims.CLAIMS).open("a") as file:
        number = errno.ENOLCK
        assert claims.claim(file, 0)
        number = errno.EIO
        with pytest.raises(OSError, match="refused"):
            claims.claim(file, 0)


def test_each_set_of_images_has_its_own_parts() -> None:
    assert claims.first_byte(["b", "a"]) == claims.first_byte(["a", "b"]) != claims.first_byte(["a"])
    assert claims.first_byte(["a"]) % claims.PARTS == 0 and claims.first_byte(["a"]) < 2**48


def test_parts_follow_from_the_digest() -> None:
    assert [claims.part_of(digest) for digest in ("", "00ff", "0a12", "ffff")] == [0, 0, 10, 255]
