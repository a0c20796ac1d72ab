from __future__ import annotations

import errno
import fcntl
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
from click.testing import CliRunner, Result

from harness.cli.main import main
from harness.config import RunConfig
from harness.data import cache_contents
from harness.data.cache import store_folder
from harness.data.dataset import open_dataset
from harness.data.image_folder import load_image_folder
from harness.data.resize import Resize
from harness.data.store import IN_USE, hold
from harness.model.vit import Preprocessing
from tests import ROOT

NOON = 1_699_963_200.0  # on 2023-11-14 in Greenwich, and so on that day in nearly all time zones


def decode(data: Path, caches: Path, size: int) -> None:
    config = RunConfig(data=str(data), cache_dir=str(caches))
    preprocessing = Preprocessing(size, size, "bilinear", (0.5,) * 3, (0.5,) * 3)
    open_dataset(load_image_folder(config), preprocessing, config)


@pytest.fixture
def caches(data_folder: Path, tmp_path: Path) -> Path:
    """Images at short sides 16 and 32, those at 16 last used long ago."""
    folder = tmp_path / "caches"
    for size in (16, 32):
        decode(data_folder, folder, size)
    for path in store_folder(Resize(16), folder).glob("*.shard"):
        os.utime(path, (NOON, NOON))
    return folder


def waste(caches: Path) -> list[Path]:
    """What killed runs and broken disks leave."""
    left = [store_folder(Resize(16), caches) / "host-1.building", store_folder(Resize(16), caches) / "host-2.shard"]
    for path in left:
        path.write_bytes(b"half")
    return left


def foreign(caches: Path) -> list[Path]:
    """What nobody may take for a cache."""
    (caches / ("f" * 32)).mkdir()
    files = [caches / ("f" * 32) / "pixels.bin", caches / ("f" * 32) / "thesis.tex", caches / "notes.txt"]
    (caches / "decoded" / "mine").mkdir()
    files.append(caches / "decoded" / "mine" / "a.shard")
    for path in files:
        path.write_text("mine")
    (caches / ("e" * 32)).symlink_to(caches / ("0123456789abcdef" * 2))
    return files


def run(caches: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["data", "cache", "--cache-dir", str(caches), *arguments])


def at_a_terminal(caches: Path, answer: str, *arguments: str) -> int:
    """The exit code of the command at a terminal where `answer` is typed."""
    ours, theirs = pty.openpty()
    os.write(ours, f"{answer}\n".encode())
    command = [sys.executable, "-m", "harness.cli", "data", "cache", "--cache-dir", str(caches), *arguments]
    done = subprocess.run(command, stdin=theirs, capture_output=True, cwd=ROOT, check=False)
    os.close(ours)
    os.close(theirs)
    assert b"Remove these? [y/N]" in done.stdout
    return done.returncode


def sizes(caches: Path) -> dict[int, int]:
    """Bytes of the shards of each short side."""
    return {
        size: sum(path.stat().st_size for path in store_folder(Resize(size), caches).glob("*.shard"))
        for size in (16, 32)
    }


def test_it_shows_what_the_cache_holds(caches: Path) -> None:
    decoded = sizes(caches)[16]
    waste(caches)
    result = run(caches)
    assert result.exit_code == 0
    first, columns, *rows = result.output.splitlines()
    assert first.startswith(f"{caches}: ") and first.endswith(" kB")
    assert columns.split() == ["images", "size", "last", "use"]
    by_name = {row[:40].rstrip().split("  ")[1].strip(): row.split() for row in rows}
    assert list(by_name) == [
        "images, short side 16, bilinear",
        "damaged",
        "incomplete",
        "images, short side 32, bilinear",
        "digests",
        "near-copies",
    ]
    size = f"{decoded / 1e3:.0f}"
    assert by_name["images, short side 16, bilinear"][5:] == ["39", size, "kB", "2023-11-14"]
    groups = json.loads(run(caches, "--json").output)["groups"]
    assert groups[0] == {
        "name": "images, short side 16, bilinear",
        "images": 39,
        "bytes": decoded,
        "last_use": NOON,
        "in_use": False,
    }


