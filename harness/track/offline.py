"""What W&B has not got yet, and how it is sent. Needs no wandb until it is: `wandb sync` is another process."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from harness import files
from harness.errors import HarnessError
from harness.track.repair import truncate_partial_record

# Marks wandb's folder of an online run that was not uploaded to its end.
UNSENT = "unsent"

# Seconds for a run to be sent, and bytes per second that come on top: wandb itself tries for hours.
SEND_TIMEOUT = 300
SLOWEST_SEND = 500_000

# They are for a run that is going on; one that is sent says all of this itself.
NOT_FOR_SYNC = ("WANDB_MODE", "WANDB_RUN_ID", "WANDB_RUN_GROUP", "WANDB_SWEEP_ID", "WANDB_PROJECT", "WANDB_SERVICE")


def sync(folder: Path) -> int:
    """Send what a run folder keeps for W&B, from any working directory; the exit code is that of `wandb sync`."""
    kept = _kept(folder)
    if not kept:
        return 0
    with suppress(HarnessError):  # a run that is going on: what it has written so far
        _mend(folder)
    code = subprocess.run(_command(folder, kept), cwd=folder).returncode
    # wandb counts a run of which it could not read everything as sent, only that it leaves no mark of it.
    return code or int(bool(waiting(folder)))


def waiting(folder: Path) -> list[Path]:
    """Folders of wandb in a run folder, one per start of the run, that were not sent to their end."""
    return [path for path in _kept(folder) if not any(path.glob("*.wandb.synced"))]


def send(folder: Path) -> None:
    """Send what `waiting` finds, quietly. Raises HarnessError with why it did not arrive, or if the run goes on."""
    _mend(folder)
    left = waiting(folder)
    if not left:
        return
    weight = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    try:
        done = subprocess.run(
            _command(folder, left),
            cwd=folder,
            env={name: value for name, value in os.environ.items() if name not in NOT_FOR_SYNC},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=SEND_TIMEOUT + weight // SLOWEST_SEND,
        )
    except subprocess.TimeoutExpired as error:
        raise HarnessError(f"W&B did not take it within {error.timeout:.0f} s") from None
    if done.returncode or waiting(folder):
        said = [line.removeprefix("wandb:").strip() for line in done.stdout.splitlines()]
        errors = [line for line in said if line.startswith("ERROR")] or [line for line in said if line]
        raise HarnessError(errors[-1].removeprefix("ERROR ")[:500] if errors else f"exit code {done.returncode}")


def sync_command(root: Path, folders: Sequence[Path]) -> str:
    """The shell command that sends them; from any other working directory wandb would not find the artifacts."""
    names = " ".join(shlex.quote(os.path.relpath(folder, root)) for folder in folders)
    online = "" if all(folder.name.startswith("offline-run-") for folder in folders) else "--include-online "
    return f"cd {shlex.quote(str(root))} && wandb sync {online}{names}"


def _kept(folder: Path) -> list[Path]:
    found = [path for path in sorted((folder / "wandb").glob("*run-*")) if not path.is_symlink()]
    return [path for path in found if path.name.startswith("offline-run-") or (path / UNSENT).exists()]


def _mend(folder: Path) -> None:
    """Make what a killed process wrote readable to its end. Raises HarnessError while the run is going on."""
    with files.locked(folder / ".lock", "it is running ({holder})"):
        for path in waiting(folder):
            for file in path.glob("*.wandb"):
                truncate_partial_record(file)


def _command(folder: Path, kept: Sequence[Path]) -> list[str]:
    names = (str(path.relative_to(folder)) for path in kept)
    return [sys.executable, "-m", "wandb", "sync", "--include-online", *names]
