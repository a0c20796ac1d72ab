"""Real launchers, real signals: a run is asked to stop through the program that started it, and no process is left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import ROOT
from tests.helpers.waiting import wait_for

RUN = ROOT / "harness" / "run.py"
LAUNCHERS = {
    "accelerate, 1 process": [
        str(Path(sys.executable).with_name("accelerate")),
        "launch",
        "--num_processes=1",
        str(RUN),
    ],
    "torchrun, 2 processes": [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(RUN))
    ],
    "harness train, 2 processes": [sys.executable, "-m", "harness.cli", "train", "--num-processes=2"],
}


def alive(mark: str) -> list[int]:
    """Processes whose command line or environment has the mark."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if mark.encode() in text and state not in "ZX":
            found.append(int(entry.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "signum"),
    [
        ("accelerate, 1 process", signal.SIGTERM),
        ("accelerate, 1 process", signal.SIGKILL),
        ("torchrun, 2 processes", signal.SIGTERM),
        ("harness train, 2 processes", signal.SIGKILL),
    ],
    ids=str,
)
def test_when_the_launcher_ends_so_do_its_trainers(
    launcher: str, signum: int, data_folder: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    arguments = [f"--data={data_folder}", f"--runs-dir={runs}", "--model=vit_demo", "--weights=none", "--image-size=32"]
    arguments += ["--recipe=study", "--crop-pct=1", "--batch-size=4", "--epochs=100000", "--log-every=1", "--threads=1"]
    mark = f"TEST_MARK_{os.getpid()}_{time.monotonic_ns()}"
    (temporary := tmp_path / "temporary").mkdir()
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "TMPDIR": str(temporary), mark: "1"}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*LAUNCHERS[launcher], *arguments], env=environment, cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        began = wait_for(lambda: any(len(path.read_text()) > 500 for path in runs.glob("*/metrics.jsonl")), 120)
        assert began, (tmp_path / "log").read_text()
        assert len(alive(mark)) >= 2
        process.send_signal(signum)
        assert wait_for(lambda: process.poll() is not None and not alive(mark), 60), alive(mark)
    finally:
        for pid in alive(mark):
            os.kill(pid, signal.SIGKILL)
        process.wait()
    # What is left is the launcher's: torchrun never removes its folder for logs, accelerate imports wandb, which makes
    # folders, and a killed process removes nothing.
    theirs = re.compile(r"torchelastic_.*|tmp.*wandb-(artifacts|media)")
    left = [path.name for path in temporary.iterdir() if not theirs.fullmatch(path.name)]
    assert len(left) == (launcher.startswith("harness train") and signum == signal.SIGKILL and 1)
    [folder] = runs.iterdir()
    assert json.loads((folder / "summary.json").read_text())["state"] == "preempted"
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert (folder / "checkpoints" / "state.safetensors").exists()

    # The state that was saved is that of the last row: nothing that was done is lost.
    from harness.training.checkpoint import load_tensors

    _, metadata = load_tensors(folder / "checkpoints" / "state.safetensors")
    assert metadata["progress"]["step"] == rows[-1]["step"]
