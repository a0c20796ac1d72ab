from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from PIL import Image

from harness.data import cache, cache_build
from harness.data.cache import PixelCache, cache_directory, open_cache, undecodable_message
from harness.data.decode import DecodeError
from harness.data.resize import Resize, resized
from harness.errors import DataError
from tests import ROOT

SMALL = Resize(16)


def paint(path: Path, width: int, height: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number, size in enumerate([(20, 30), (64, 16), (16, 16), (9, 9), (50, 33)]):
        paint(tmp_path / "data" / f"{number}.png", *size, seed=number)
    return tmp_path / "data"


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


@pytest.fixture
def caches(tmp_path: Path) -> Path:
    return tmp_path / "caches"


def opened(root: Path, caches: Path, **options: object) -> PixelCache:
    return open_cache(root, names(root), **{"resize": SMALL, "cache_dir": caches, **options})


def folders(caches: Path) -> list[Path]:
    return [path for path in caches.iterdir() if path.is_dir()]


def unchanged(folder: Path) -> tuple[int, int]:
    """Identity of the pixel file: another inode or time means that it was built again."""
    status = (folder / "pixels.bin").stat()
    return status.st_ino, status.st_mtime_ns


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [8, 24, 33])
def test_resize_equals_torchvision_bit_for_bit(size: int, interpolation: str) -> None:
    transforms = pytest.importorskip("torchvision.transforms.v2")
    reference = transforms.Resize(size, interpolation=transforms.InterpolationMode(interpolation))
    generator = np.random.default_rng(0)
    for height, width in [(24, 24), (25, 40), (300, 7), (33, 50), (11, 9), (17, 200), (97, 64)]:
        picture = Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
        expected = np.asarray(reference(picture))
        np.testing.assert_array_equal(np.asarray(resized(picture, Resize(size, interpolation))), expected)


def test_an_unknown_interpolation_is_refused() -> None:
    with pytest.raises(ValueError, match="bilinear, bicubic"):
        Resize(16, "nearest")


def test_a_strip_that_would_blow_up_is_refused() -> None:
    with pytest.raises(DecodeError, match="1x30000 pixels, so elongated that a short side of 256 makes it 256x7680000"):
        resized(Image.new("RGB", (1, 30_000)), Resize(256))


def test_pixels_shapes_and_digests(root: Path, caches: Path) -> None:
    result = opened(root, caches)
    assert result.heights.tolist() == [24, 16, 16, 16, 16]
    assert result.widths.tolist() == [16, 64, 16, 16, 24]
    assert result.bad == {}
    for index, name in enumerate(names(root)):
        with Image.open(root / name) as picture:
            np.testing.assert_array_equal(result.image(index), np.asarray(resized(picture, SMALL)))
        assert result.digests[index] == hashlib.blake2b((root / name).read_bytes(), digest_size=16).hexdigest()


def test_pictures_are_views_and_read_only(root: Path, caches: Path) -> None:
    result = opened(root, caches)
    assert np.shares_memory(result.image(3), result.pixels)
    assert not result.image(3).flags.writeable


