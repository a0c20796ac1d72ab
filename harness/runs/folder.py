"""The run folder: what one run leaves on disk, with or without W&B."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.config import RunConfig
from harness.errors import HarnessError
from harness.files import disk_is_full, locked, no_space, remove_leftovers, write_atomically

# In checkpoints/: the best epoch, and all it takes to go on.
BEST = "best.safetensors"
STATE = "state.safetensors"

# Beside them: the linear probe that the head started from.
PROBE = "probe.safetensors"

# A file of this name in its folder stops a run; its text is the reason.
STOP = "stop"


class RunFolder:
    """Paths and small files of one run; written by the main process only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.figures = path / "figures"
        self.attention = path / "attention"
        self.predictions = path / "predictions.csv"
        self.metrics = path / "metrics.jsonl"

    @classmethod
    def of(cls, config: RunConfig, run_id: str | None = None) -> RunFolder:
        """Where this config's run lives: the same settings find the same folder; a run of a sweep has its own."""
        run_id = run_id or os.environ.get("WANDB_RUN_ID") or config.identity
        if not re.fullmatch(r"[\w.-]+", run_id):
            raise HarnessError(
                f"WANDB_RUN_ID is {run_id!r}; it becomes a folder name: letters, digits, '_', '-' and '.'."
            )
        return cls(Path(config.runs_dir) / f"{config.run_name}-{run_id}")

    def read(self, name: str) -> dict[str, Any]:
        """`config.json`, `manifest.json` or `summary.json`; empty when it is not there."""
        try:
            return json.loads((self.path / name).read_text())
        except FileNotFoundError:
            return {}
        except json.JSONDecodeError as error:
            raise HarnessError(f"{self.path / name} is damaged ({error}). Start over with --fresh.") from error

    def write(self, name: str, values: Mapping[str, Any]) -> None:
        text = json.dumps(_finite(values), indent=2, ensure_ascii=False, allow_nan=False)
        write_atomically(self.path / name, (text + "\n").encode())

    def update(self, name: str, values: Mapping[str, Any]) -> None:
        self.write(name, self.read(name) | dict(values))

    def ask_to_stop(self, reason: str) -> None:
        """Have the run that is going on here end at its next step, as `stopped`."""
        write_atomically(self.path / STOP, reason.encode())

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        try:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(_finite(row), allow_nan=False) + "\n")
        except OSError as error:
            if disk_is_full(error):
                raise no_space(self.metrics) from error
            raise

    def read_metrics(self) -> list[dict[str, Any]]:
        """Rows of `metrics.jsonl`; a last line cut off by a crash is left out."""
        rows = []
        if self.metrics.exists():
            for line in self.metrics.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(json.JSONDecodeError):
                    rows.append(json.loads(line))
        return rows

    def keep_metrics_until(self, step: int, epochs: int) -> None:
        """Drop rows that the run is about to log again: those after `step`, and validations after `epochs`."""
        rows = [row for row in self.read_metrics() if row["step"] <= step]
        rows = [row for row in rows if "val/loss" not in row or row["epoch"] <= epochs]
        write_atomically(self.metrics, "".join(json.dumps(row) + "\n" for row in rows).encode())

    def set_aside(self) -> Path | None:
        """Move an earlier run of the same settings out of the way; nothing is deleted."""
        if not self.path.exists():
            return None
        aside = self.path.parent / ".replaced"
        aside.mkdir(exist_ok=True)
        name = f"{self.path.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        # A folder of its own, also for the second within a second.
        return self.path.rename(Path(tempfile.mkdtemp(prefix=f"{name}-", dir=aside)))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against a second copy of the same run; the kernel lets go when the process ends."""
        refusal = (
            "Another process ({holder}) is running this very run in {folder}. "
            "Wait for it, or change a setting (--seed, --name) for a run of its own."
        )
        with locked(self.path / ".lock", refusal):
            for folder in (self.path, self.checkpoints):
                remove_leftovers(folder)
            yield


def _finite(value: Any) -> Any:
    """JSON has no NaN or infinity: they become null, which every reader understands."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
