"""The Tracker: what one run tells W&B, from its first row to its end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from harness.track.offline import UNSENT, sync_command
from harness.track.service import call_with_timeout, first_line, shut_down

# Seconds that the server has for an answer to what makes an artifact.
ANSWER_TIMEOUT = 60

# Seconds for an answer that a process waits for which has been told to end.
HASTY_TIMEOUT = 3

# Bytes per second. A checkpoint that goes up more slowly is left to `wandb sync`.
SLOWEST_UPLOAD = 2_000_000

# Stays as it is in wandb's file, where any other relative folder would be made absolute.
RELATIVE_STAGING = "/proc/self/cwd/wandb"


class Tracker:
    """A W&B run of the main process, from `start` to `finish`; other processes have none."""

    def __init__(
        self,
        open_run: Callable[[str], Any],
        mode: str,
        *,
        folder: Path,
        stop: threading.Event,
        say: Callable[[str], None],
    ) -> None:
        self._open_run, self._folder, self._stop, self._say = open_run, folder, stop, say
        self._run = open_run(mode)
        self._wandb_folder = Path(self._run.settings.sync_dir)
        self._newest: dict[str, Any] = {}
        self._unsent: list[Callable[[Tracker], None]] = []
        self._complained = False
        # online, offline, disabled or shared
        self.mode = mode
        # Where the run is to be seen; None offline.
        self.url: str | None = self._run.url if mode in ("online", "shared") else None
        # What `wandb sync` takes; None unless the run is kept offline.
        self.offline_folder = self._wandb_folder if mode == "offline" else None

    @property
    def stop_requested(self) -> bool:
        """Whether somebody has pressed stop in W&B, or its sweep has."""
        return self._stop.is_set()

    def asked_to_stop(self) -> bool:
        """Whether the server does not want this run any more, asked now; no answer in time is no.

        For SIGTERM: an agent passes a stop on before wandb has heard of it, for that asks every 15 s.
        """
        if self.stop_requested:
            return True
        if self.mode not in ("online", "shared") or not self._run.sweep_id:
            return False
        answers: list[bool] = []

        def ask() -> None:
            # The client's own way to ask, but not a public one.
            from wandb.sdk.launch.api import LaunchApi

            run = self._run
            answers.append(LaunchApi().check_stop_requested(run.project, run.entity, run.id))

        with contextlib.suppress(Exception, SystemExit):
            call_with_timeout(HASTY_TIMEOUT, ask)
        return any(answers)

    def log(self, row: Mapping[str, Any]) -> None:
        """One row of history; its own "step" is the x-axis. Values of None are left out, NaN stays NaN."""
        known = {key: value for key, value in row.items() if value is not None}
        self._newest.update(known)
        with self._unbothered():
            self._run.log(known)

    def summarize(self, values: Mapping[str, Any]) -> None:
        """Values of the run as a whole, such as `best/val_f1`."""
        known = {key: value for key, value in values.items() if value is not None}
        self._newest.update(known)
        with self._unbothered():
            self._run.summary.update(known)

    def image(self, key: str, path: Path) -> None:
        """Show an image file that is already written."""
        import wandb

        with self._unbothered():
            self._run.log({**self._step(), key: wandb.Image(str(path))})

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Show a table; call it once per key and run, for each call makes an artifact. Values may be PIL's images."""
        self._send(lambda tracker: tracker._log_table(key, columns, rows))

    def dataset(self, name: str, facts: Mapping[str, Any]) -> None:
        """Record the data as an input of the run: not the images, but their fingerprint and counts.

        Equal facts are one version in W&B, so that all runs on the same data meet there. Offline the artifact is
        recorded as an output instead: wandb takes inputs only while it is connected.
        """
        self._send(lambda tracker: tracker._log_dataset(name, dict(facts)))

    def model(self, path: Path, *, name: str, metadata: Mapping[str, Any], description: str = "") -> None:
        """Keep a checkpoint as a model artifact, `best` and `latest`; call it once, when the file is final."""
        self._send(lambda tracker: tracker._log_model(path.absolute(), name, dict(metadata), description))

    def preempting(self) -> None:
        """Tell W&B that this run is being taken off the machine, so that its agent queues it again."""
        with self._unbothered():
            self._run.mark_preempting()

    def finish(self, exit_code: int) -> None:
        """Send what is left and close the run; gives up after a while, the rest is then for `wandb sync`."""
        left = []
        # Marked first: a process that is ended while it waits for the server has not sent everything either.
        unsent = self._wandb_folder / UNSENT
        try:
            if self.mode == "online":
                unsent.touch()
            self._run.finish(exit_code=exit_code)
            unsent.unlink(missing_ok=True)
        except Exception as error:
            self._complain(error)
            left.append(self._wandb_folder)
        shut_down()
        if self._unsent:
            with contextlib.suppress(Exception):
                left.append(self._keep_unsent(exit_code))
            shut_down()
        if left:
            self._say(f"W&B did not take everything. To send the rest: {sync_command(self._folder, left)}")

    def _send(self, log: Callable[[Tracker], None]) -> None:
        """Log what makes an artifact; when that fails, `finish` sees to it that it can be sent later."""
        if self.mode == "disabled":
            return
        try:
            log(self)
        except Exception as error:
            self._complain(error)
            self._unsent.append(log)

    def _keep_unsent(self, exit_code: int) -> Path:
        """An online run keeps no record of its artifacts; an offline one of the same id does, for `wandb sync`."""
        later = Tracker(self._open_run, "offline", folder=self._folder, stop=self._stop, say=self._say)
        # `wandb sync` takes the summary of the last session for that of the run.
        later.summarize(self._newest)
        for log in self._unsent:
            log(later)
        later._run.finish(exit_code=exit_code)
        return later._wandb_folder

    def _step(self) -> dict[str, Any]:
        return {"step": self._newest["step"]} if "step" in self._newest else {}

    def _log_table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        import wandb

        with self._staged():
            data = [
                [wandb.Image(cell, file_type="jpg") if isinstance(cell, Image.Image) else cell for cell in row]
                for row in rows
            ]
            table = wandb.Table(columns=list(columns), data=data)
            call_with_timeout(ANSWER_TIMEOUT, lambda: self._run.log({**self._step(), key: table}))

    def _log_dataset(self, name: str, facts: dict[str, Any]) -> None:
        import wandb

        with self._staged():
            file = self._wandb_folder / "dataset.json"
            file.write_text(json.dumps(facts, indent=1, sort_keys=True))
            artifact = wandb.Artifact(artifact_name(name), type="dataset", metadata=facts)
            self._add(artifact, file)
            record = self._run.log_artifact if self.mode == "offline" else self._run.use_artifact
            call_with_timeout(ANSWER_TIMEOUT, lambda: record(artifact))

    def _log_model(self, path: Path, name: str, metadata: dict[str, Any], description: str) -> None:
        import wandb

        with self._staged():
            artifact = wandb.Artifact(artifact_name(name), type="model", metadata=metadata, description=description)
            self._add(artifact, path)
            call_with_timeout(ANSWER_TIMEOUT, lambda: self._run.log_artifact(artifact, aliases=["best", "latest"]))
        if self.mode != "offline":
            # Without waiting, wandb tells of a failed upload in its own log file only.
            artifact.wait(timeout=ANSWER_TIMEOUT + path.stat().st_size // SLOWEST_UPLOAD)

    @contextlib.contextmanager
    def _unbothered(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        """An error in tracking is said once and goes no further."""
        if not self._complained:
            self._say(f"W&B: {first_line(error)}. The run goes on; everything is in {self._folder}.")
        self._complained = True

    @contextlib.contextmanager
    def _staged(self) -> Iterator[None]:
        """Keep wandb's copies for artifacts in the run folder; offline, work inside it, under paths relative to it."""
        offline = self.mode == "offline"
        chosen = os.environ.get("WANDB_DATA_DIR")
        own = RELATIVE_STAGING if offline and Path("/proc/self/cwd").exists() else str(self._wandb_folder.parent)
        with contextlib.chdir(self._folder) if offline else contextlib.nullcontext():
            os.environ["WANDB_DATA_DIR"] = chosen or own
            try:
                yield
            finally:
                if chosen is None:
                    del os.environ["WANDB_DATA_DIR"]

    def _add(self, artifact: Any, path: Path) -> None:
        """Put a file of the run folder into an artifact, without the copies that wandb would make of it."""
        recorded = os.path.relpath(path, self._folder) if self.mode == "offline" else str(path)
        artifact.add_file(recorded, name=path.name, policy="immutable", skip_cache=True)


def artifact_name(text: str) -> str:
    """The text with every character that W&B does not take in an artifact's name replaced by a dash."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-")[:128] or "unnamed"