def test_opening_again_decodes_nothing(root: Path, caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(root, caches)
    monkeypatch.setattr(cache_build, "build", None)
    again = opened(root, caches)
    np.testing.assert_array_equal(again.pixels, first.pixels)
    assert again.digests == first.digests
    assert len(folders(caches)) == 1


def test_any_change_gives_another_cache(root: Path, caches: Path) -> None:
    opened(root, caches)
    paint(root / "0.png", 20, 30, seed=99)
    assert opened(root, caches).image(0).tolist() == opened(root, caches.with_name("fresh")).image(0).tolist()
    assert len(folders(caches)) == 2
    status = (root / "1.png").stat()
    os.utime(root / "1.png", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    opened(root, caches)
    assert len(folders(caches)) == 3
    paint(root / "9.png", 20, 30, seed=9)
    assert len(opened(root, caches).heights) == 6
    (root / "9.png").unlink()
    opened(root, caches)  # as before the image came
    assert len(folders(caches)) == 4
    opened(root, caches, resize=Resize(17))
    opened(root, caches, resize=Resize(16, "bicubic"))
    assert len(folders(caches)) == 6


def test_a_damaged_cache_is_built_again(root: Path, caches: Path) -> None:
    good = opened(root, caches).pixels.copy()
    (folder,) = folders(caches)
    damages = [
        lambda: os.truncate(folder / "pixels.bin", good.size - 1),
        lambda: os.truncate(folder / "index.npz", 100),
        lambda: (folder / "index.npz").write_bytes(b"nonsense"),
        lambda: (folder / "meta.json").write_text("{"),
        lambda: (folder / "meta.json").unlink(),
        lambda: (folder / "pixels.bin").unlink(),
    ]
    for damage in damages:
        damage()
        np.testing.assert_array_equal(opened(root, caches).pixels, good)
        assert (folder / "pixels.bin").stat().st_size == good.size


def spoil(root: Path) -> None:
    whole = (root / "1.png").read_bytes()
    (root / "1.png").write_bytes(whole[: len(whole) // 2])
    (root / "2.png").write_text("I was saved as an image")
    (root / "3.png").write_bytes(b"")


def test_undecodable_message_are_all_named_and_the_good_ones_kept(
    root: Path, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(root)
    with pytest.raises(DataError) as caught:
        opened(root, caches)
    assert caught.value.exit_code == 1
    head, *lines = str(caught.value).splitlines()
    assert head == (
        f"3 of 5 images in {root} cannot be decoded. Repair or remove them, or leave them out with --bad-images skip:"
    )
    assert lines == [
        "  1.png: truncated",
        "  2.png: not an image (text)",
        "  3.png: empty file",
    ]
    monkeypatch.setattr(cache_build, "build", None)  # the next run decodes nothing
    result = opened(root, caches, bad_images="skip")
    assert result.bad == {1: "truncated", 2: "not an image (text)", 3: "empty file"}
    assert result.image(1).shape == (0, 0, 3)
    with Image.open(root / "4.png") as picture:
        np.testing.assert_array_equal(result.image(4), np.asarray(resized(picture, SMALL)))


def test_twenty_undecodable_message_are_named_and_the_rest_counted(root: Path) -> None:
    files = [f"{number}.jpg" for number in range(25)]
    text = undecodable_message(root, files, dict.fromkeys(range(23), "truncated"))
    assert text.startswith("23 of 25") and text.endswith("\n  and 3 more")
    assert text.count(": truncated") == 20


def test_nothing_left_to_skip_to_is_an_error(tmp_path: Path, caches: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jpg").write_text("text")
    with pytest.raises(DataError, match="1 of 1 images"):
        opened(tmp_path / "data", caches, bad_images="skip")


def test_a_file_that_becomes_readable_is_read(root: Path, caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_bytes = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.name == "2.png":
            raise PermissionError(errno.EACCES, "Permission denied")
        return read_bytes(path)

    with monkeypatch.context() as locked:
        locked.setattr(Path, "read_bytes", refuse)
        with pytest.raises(DataError, match=r"2\.png: permission denied"):
            opened(root, caches)
        (folder,) = folders(caches)
        before = unchanged(folder)
        assert list(opened(root, caches, bad_images="skip").bad) == [2]
        assert unchanged(folder) == before
    assert opened(root, caches).bad == {}  # chmod changes neither size nor time


def test_too_little_room_is_said_before_decoding(root: Path, caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 4000, 4000))
    monkeypatch.setattr(cache_build, "_decode", None)
    with pytest.raises(DataError) as caught:
        opened(root, caches, resize=Resize(3000))
    assert str(caught.value) == (
        f"Decoded images take about 243 MB, but 0 MB is free in {caches}. Make room there, or name a folder on "
        "another disk with --cache-dir or $HARNESS_CACHE_DIR."
    )
    assert folders(caches) == []


def test_the_estimate_is_exact_for_few_pictures_and_close_for_many(root: Path, caches: Path) -> None:
    assert cache_build.estimate(root, names(root), SMALL) == opened(root, caches).pixels.size
    many = ["0.png", "1.png"] * 1000
    assert cache_build.estimate(root, many, SMALL) == pytest.approx(1000 * (24 + 64) * 16 * 3, rel=0.05)


def test_a_disk_that_fills_up_leaves_nothing_behind(root: Path, caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, written = cache_build._write, []

    def full(file: BinaryIO, pixels: np.ndarray) -> None:
        written.append(len(folders(caches)))
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(file, pixels)

    with monkeypatch.context() as disk:
        disk.setattr(cache_build, "_write", full)
        with pytest.raises(DataError) as caught:
            opened(root, caches)
    assert str(caught.value).startswith(f"Decoded images filled the disk in {caches}. Make room there, or name")
    assert written == [1, 1, 1]  # there was something to clean up
    assert folders(caches) == []
    assert len(opened(root, caches).heights) == 5


def test_a_cache_directory_that_cannot_be_used(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError) as caught:
        opened(root, tmp_path / "file" / "deeper")
    assert str(caught.value) == (
        f"Decoded images cannot be kept in {tmp_path}/file/deeper (Not a directory). "
        "Name a folder that can be written to with --cache-dir or $HARNESS_CACHE_DIR."
    )

    def refuse(path: Path, *args: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(DataError, match=r"cannot be kept in .*/closed \(Permission denied\)"):
        opened(root, tmp_path / "closed")


def test_a_picture_removed_since_it_was_listed(root: Path, caches: Path) -> None:
    with pytest.raises(DataError, match=r"gone.png: No such file or directory. It was there a moment ago"):
        open_cache(root, ["gone.png"], resize=SMALL, cache_dir=caches)


def test_no_pictures_are_an_empty_cache(root: Path, caches: Path) -> None:
    assert open_cache(root, [], resize=SMALL, cache_dir=caches).pixels.shape == (0,)


def test_where_caches_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("HARNESS_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_directory() == Path("/home/somebody/.cache/vit-harness")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_directory() == Path("/xdg/vit-harness")
    monkeypatch.setenv("HARNESS_CACHE_DIR", "~/here")
    assert cache_directory() == Path("/home/somebody/here")
    assert cache_directory(tmp_path) == tmp_path


CHILD = """
import sys
from harness.data import cache, cache_build
from harness.data.resize import Resize
root, caches, *files = sys.argv[1:]
if files[0] == "hang":
    files.pop(0)
    write, count = cache_build._write, 0
    def hang(file, pixels):
        global count
        count += 1
        if count == 3:
            file.flush()
            print("in the middle", file=sys.stderr, flush=True)
            sys.stdin.read()
        write(file, pixels)
    cache_build._write = hang
result = cache.open_cache(root, files, resize=Resize(16), cache_dir=caches)
print(int(result.pixels.astype(int).sum()))
"""


def child(root: Path, caches: Path, *first: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(root), str(caches), *first, *names(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def test_processes_that_start_together_build_once(root: Path, caches: Path) -> None:
    caches.mkdir()
    key = cache._key(root, names(root), SMALL)
    with (caches / f"{key}.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # so that both find the lock taken, and neither is early
        children = [child(root, caches) for _ in range(2)]
        for process in children:
            assert process.stderr is not None
            assert process.stderr.readline() == f"Waiting for another process that is decoding into {caches / key}\n"
    ends = [process.communicate(timeout=60) for process in children]
    assert [process.returncode for process in children] == [0, 0]
    assert sum(error.count("decoding images, once: 5 images") for _, error in ends) == 1
    assert ends[0][0] == ends[1][0] == f"{int(opened(root, caches).pixels.astype(int).sum())}\n"


def test_a_killed_build_is_cleared_away(root: Path, caches: Path) -> None:
    process = child(root, caches, "hang")
    assert process.stderr is not None
    lines = iter(process.stderr.readline, "")
    assert any(line == "in the middle\n" for line in lines)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (left,) = folders(caches)
    assert cache_build.BUILDING in left.name and (left / "pixels.bin").stat().st_size > 0
    result = opened(root, caches)
    assert result.heights.tolist() == [24, 16, 16, 16, 16]
    assert [path.name for path in folders(caches)] == [cache._key(root, names(root), SMALL)]


def test_what_other_builds_left_is_removed_unless_they_are_alive(root: Path, caches: Path) -> None:
    marker = f"{cache_build.BUILDING}{os.uname().nodename}-1"
    for name in ("dead", "alive"):
        (caches / f"{name}{marker}").mkdir(parents=True)
    with (caches / "alive.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        opened(root, caches)
    assert not (caches / f"dead{marker}").exists()
    assert (caches / f"alive{marker}").exists()


def test_without_locks_the_first_to_finish_wins(root: Path, caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = opened(root, caches)
    (folder,) = folders(caches)
    before = unchanged(folder)

    def no_locks(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    cache_build.build(folder, root, names(root), resize=SMALL, progress=False)
    assert unchanged(folder) == before
    assert len(folders(caches)) == 1
    shutil.rmtree(folder)
    np.testing.assert_array_equal(opened(root, caches).pixels, good.pixels)


def test_off_a_terminal_progress_is_two_lines_or_none(
    root: Path, caches: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened(root, caches)
    start, end = capsys.readouterr().err.splitlines()
    assert start == "decoding images, once: 5 images"
    assert end.startswith("decoding images, once: done in ") and end.endswith(" images/s)")
    opened(root, caches, resize=Resize(20), progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.skipif("HARNESS_REAL_DATA" not in os.environ, reason="HARNESS_REAL_DATA names no photographs")
def test_real_photographs_equal_torchvision(tmp_path: Path) -> None:
    transforms = pytest.importorskip("torchvision.transforms.v2")
    root = Path(os.environ["HARNESS_REAL_DATA"])
    files = sorted(str(path.relative_to(root)) for path in (root / "test").rglob("*.jpg"))[:200]
    result = open_cache(root, files, resize=Resize(256), cache_dir=tmp_path, progress=False)
    for index, file in enumerate(files):
        with Image.open(root / file) as picture:
            expected = np.asarray(transforms.Resize(256)(picture.convert("RGB")))
        np.testing.assert_array_equal(result.image(index), expected)