def test_an_empty_cache(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty").output == f"{tmp_path}/empty: 0 bytes\n"
    assert run(tmp_path / "empty", "--prune", "--yes").output == "There is nothing to remove.\n"


def test_a_cache_folder_that_does_not_exist_is_an_error_and_is_not_made(tmp_path: Path) -> None:
    for options in ((), ("--prune", "--yes")):
        result = run(tmp_path / "none", *options)
        assert (result.exit_code, result.output.split(". ")[0]) == (
            1,
            f"Error: --cache-dir {tmp_path}/none is not a folder",
        )
    assert not (tmp_path / "none").exists()


def test_prune_alone_removes_waste_and_nothing_else(caches: Path) -> None:
    before = sizes(caches)
    left, kept = waste(caches), foreign(caches)
    result = run(caches, "--prune", "--yes")
    assert result.exit_code == 0 and result.output.endswith("\nRemoved 8 bytes.\n")
    assert not any(path.exists() for path in left)
    assert all(path.read_text() == "mine" for path in kept) and (caches / ("e" * 32)).is_symlink()
    assert sizes(caches) == before
    assert run(caches, "--prune", "--yes").output == "There is nothing to remove.\n"


def test_prune_by_age_and_by_size(caches: Path, data_folder: Path) -> None:
    before = sizes(caches)
    run(caches, "--prune", "--older-than", "1", "--yes")
    assert sizes(caches) == {16: 0, 32: before[32]}
    decode(data_folder, caches, 16)
    assert sizes(caches)[16] > 0  # decoded again
    for path in store_folder(Resize(32), caches).glob("*.shard"):
        os.utime(path, (NOON, NOON))
    run(caches, "--prune", "--larger-than", "1", "--yes")
    assert sizes(caches)[32] == before[32]
    total = sum(group["bytes"] for group in json.loads(run(caches, "--json").output)["groups"])
    # However its threads have divided the images among shards.
    run(caches, "--prune", "--larger-than", str((total - before[32] + 1) / 1e9), "--yes")
    assert sizes(caches)[16] > 0 and sizes(caches)[32] == 0


def test_prune_asks_before_it_removes(caches: Path) -> None:
    before = sizes(caches)
    result = run(caches, "--prune", "--older-than", "1")
    assert result.exit_code == 2
    assert "--prune asks before it removes files, and this is not a terminal: add --yes." in result.output
    result = run(caches, "--older-than", "1")
    assert result.exit_code == 2 and "need --prune" in result.output
    for answer, size in (("n", before[16]), ("y", 0)):
        assert at_a_terminal(caches, answer, "--prune", "--older-than", "1") == 0
        assert sizes(caches) == {16: size, 32: before[32]}


def test_images_that_a_running_process_uses_are_kept(caches: Path) -> None:
    before = sizes(caches)
    code = (
        "import sys; from harness.data import store, cache; from harness.data.resize import Resize\n"
        "in_use = store.hold(cache.store_folder(Resize(16), sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(caches)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    assert "2023-11-14  in use" in run(caches).output
    result = run(caches, "--prune", "--older-than", "1", "--yes")
    assert result.output.endswith(f"Removed 0 bytes.\nKept {before[16] / 1e3:.0f} kB that running processes use.\n")
    assert sizes(caches) == before
    process.kill()
    process.communicate()
    run(caches, "--prune", "--older-than", "1", "--yes")
    assert sizes(caches) == {16: 0, 32: before[32]}


def test_a_dataset_holds_its_images_and_a_shard_used_since_it_was_listed_is_kept(
    data_folder: Path, caches: Path
) -> None:
    items = cache_contents.prunable(cache_contents.contents(caches), older_than=1)
    assert len(items) > 0
    config = RunConfig(data=str(data_folder), cache_dir=str(caches))
    data = open_dataset(load_image_folder(config), Preprocessing(16, 16, "bilinear", (0.5,) * 3, (0.5,) * 3), config)
    with (store_folder(Resize(16), caches) / IN_USE).open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert cache_contents.remove(items) == ([], items)
    del data
    assert cache_contents.remove(items) == ([], items)  # no longer in use, but used after it was listed
    assert cache_contents.prunable(cache_contents.contents(caches), older_than=1) == []


@pytest.fixture
def nfs(monkeypatch: pytest.MonkeyPatch) -> None:
    """flock as on NFS: a shared lock needs a file that is open for reading, an exclusive one needs one for writing."""
    flock = fcntl.flock

    def emulated(file: IO[str], how: int) -> None:
        mode = fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE
        if mode == (os.O_WRONLY if how & fcntl.LOCK_SH else os.O_RDONLY):
            raise OSError(errno.EBADF, "Bad file descriptor")
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", emulated)


@pytest.mark.usefixtures("nfs")
def test_on_nfs_images_in_use_are_kept_and_others_are_pruned(caches: Path) -> None:
    in_use = hold(store_folder(Resize(16), caches))
    assert in_use is not None
    assert "2023-11-14  in use" in run(caches).output
    assert "that running processes use" in run(caches, "--prune", "--older-than", "1", "--yes").output
    in_use.close()
    assert "in use" not in run(caches).output
    run(caches, "--prune", "--older-than", "1", "--yes")
    assert sizes(caches)[16] == 0 < sizes(caches)[32]
