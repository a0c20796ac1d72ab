"""Send runs that were kept offline. wandb is not imported here: `wandb sync` runs as a subprocess."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from harness import files
from harness.errors import HarnessError
from harness.track.repair import remove_sweep, truncate_partial_record

# A file in wandb's folder of an online run whose upload was not completed.
UNSENT = "unsent"

# Time limit of sending a run: seconds, plus its size at this many bytes per second. wandb itself retries for hours.
SEND_TIMEOUT = 300
SLOWEST_SEND = 500_000

# Variables that apply to a live run. An offline run recorded their values in its own files.
NOT_FOR_SYNC = ("WANDB_MODE", "WANDB_RUN_ID", "WANDB_RUN_GROUP", "WANDB_SWEEP_ID", "WANDB_PROJECT", "WANDB_SERVICE")


def sync(folder: Path) -> int:
    """Send the offline files of a run folder, from any working directory; returns the exit code of `wandb sync`."""
    kept = _kept(folder)
    if not kept:
        return 0
    with suppress(HarnessError):  # the run is still running: send what it has written so far
        _repair(folder)
    code = subprocess.run(_command(folder, kept), cwd=folder).returncode
    # `wandb sync` also exits with 0 if it could not read all of a run, but then leaves no `.synced` file.
    return 128 - code if code < 0 else code or int(bool(waiting(folder)))


def waiting(folder: Path) -> list[Path]:
    """wandb's folders in a run folder, one per start of the run, that were not sent completely."""
    return [path for path in _kept(folder) if not any(path.glob("*.wandb.synced"))]


def send(folder: Path) -> None:
    """Send the folders of `waiting`, silently. Raises HarnessError if sending fails or the run is still running."""
    _repair(folder)
    unsent = waiting(folder)
    if not unsent:
        return
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    try:
        done = subprocess.run(
            _command(folder, unsent),
            cwd=folder,
            env={name: value for name, value in os.environ.items() if name not in NOT_FOR_SYNC},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=SEND_TIMEOUT + size // SLOWEST_SEND,
        )
    except subprocess.TimeoutExpired as error:
        raise HarnessError(f"W&B did not accept it within {error.timeout:.0f} s") from None
    if done.returncode or waiting(folder):
        lines = [line.removeprefix("wandb:").strip() for line in done.stdout.splitlines()]
        errors = [line for line in lines if line.startswith("ERROR")] or [line for line in lines if line]
        raise HarnessError(errors[-1].removeprefix("ERROR ")[:500] if errors else f"exit code {done.returncode}")


def sync_command(root: Path, folders: Sequence[Path]) -> str:
    """The shell command that sends these folders. It changes to `root`: wandb finds artifacts only from there."""
    names = " ".join(shlex.quote(os.path.relpath(folder, root)) for folder in folders)
    online = "" if all(folder.name.startswith("offline-run-") for folder in folders) else "--include-online "
    return f"cd {shlex.quote(str(root))} && wandb sync {online}{names}"


def _kept(folder: Path) -> list[Path]:
    folders = [path for path in sorted((folder / "wandb").glob("*run-*")) if not path.is_symlink()]
    return [path for path in folders if path.name.startswith("offline-run-") or (path / UNSENT).exists()]


def _repair(folder: Path) -> None:
    """Repair the logs of killed processes and of earlier versions. Raises HarnessError while the run is running."""
    with files.locked(folder / ".lock", "it is running ({holder})"):
        for path in waiting(folder):
            for file in path.glob("*.wandb"):
                truncate_partial_record(file)
                # Earlier versions recorded the id of `harness sweep run` as a sweep of W&B, which no server knows.
                if trial := re.fullmatch(r"run-(\w+)-\d+", file.stem):
                    remove_sweep(file, trial[1])


def _command(folder: Path, kept: Sequence[Path]) -> list[str]:
    names = (str(path.relative_to(folder)) for path in kept)
    return [sys.executable, "-m", "wandb", "sync", "--include-online", *names]
