"""Real limits: inodes, disk, file size, memory and open files run out. One sentence, and the same command resumes."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import ROOT
from tests.helpers.forked import run_captured

pytestmark = pytest.mark.slow

# A run whose limit begins at a place in its story: before `place` is called for the first time, `limit` is executed.
CHILD = """
import importlib, os, resource, sys
from pathlib import Path
import harness.train
from harness.cli.main import run

place, limit, *arguments = sys.argv[1:]
module, name = place.rsplit(".", 1)
module = importlib.import_module(module)
work, limited = getattr(module, name), []

def limit_and_work(*values, **named):
    if not limited:
        limited.append(True)
        exec(limit)
    return work(*values, **named)

setattr(module, name, limit_and_work)
run(arguments)
"""

FILL = """
for size in (1 << 16, 1 << 8, 1):
    try:
        with open(f"{FOLDER}/ballast", "ab", buffering=0) as file:
            while True:
                file.write(bytes(size))
    except OSError:
        pass
"""

USE_UP_INODES = """
try:
    for number in range(10_000):
        open(f"{FOLDER}/{number}", "x").close()
except OSError:
    pass
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 200 MB and 100 inodes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=200m,nr_inodes=100", "tmpfs", str(folder)]
    mounted = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mounting a small disk is refused: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def arguments(data: Path, runs: Path) -> list[str]:
    return [
        *(f"--data={data}", f"--runs-dir={runs}", "--model=vit_demo", "--weights=none", "--image-size=32"),
        *("--recipe=study", "--crop-pct=1", "--epochs=2", "--batch-size=8", "--threads=1", "--explain=none"),
    ]


def run_limited(
    data: Path, runs: Path, place: str, limit: str, at_start: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    """A run in a forked child; `limit` is executed when the function `place` is called."""

    def child() -> None:
        if at_start:
            at_start()
        sys.argv[1:] = [place, limit, *arguments(data, runs)]
        exec(CHILD, {})

    return run_captured(place, child)


def check_failed(done: subprocess.CompletedProcess[str], runs: Path, sentence: str) -> None:
    """One sentence, exit code 1, and a run folder that says `failed`."""
    assert "Traceback" not in done.stderr, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1 and sentence in errors[0], done.stderr
    assert done.returncode == 1
    [folder] = [path for path in runs.iterdir() if path.is_dir()]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["state"] == "failed"


def check_resumes(data: Path, runs: Path) -> None:
    done = run_limited(data, runs, "harness.train.fit", "pass")
    assert done.returncode == 0, done.stderr
    [folder] = [path for path in runs.iterdir() if path.is_dir()]
    assert json.loads((folder / "summary.json").read_text())["state"] == "finished"


def test_no_inodes_are_left(data_folder: Path, small_disk: Path) -> None:
    done = run_limited(
        data_folder, small_disk, "harness.train.save_best", USE_UP_INODES.replace("{FOLDER}", str(small_disk))
    )
    check_failed(done, small_disk, "No inodes left (df -i) to save")
    for path in small_disk.glob("[0-9]*"):
        path.unlink()
    check_resumes(data_folder, small_disk)


def test_the_disk_is_full_in_the_test_phase(data_folder: Path, small_disk: Path) -> None:
    fill = FILL.replace("{FOLDER}", str(small_disk))
    done = run_limited(data_folder, small_disk, "harness.finish.write_predictions", fill)
    check_failed(done, small_disk, "No space left to save")
    (small_disk / "ballast").unlink()
    check_resumes(data_folder, small_disk)


def test_files_may_not_be_as_large_as_the_weights(data_folder: Path, tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))

    done = run_limited(data_folder, tmp_path / "runs", "harness.train.fit", "pass", at_start=limit)
    check_failed(done, tmp_path / "runs", "The file-size limit (ulimit -f) is too small to save")


def test_memory_is_limited(data_folder: Path, tmp_path: Path) -> None:
    limit = (
        "size = next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmSize'))\n"
        "resource.setrlimit(resource.RLIMIT_AS, ((size << 10) + (2 << 20),) * 2)"
    )
    # Not forked: the process of the tests may have enough memory to spare.
    command = [sys.executable, "-c", CHILD, "harness.train.training_step", limit]
    command += arguments(data_folder, tmp_path / "runs")
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)
    check_failed(done, tmp_path / "runs", "Out of memory on the CPU.")


def test_two_processes_may_open_few_files(data_folder: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "harness.cli",
        "train",
        "--num-processes=2",
        *arguments(data_folder, tmp_path / "runs"),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "ACCELERATE_USE_CPU": "true"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16)),
        timeout=300,
        check=False,
    )
    assert done.stderr.splitlines()[-1:] == [
        "Error: The limit of open files (ulimit -n) is 16, but 2 training processes need 48 each. Raise the limit, or "
        "use --num-processes 1."
    ]
    assert done.returncode == 1
    assert not (tmp_path / "runs").exists()
