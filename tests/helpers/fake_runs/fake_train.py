"""In place of harness.train: a run that trains nothing, but keeps to the contract of a run folder.

An epoch takes 0.2 s. SIGTERM ends it as preempted, with code 143; the next start resumes after its last epoch. `starts`
and `ends` in its folder count how often it was started and how often it ended well.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from harness.config import RunConfig
from harness.runs.folder import STOP, RunFolder

EPOCH_SECONDS = 0.2


def exit_code_of(config: RunConfig) -> int:
    folder = RunFolder.of(config)
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda signum, frame: stopped.append(signum))
    with folder.locked():
        folder.write("config.json", config.to_dict())
        folder.write("summary.json", {"state": "running"})
        _count(folder.path / "starts")
        (folder.path / STOP).unlink(missing_ok=True)
        for epoch in range(len(folder.read_metrics()) + 1, config.epochs + 1):
            time.sleep(EPOCH_SECONDS)
            if stopped:
                folder.write("summary.json", {"state": "preempted"})
                return 128 + signal.SIGTERM
            if (folder.path / STOP).exists():
                folder.write("summary.json", {"state": "stopped", "reason": (folder.path / STOP).read_text()})
                return 0
            f1 = min(1.0, 100 * config.lr)
            folder.append_metrics({"step": epoch, "epoch": epoch, "val/loss": 1 - f1, "val/f1": f1})
        folder.write("summary.json", {"state": "finished", "best/val_f1": f1, "best/val_loss": 1 - f1, "test/f1": f1})
        _count(folder.path / "ends")
    return 0


def _count(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, b"x")
    os.close(descriptor)
