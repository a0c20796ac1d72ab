"""The run folder: what one run leaves on disk, with or without W&B."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.config import RunConfig
from harness.errors import HarnessError, printable
from harness.files import disk_is_full, is_locked, locked, no_space, remove_leftovers, write_atomically
from harness.run_name import swept_settings
from harness.runs.predictions import PREDICTIONS_FILE
from harness.runs.reading import START_OVER, UnreadableError, read_checked_object, read_rows
from harness.runs.rules import SET_ASIDE, finite

# In checkpoints/: weights of the best epoch, and everything that resuming needs.
BEST = "best.safetensors"
STATE = "state.safetensors"

# Beside them: the linear probe that the head started from.
PROBE = "probe.safetensors"

# A file of this name in its folder stops a run; its text is the reason.
STOP = "stop"


def check_exists(run_folder: Path) -> None:
    """Raises HarnessError if there is no such folder."""
    if not run_folder.is_dir():
        reason = "is not a folder" if run_folder.exists() else "does not exist"
        raise HarnessError(f"{printable(run_folder)} {reason}; give a run folder.")


def refuse_links_in(folder: Path, *below: Path) -> None:
    """Raises HarnessError if a folder, an entry of it, or anything below these subfolders is a symbolic link.

    Whoever writes to the folder would write through it.
    """
    paths = [folder, *(folder.iterdir() if folder.is_dir() else ())]
    for subfolder in below:
        paths += [Path(parent, name) for parent, folders, files in os.walk(subfolder) for name in (*folders, *files)]
    for path in sorted(paths):
        if path.is_symlink():
            raise HarnessError(
                f"{printable(path)} is a symbolic link; a run neither reads nor writes through links. Replace it "
                "by what it leads to, or choose another --runs-dir."
            )


class RunFolder:
    """Paths and small files of one run; written by the main process only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.figures = path / "figures"
        self.attention = path / "attention"
        self.predictions = path / PREDICTIONS_FILE
        self.metrics = path / "metrics.jsonl"
        self.lock = path / ".lock"

    @classmethod
    def of(cls, config: RunConfig, run_id: str | None = None) -> RunFolder:
        """Where this config's run lives: the same settings find the same folder; a run of a sweep has its own."""
        run_id = run_id or os.environ.get("WANDB_RUN_ID") or config.identity
        if not re.fullmatch(r"[\w.-]+", run_id):
            raise HarnessError(
                f"WANDB_RUN_ID is {run_id!r}; it becomes a folder name: letters, digits, '_', '-' and '.'."
            )
        path = Path(config.runs_dir) / f"{config.run_name}-{run_id}"
        if swept_settings() and not path.exists():
            # It has another name if the sweep file had other parameters, or an earlier version named it.
            begun = [folder for folder in path.parent.glob(f"*-{run_id}") if (folder / "config.json").is_file()]
            path = min(begun, default=path)
        return cls(path)

    def read(self, name: str, remedy: str = START_OVER) -> dict[str, Any]:
        """`config.json`, `manifest.json` or `summary.json`; empty if the file is missing. Raises UnreadableError."""
        try:
            return read_checked_object(self.path / name, remedy)
        except FileNotFoundError:
            return {}

    def read_manifest(self) -> tuple[dict[str, Any], str]:
        """`manifest.json`, and what is wrong with it, without its folder: a run can be used although this is lost."""
        try:
            return self.read("manifest.json"), ""
        except UnreadableError as error:
            return {}, error.reason

    def write(self, name: str, values: Mapping[str, Any]) -> None:
        text = json.dumps(finite(values), indent=2, ensure_ascii=False, allow_nan=False)
        # Words of the command that are not UTF-8 become JSON escapes, which are read back as the same words.
        write_atomically(self.path / name, (text + "\n").encode(errors="backslashreplace"))

    def mark_failed(self) -> None:
        """Overwrite the state `running` in summary.json in place, which needs no free space."""
        with (self.path / "summary.json").open("r+b") as file:
            content = file.read()
            if (position := content.find(b'"state": "running"')) >= 0:
                file.seek(position)
                file.write(b'"state": "failed" ')  # of the same length

    def update(self, name: str, values: Mapping[str, Any]) -> None:
        self.write(name, self.read(name) | dict(values))

    def ask_to_stop(self, reason: str) -> None:
        """Ask the run in this folder to end at its next step, as `stopped`."""
        write_atomically(self.path / STOP, reason.encode())

    @property
    def is_asked_to_stop(self) -> bool:
        return (self.path / STOP).exists()

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        try:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(finite(row), allow_nan=False) + "\n")
        except OSError as error:
            if disk_is_full(error):
                raise no_space(self.metrics, error) from error
            raise

    def read_metrics(self, remedy: str = START_OVER) -> list[dict[str, Any]]:
        """Rows of `metrics.jsonl`; a last line cut off by a crash is left out. Raises UnreadableError."""
        rows, problem = read_rows(self.metrics)
        if problem:
            raise UnreadableError(self.metrics, problem, remedy)
        return rows

    def keep_metrics_until(self, step: int, epochs: int) -> None:
        """Drop rows that the resumed run logs again: those after `step`, and validations after `epochs`."""
        rows = [row for row in self.read_metrics() if row["step"] <= step]
        rows = [row for row in rows if "val/loss" not in row or row["epoch"] <= epochs]
        write_atomically(self.metrics, "".join(json.dumps(row) + "\n" for row in rows).encode())

    def set_aside(self) -> Path | None:
        """Move an earlier run of the same settings to another folder; nothing is deleted."""
        if not self.path.exists():
            return None
        aside = self.path.parent / SET_ASIDE
        if aside.is_symlink():
            raise HarnessError(f"{printable(aside)} is a symbolic link, which is not followed. Remove it.")
        aside.mkdir(exist_ok=True)
        name = f"{self.path.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        # mkdtemp makes the name unique, also for two runs within one second.
        return self.path.rename(Path(tempfile.mkdtemp(prefix=f"{name}-", dir=aside)))

    @property
    def is_locked(self) -> bool:
        """Whether a process is working on the run, as far as locks can be seen from this machine."""
        return is_locked(self.lock)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder against a second process of the same run; the kernel unlocks it when the process ends."""
        refusal = (
            "Another process ({holder}) is running this run in {folder}. "
            "Wait for it, or change a setting (--seed, --name) to start another run."
        )
        refuse_links_in(
            self.path, self.checkpoints, self.figures, self.attention
        )  # not wandb/, which has its own links
        with locked(self.lock, refusal):
            remove_leftovers(self.path)  # not below: wandb/ holds W&B's own files
            for folder in (self.checkpoints, self.figures, self.attention):
                remove_leftovers(folder, recursive=True)
            yield
