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

import numpy as np
import pytest
from PIL import Image

from harness.config import RunConfig
from harness.data import cache_build, store
from harness.data.cache import (
    PixelCache,
    cache_directory,
    check_cache,
    lock_path,
    open_cache,
    store_folder,
    undecodable_message,
)
from harness.data.dataset import open_dataset
from harness.data.decode import DecodeError
from harness.data.image_folder import load_image_folder
from harness.data.resize import Resize, resized
from harness.errors import DataError
from harness.model.vit import Preprocessing
from tests import ROOT
from tests.data.test_digests import with_one_bit_flipped

SMALL = Resize(16)
PREPROCESSING = Preprocessing(crop_size=32, resize_size=32, mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bilinear")


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
    digests = [hashlib.blake2b((root / name).read_bytes(), digest_size=16).hexdigest() for name in names(root)]
    return open_cache(root, names(root), **{"resize": SMALL, "digests": digests, "cache_dir": caches, **options})


def shards(caches: Path, resize: Resize = SMALL) -> list[Path]:
    return sorted(store_folder(resize, caches).glob(f"*{store.SHARD}"))


def leftovers(caches: Path) -> list[Path]:
    """Shards that are not complete."""
    return sorted(store_folder(SMALL, caches).glob(f"*{store.BUILDING}"))


def kept(caches: Path) -> int:
    """Images in a store, those that cannot be decoded included."""
    return len(store.read_store(store_folder(SMALL, caches)).entries)


def pixels(result: PixelCache) -> list[bytes]:
    return [result.image(index).tobytes() for index in range(len(result.heights))]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The length of each file that is decoded from here on."""
    lengths: list[int] = []
    decode = cache_build.decode_resized

    def record(content: bytes, resize: Resize) -> Image.Image:
        lengths.append(len(content))
        return decode(content, resize)

    monkeypatch.setattr(cache_build, "decode_resized", record)
    return lengths


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [8, 24, 33])
def test_resize_equals_torchvision_bit_for_bit(size: int, interpolation: str) -> None:
    transforms = pytest.importorskip("torchvision.transforms.v2")
    reference = transforms.Resize(size, interpolation=transforms.InterpolationMode(interpolation))
    generator = np.random.default_rng(0)
    for height, width in [(24, 24), (25, 40), (300, 7), (33, 50), (11, 9), (17, 200), (97, 64)]:
        image = Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
        expected = np.asarray(reference(image))
        np.testing.assert_array_equal(np.asarray(resized(image, Resize(size, interpolation))), expected)


def test_a_strip_that_would_blow_up_is_refused() -> None:
    with pytest.raises(DecodeError, match="1x30000 pixels; with a short side of 256 they become 256x7680000"):
        resized(Image.new("RGB", (1, 30_000)), Resize(256))


def test_pixels_shapes_and_digests(root: Path, caches: Path) -> None:
    result = opened(root, caches)
    assert result.heights.tolist() == [24, 16, 16, 16, 16]
    assert result.widths.tolist() == [16, 64, 16, 16, 24]
    assert result.bad == {}
    for index, name in enumerate(names(root)):
        with Image.open(root / name) as image:
            np.testing.assert_array_equal(result.image(index), np.asarray(resized(image, SMALL)))
        assert result.digests[index] == hashlib.blake2b((root / name).read_bytes(), digest_size=16).hexdigest()


def test_images_are_views_and_read_only(root: Path, caches: Path) -> None:
    result = opened(root, caches)
    assert any(np.shares_memory(result.image(3), shard) for shard in result.shards)
    assert not result.image(3).flags.writeable


def test_opening_again_opens_and_writes_nothing(
    root: Path, caches: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[int]
) -> None:
    first = opened(root, caches)
    assert len(decoded) == 5
    before = shards(caches)
    again = opened(root, caches, read=None)
    assert len(decoded) == 5
    assert pixels(again) == pixels(first) and again.digests == first.digests
    assert shards(caches) == before


def test_an_added_or_changed_image_is_the_only_one_that_is_decoded(
    root: Path, caches: Path, decoded: list[int]
) -> None:
    before = pixels(opened(root, caches))
    decoded.clear()
    paint(root / "9.png", 20, 30, seed=9)
    assert pixels(opened(root, caches))[:5] == before
    assert decoded == [(root / "9.png").stat().st_size]
    paint(root / "0.png", 20, 30, seed=99)
    changed = pixels(opened(root, caches))
    assert len(decoded) == 2 and changed[0] != before[0] and changed[1:5] == before[1:]
    (root / "9.png").unlink()
    assert pixels(opened(root, caches)) == changed[:5]
    assert len(decoded) == 2
    os.utime(root / "1.png", ns=(0, 0))
    (root / "2.png").rename(root / "8.png")
    opened(root, caches)
    assert len(decoded) == 2


def test_folders_with_the_same_images_share_them(root: Path, caches: Path, decoded: list[int]) -> None:
    first = opened(root, caches)
    shutil.copytree(root, root.with_name("copy"))
    (root.with_name("copy") / "0.png").rename(root.with_name("copy") / "z.png")
    again = opened(root.with_name("copy"), caches)
    assert len(decoded) == 5
    assert pixels(again) == pixels(first)[1:] + pixels(first)[:1]


def test_equal_images_of_one_list_are_decoded_once(root: Path, caches: Path, decoded: list[int]) -> None:
    shutil.copy(root / "0.png", root / "7.png")
    result = opened(root, caches)
    assert len(decoded) == kept(caches) == 5
    np.testing.assert_array_equal(result.image(5), result.image(0))


def test_another_resize_rule_is_another_store(root: Path, caches: Path, decoded: list[int]) -> None:
    opened(root, caches)
    opened(root, caches, resize=Resize(17))
    opened(root, caches, resize=Resize(16, "bicubic"))
    assert len(decoded) == 15
    assert len(list((caches / "decoded").iterdir())) == 3


def test_splits_of_any_seed_keep_one_copy(data_folder: Path, tmp_path: Path, decoded: list[int]) -> None:
    shutil.copytree(data_folder / "train", tmp_path / "data" / "train")
    for seed in range(3):
        config = RunConfig(data=str(tmp_path / "data"), cache_dir=str(tmp_path / "caches"), split_seed=seed)
        data = open_dataset(load_image_folder(config), PREPROCESSING, config)
        assert [len(split) for split in (data.train, data.val, data.test)] == [15, 3, 3]
    assert len(decoded) == 21
    sizes = [path.stat().st_size for path in shards(tmp_path / "caches", Resize(32))]
    assert 21 * 32 * 32 * 3 < sum(sizes) < 21 * 32 * 32 * 3 + 10_000


def test_a_damaged_shard_is_not_read_and_its_images_are_decoded_again(root: Path, caches: Path) -> None:
    good = pixels(opened(root, caches))
    damages = [
        lambda shard: os.truncate(shard, shard.stat().st_size - 1),
        lambda shard: os.truncate(shard, 3),
        lambda shard: shard.write_bytes(b""),
        lambda shard: shard.write_bytes(shard.read_bytes()[3:]),
        lambda shard: shard.write_bytes(b"nonsense" * 1000),
        lambda shard: shard.write_bytes(with_one_bit_flipped(shard.read_bytes())),
        lambda shard: shard.write_bytes(b"nonsense" + (2**63).to_bytes(8, "little") + store.MAGIC),
        lambda shard: shard.write_bytes(b"nonsense" + (8).to_bytes(8, "little") + store.MAGIC),
        lambda shard: shard.unlink(),
    ]
    for damage in damages:
        damage(store.read_store(store_folder(SMALL, caches)).shards[0])
        assert pixels(opened(root, caches)) == good
        assert pixels(opened(root, caches)) == good  # from the new shards
    assert len(store.read_store(store_folder(SMALL, caches)).damaged) == len(damages) - 1


def spoil(root: Path) -> None:
    whole = (root / "1.png").read_bytes()
    (root / "1.png").write_bytes(whole[: len(whole) // 2])
    (root / "2.png").write_text("I was saved as an image")
    (root / "3.png").write_bytes(b"")


def test_undecodable_images_are_all_named_and_the_good_ones_kept(root: Path, caches: Path, decoded: list[int]) -> None:
    spoil(root)
    with pytest.raises(DataError) as caught:
        opened(root, caches)
    assert caught.value.exit_code == 1
    head, *lines = str(caught.value).splitlines()
    assert head == (
        f"3 of 5 images in {root} cannot be decoded. Repair or remove them; `harness train` leaves them out with "
        "--bad-images skip:"
    )
    assert lines == [
        "  1.png: truncated",
        "  2.png: not an image (text)",
        "  3.png: empty file",
    ]
    decoded.clear()
    result = opened(root, caches, bad_images="skip")
    assert result.bad == {1: "truncated", 2: "not an image (text)", 3: "empty file"}
    assert decoded == []
    assert result.image(1).shape == (0, 0, 3)
    with Image.open(root / "4.png") as image:
        np.testing.assert_array_equal(result.image(4), np.asarray(resized(image, SMALL)))


def test_twenty_undecodable_images_are_named_and_the_rest_counted(root: Path) -> None:
    text = undecodable_message(root, 25, {f"{number}.jpg": "truncated" for number in range(23)})
    assert text.startswith("23 of 25") and text.endswith("\n  and 3 more")
    assert text.count(": truncated") == 20


def test_an_image_that_was_too_large_is_tried_again_under_another_limit(
    root: Path, caches: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[int]
) -> None:
    with monkeypatch.context() as limits:
        limits.setenv("HARNESS_MAX_PIXELS", "1000")
        for _ in range(2):  # the second time from the store
            result = opened(root, caches, bad_images="skip")
            assert list(result.bad) == [1, 4]
            assert result.bad[1].startswith("64x16 pixels, more than the 1,000 allowed")
        assert len(decoded) == 5
    assert opened(root, caches).bad == {}
    assert len(decoded) == 7


def test_a_split_without_a_readable_image_is_an_error(tmp_path: Path, caches: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jpg").write_text("text")
    with pytest.raises(DataError, match="1 of 1 images"):
        opened(tmp_path / "data", caches, bad_images="skip")


def test_a_file_that_becomes_readable_is_read(root: Path, caches: Path, decoded: list[int]) -> None:
    def refuse(name: str) -> bytes:
        if name == "2.png":
            raise DecodeError("permission denied", unread=True)
        return (root / name).read_bytes()

    digests = ["", "", "", "", ""]
    with pytest.raises(DataError, match=r"2\.png: permission denied"):
        opened(root, caches, read=refuse, digests=digests)
    result = opened(root, caches, read=refuse, digests=digests, bad_images="skip")
    assert result.bad == {2: "permission denied"} and result.digests[2] == ""
    assert len(decoded) == 4
    result = opened(root, caches, digests=digests)
    assert result.bad == {} and "" not in result.digests
    assert len(decoded) == 5


def test_too_little_disk_space_is_an_error_before_decoding(
    root: Path, caches: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[int]
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 4200))
    with pytest.raises(DataError) as caught:
        opened(root, caches, resize=Resize(3000))
    folder = store_folder(Resize(3000), caches)
    assert str(caught.value) == (
        f"Decoded images take about 243 MB, but 4 kB are free in {folder}. Make room there (harness data cache shows "
        "what is kept), or name a folder on another disk with --cache-dir or $HARNESS_CACHE_DIR."
    )
    assert decoded == [] and shards(caches, Resize(3000)) == []


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (812, "812 bytes"),
        (4200, "4 kB"),
        (37.5e6, "38 MB"),
        (2.03e9, "2.0 GB"),
        (1.2e12, "1.20 TB"),
    ],
)
def test_sizes_have_a_unit_that_suits_them(count: float, text: str) -> None:
    assert cache_build.readable(count) == text


def test_the_estimate_is_exact_for_few_images_and_close_for_many(root: Path, caches: Path) -> None:
    def read(name: str) -> bytes:
        return (root / name).read_bytes()

    assert cache_build.estimate(names(root), read, SMALL) == opened(root, caches).nbytes
    many = ["0.png", "1.png"] * 1000
    assert cache_build.estimate(many, read, SMALL) == pytest.approx(1000 * (24 + 64) * 16 * 3, rel=0.05)


def test_a_disk_that_fills_up_leaves_nothing_partial_behind(
    root: Path, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.data.parallel.usable_cores", lambda: 1)  # with more, each could get one image
    add, left = store.ShardWriter.add, []

    def full(writer: store.ShardWriter, digest: str, *rest: object) -> None:
        if writer.size:
            left.append(len(list(store_folder(SMALL, caches).glob(f"*{store.BUILDING}"))))
            raise OSError(errno.ENOSPC, "No space left on device")
        add(writer, digest, *rest)

    with monkeypatch.context() as disk:
        disk.setattr(store.ShardWriter, "add", full)
        with pytest.raises(DataError) as caught:
            opened(root, caches)
    assert str(caught.value).startswith(f"Decoded images filled the disk in {store_folder(SMALL, caches)}. Make room")
    assert left and min(left) >= 1  # there was something to clean up
    assert leftovers(caches) == shards(caches) == []
    assert len(opened(root, caches).heights) == 5


def test_a_disk_that_fills_up_at_the_end_of_a_shard_leaves_nothing_of_it(
    root: Path, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(writer: store.ShardWriter) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache_build, "SHARD_BYTES", 1)
    monkeypatch.setattr(store.ShardWriter, "finish", full)
    with pytest.raises(DataError, match="filled the disk"):
        opened(root, caches)
    assert leftovers(caches) == []


@pytest.mark.parametrize("limit", [100, 2000])
def test_a_file_size_limit_is_named_and_leaves_nothing_partial(root: Path, caches: Path, limit: int) -> None:
    """The system's own refusal, in the middle of the pixels and of the index."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));" + CHILD
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(root), str(caches), *names(root)], capture_output=True, text=True, cwd=ROOT
    )
    assert f"DataError: Decoded images cannot be kept in {store_folder(SMALL, caches)} (File too large)." in done.stderr
    assert leftovers(caches) == []
    assert store.read_store(store_folder(SMALL, caches)).damaged == ()


