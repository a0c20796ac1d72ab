"""What W&B has not got yet, and how it is sent. Needs no wandb until it is: `wandb sync` is another process."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# Marks wandb's folder of an online run that was not uploaded to its end.
UNSENT = "unsent"


def sync(folder: Path) -> int:
    """Send what a run folder keeps for W&B, from any working directory; the exit code is that of `wandb sync`."""
    kept = [path for path in sorted((folder / "wandb").glob("*run-*")) if not path.is_symlink()]
    kept = [path for path in kept if path.name.startswith("offline-run-") or (path / UNSENT).exists()]
    if not kept:
        return 0
    command = [sys.executable, "-m", "wandb", "sync", "--include-online"]
    return subprocess.run([*command, *(str(path.relative_to(folder)) for path in kept)], cwd=folder).returncode


def sync_command(root: Path, folders: Sequence[Path]) -> str:
    """The shell command that sends them; from any other working directory wandb would not find the artifacts."""
    names = " ".join(shlex.quote(os.path.relpath(folder, root)) for folder in folders)
    online = "" if all(folder.name.startswith("offline-run-") for folder in folders) else "--include-online "
    return f"cd {shlex.quote(str(root))} && wandb sync {online}{names}"