def test_what_was_decoded_before_an_interruption_stays(
    root: Path, caches: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[int]
) -> None:
    monkeypatch.setattr("harness.data.parallel.usable_cores", lambda: 1)
    decode, count = cache_build.decode_resized, 0

    def interrupt(content: bytes, resize: Resize) -> Image.Image:
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        return decode(content, resize)

    with monkeypatch.context() as keys:
        keys.setattr(cache_build, "decode_resized", interrupt)
        with pytest.raises(KeyboardInterrupt):
            opened(root, caches)
    assert kept(caches) in (3, 4)  # the thread may have taken the last image before it was stopped
    opened(root, caches)
    assert len(decoded) == 5


def test_shards_are_finished_when_they_are_full(root: Path, caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.data.parallel.usable_cores", lambda: 1)
    monkeypatch.setattr(cache_build, "SHARD_BYTES", 1500)
    result = opened(root, caches)
    assert len(shards(caches)) == 3
    for index, name in enumerate(names(root)):
        with Image.open(root / name) as image:
            np.testing.assert_array_equal(result.image(index), np.asarray(resized(image, SMALL)))


def test_images_lie_in_the_order_of_their_digests(root: Path, caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that blocks of them, which hold images of all classes, can be read in sequence."""
    monkeypatch.setattr("harness.data.parallel.usable_cores", lambda: 1)
    result = opened(root, caches)
    assert np.argsort(result.offsets).tolist() == np.argsort(result.digests).tolist() != [0, 1, 2, 3, 4]
    assert result.files == tuple(shards(caches))


def test_a_cache_that_cannot_be_written_to_is_refused_early_unless_it_holds_all(
    root: Path, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = opened(root, caches).digests
    check_cache(SMALL, ["unknown"], caches)

    def refuse(**options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    check_cache(SMALL, digests, caches)
    with pytest.raises(DataError, match=r"cannot be kept in .* \(Permission denied\)"):
        check_cache(SMALL, [*digests, "unknown"], caches)


def test_a_cache_directory_that_cannot_be_used(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    folder = store_folder(SMALL, tmp_path / "file" / "deeper")
    with pytest.raises(DataError) as caught:
        opened(root, tmp_path / "file" / "deeper")
    assert str(caught.value) == (
        f"Decoded images cannot be kept in {folder} (Not a directory). "
        "Name a folder that can be written to with --cache-dir or $HARNESS_CACHE_DIR."
    )

    def refuse(path: Path, *args: object, **options: object) -> None:
        raise OSError("quota server says no")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(DataError, match=r"cannot be kept in .*/closed/.* \(quota server says no\)"):
        opened(root, tmp_path / "closed")


def test_a_cache_that_may_only_be_read_is_read(root: Path, caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = pixels(opened(root, caches))
    for path in shards(caches):
        os.utime(path, (0, 0))

    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    result = opened(root, caches)
    assert pixels(result) == good and result.in_use is None


def test_the_last_use_of_a_shard_is_its_modification_time(root: Path, caches: Path) -> None:
    opened(root, caches)
    paint(root / "9.png", 20, 30, seed=9)
    opened(root, caches)
    for path in shards(caches):
        os.utime(path, (1e9, 1e9))
    (root / "9.png").unlink()
    opened(root, caches)
    old = [path for path in shards(caches) if path.stat().st_mtime == 1e9]
    assert len(old) == 1 and len(shards(caches)) > 1  # the shard of the image that is no longer there


def test_an_image_that_was_removed_after_listing_is_named(root: Path, caches: Path) -> None:
    with pytest.raises(DataError, match=r"gone.png: no longer there"):
        open_cache(root, ["gone.png", *names(root)], resize=SMALL, cache_dir=caches)


def test_no_images_give_an_empty_cache(root: Path, caches: Path) -> None:
    assert open_cache(root, [], resize=SMALL, cache_dir=caches).heights.shape == (0,)


def test_the_cache_folder_follows_the_argument_then_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
import hashlib, sys
from harness.data import cache, store
from harness.data.resize import Resize
root, caches, *files = sys.argv[1:]
if files[0] == "hang":
    files.pop(0)
    add = store.ShardWriter.add
    def hang(writer, *image):
        add(writer, *image)
        if writer.size:
            writer._file.flush()
            print("in the middle", file=sys.stderr, flush=True)
            sys.stdin.read()
    store.ShardWriter.add = hang
from pathlib import Path
digests = [hashlib.blake2b(Path(root, name).read_bytes(), digest_size=16).hexdigest() for name in files]
result = cache.open_cache(root, files, digests=digests, resize=Resize(16), cache_dir=caches)
print(hashlib.sha256(b"".join(result.image(index).tobytes() for index in range(len(files)))).hexdigest())
"""


# Another one could begin a shard at any time.
ONE_THREAD = "from harness.data import parallel\nparallel.usable_cores = lambda: 1\n"


def child(root: Path, caches: Path, *first: str, code: str = CHILD) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, str(root), str(caches), *first, *names(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def sha256(result: PixelCache) -> str:
    return hashlib.sha256(b"".join(pixels(result))).hexdigest()


def test_processes_that_start_together_decode_once(root: Path, caches: Path) -> None:
    folder = store_folder(SMALL, caches)
    folder.mkdir(parents=True)
    with lock_path(folder, root).open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # so that both find the lock taken, and neither is early
        children = [child(root, caches) for _ in range(2)]
        for process in children:
            assert process.stderr is not None
            assert process.stderr.readline() == f"Waiting for another process that is decoding images of {root}\n"
    ends = [process.communicate(timeout=60) for process in children]
    assert [process.returncode for process in children] == [0, 0]
    assert sum(error.count("decoding images, once: done") for _, error in ends) == 1
    assert ends[0][0] == ends[1][0] == f"{sha256(opened(root, caches))}\n"
    assert kept(caches) == 5


def test_writers_without_locks_do_not_disturb_each_other(root: Path, caches: Path) -> None:
    """As on a shared disk that has none: several machines decode the same images at once."""
    code = "import errno, fcntl\ndef no_locks(file, how): raise OSError(errno.ENOLCK, 'No locks available')\n"
    code += "fcntl.flock = no_locks\n" + CHILD
    children = [child(root, caches, code=code) for _ in range(2)]
    ends = [process.communicate(timeout=120) for process in children]
    assert {end[0] for end in ends} == {f"{sha256(opened(root, caches))}\n"}
    assert 5 <= kept(caches) <= 10
    assert store.read_store(store_folder(SMALL, caches)).damaged == ()


def test_files_of_a_killed_writer_are_harmless(root: Path, caches: Path) -> None:
    process = child(root, caches, "hang", code=ONE_THREAD + CHILD)
    assert process.stderr is not None
    assert any("in the middle" in line for line in iter(process.stderr.readline, ""))
    folder = store_folder(SMALL, caches)
    left = leftovers(caches)
    assert sum(path.stat().st_size for path in left) > 700
    assert shards(caches) == []  # nothing can be read before it is complete
    for path in left:
        os.utime(path, (0, 0))
    store.remove_abandoned(folder)
    assert leftovers(caches) == left  # its writer lives
    process.send_signal(signal.SIGKILL)
    process.communicate()
    result = opened(root, caches)
    for index, name in enumerate(names(root)):
        with Image.open(root / name) as image:
            np.testing.assert_array_equal(result.image(index), np.asarray(resized(image, SMALL)))
    assert leftovers(caches) == []
    assert kept(caches) == 5


def test_what_a_killed_process_has_completed_is_not_decoded_again(root: Path, caches: Path, decoded: list[int]) -> None:
    code = ONE_THREAD + "from harness.data import cache_build\ncache_build.SHARD_BYTES = 1\n"  # a shard for each image
    code += CHILD.replace("if writer.size:", "if len(list(writer._path.parent.glob('*.shard'))) == 3:")
    process = child(root, caches, "hang", code=code)
    assert process.stderr is not None
    assert any("in the middle" in line for line in iter(process.stderr.readline, ""))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert kept(caches) == 3
    opened(root, caches)
    assert len(decoded) == 2 and kept(caches) == 5


def test_off_a_terminal_progress_is_two_lines_or_none(
    root: Path, caches: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened(root, caches)
    start, end = capsys.readouterr().err.splitlines()
    assert start == "decoding images, once: 5 images"
    assert end.startswith("decoding images, once: done in ") and end.endswith(" images/s)")
    opened(root, caches, resize=Resize(20), progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.skipif("HARNESS_REAL_DATA" not in os.environ, reason="HARNESS_REAL_DATA names no images")
def test_real_images_are_decoded_as_by_torchvision(tmp_path: Path) -> None:
    transforms = pytest.importorskip("torchvision.transforms.v2")
    root = Path(os.environ["HARNESS_REAL_DATA"])
    files = sorted(str(path.relative_to(root)) for path in (root / "test").rglob("*.jpg"))[:200]
    result = open_cache(root, files, resize=Resize(256), cache_dir=tmp_path, progress=False)
    for index, file in enumerate(files):
        with Image.open(root / file) as image:
            expected = np.asarray(transforms.Resize(256)(image.convert("RGB")))
        np.testing.assert_array_equal(result.image(index), expected)
