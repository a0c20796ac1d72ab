"""The Tracker: log one run to W&B, from its first row to its end."""

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

from harness.errors import first_line
from harness.time_limit import call_with_timeout, waiting_reported
from harness.track.offline import UNSENT, sync_command
from harness.track.service import shut_down
from harness.track.settings import FINISH_TIMEOUT, seconds_of

# Time limit in seconds of requests that create an artifact.
ANSWER_TIMEOUT = 30

# Time limit in seconds of a request while the process is shutting down.
SHUTDOWN_TIMEOUT = 3

# Bytes per second. If the upload of a checkpoint is slower, it is left to `wandb sync`.
SLOWEST_UPLOAD = 2_000_000

# wandb records this path unchanged; it would make any other relative path absolute.
RELATIVE_STAGING = "/proc/self/cwd/wandb"


class Tracker:
    """A W&B run, from `start` to `finish`. Only the main process has a Tracker."""

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
        self._latest_values: dict[str, Any] = {}
        self._failed_artifacts: list[Callable[[Tracker], None]] = []
        self._error_reported = False
        self._server_silent = False  # a request was not answered in time
        # online, offline, disabled or shared
        self.mode = mode
        # Address of the run's page; None offline.
        self.url: str | None = self._run.url if mode in ("online", "shared") else None
        # The folder for `wandb sync`; None unless the run is kept offline.
        self.offline_folder = self._wandb_folder if mode == "offline" else None

    @property
    def stop_requested(self) -> bool:
        """Whether a user or the sweep has stopped the run in W&B."""
        return self._stop.is_set()

    def asked_to_stop(self) -> bool:
        """Ask the server now whether the run was stopped; False if it does not answer in time.

        Used on SIGTERM: the agent may signal a stop before wandb detects it, which polls every 15 s.
        """
        if self.stop_requested:
            return True
        if self.mode not in ("online", "shared") or not self._run.sweep_id:
            return False

        def ask() -> bool:
            # wandb's client uses this API itself; it is not public.
            from wandb.sdk.launch.api import LaunchApi

            return LaunchApi().check_stop_requested(self._run.project, self._run.entity, self._run.id)

        try:
            return bool(call_with_timeout(SHUTDOWN_TIMEOUT, ask))
        except (Exception, SystemExit):
            return False

    def log(self, row: Mapping[str, Any]) -> None:
        """Log one row of history; its value "step" is the x-axis. None is left out, NaN is kept."""
        known = {key: value for key, value in row.items() if value is not None}
        self._latest_values.update(known)
        with self._errors_reported():
            self._run.log(known)

    def summarize(self, values: Mapping[str, Any]) -> None:
        """Set summary values of the run, such as `best/val_f1`."""
        known = {key: value for key, value in values.items() if value is not None}
        self._latest_values.update(known)
        with self._errors_reported():
            self._run.summary.update(known)

    def image(self, key: str, path: Path) -> None:
        """Log an image file."""
        import wandb

        with self._errors_reported():
            self._run.log({**self._step(), key: wandb.Image(str(path))})

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Log a table; cells may be PIL images. Call it once per key and run, because each call creates an artifact."""
        self._send(lambda tracker: tracker._log_table(key, columns, rows))

    def dataset(self, name: str, facts: Mapping[str, Any]) -> None:
        """Log the data set as an input of the run: its fingerprint and counts, not the images.

        Equal facts give the same artifact version, so W&B links all runs on the same data. Offline the artifact is
        logged as an output instead: wandb accepts inputs only online.
        """
        self._send(lambda tracker: tracker._log_dataset(name, dict(facts)))

    def model(self, path: Path, *, name: str, metadata: Mapping[str, Any], description: str = "") -> None:
        """Log a checkpoint as a model artifact, aliases `best` and `latest`. Call it once, with the final file."""
        self._send(lambda tracker: tracker._log_model(path.absolute(), name, dict(metadata), description))

    def preempting(self) -> None:
        """Mark the run as preempting, so that W&B's agents queue it again."""
        with self._errors_reported():
            self._run.mark_preempting()

    def finish(self, exit_code: int) -> None:
        """Send the remaining data and close the run. After a time limit the rest is left to `wandb sync`."""
        not_sent = []
        # Marked first, because the process may be killed while it waits for the server.
        unsent = self._wandb_folder / UNSENT
        try:
            if self.mode == "online":
                unsent.touch()
            limit = seconds_of("WANDB_FINISH_TIMEOUT", FINISH_TIMEOUT)
            with waiting_reported(self._say, f"Waiting up to {limit:g} s for W&B to receive the rest ..."):
                self._run.finish(exit_code=exit_code)
            unsent.unlink(missing_ok=True)
        except Exception as error:
            self._report_error(error)
            not_sent.append(self._wandb_folder)
        shut_down()
        if self._failed_artifacts:
            with contextlib.suppress(Exception):
                not_sent.append(self._save_failed_artifacts(exit_code))
            shut_down()
        if not_sent:
            self._say(f"W&B did not receive everything. To send the rest: {sync_command(self._folder, not_sent)}")

    def _send(self, log: Callable[[Tracker], None]) -> None:
        """Log an artifact. If that fails, `finish` saves it for `wandb sync`."""
        if self.mode == "disabled":
            return
        if self._server_silent:
            self._failed_artifacts.append(log)  # one time limit is enough: do not wait again for each artifact
            return
        try:
            with waiting_reported(self._say, "Waiting for W&B to accept a file ..."):
                log(self)
        except Exception as error:
            self._server_silent = isinstance(error, TimeoutError)
            self._report_error(error)
            self._failed_artifacts.append(log)

    def _save_failed_artifacts(self, exit_code: int) -> Path:
        """Log the failed artifacts to an offline run of the same id: an online run keeps no local record of them."""
        offline = Tracker(self._open_run, "offline", folder=self._folder, stop=self._stop, say=self._say)
        # `wandb sync` uses the summary of the last session as the summary of the run.
        offline.summarize(self._latest_values)
        for log in self._failed_artifacts:
            log(offline)
        offline._run.finish(exit_code=exit_code)
        return offline._wandb_folder

    def _step(self) -> dict[str, Any]:
        return {"step": self._latest_values["step"]} if "step" in self._latest_values else {}

    def _log_table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        import wandb

        with self._staging_in_run_folder():
            data = [
                [wandb.Image(cell, file_type="jpg") if isinstance(cell, Image.Image) else cell for cell in row]
                for row in rows
            ]
            table = wandb.Table(columns=list(columns), data=data)
            call_with_timeout(ANSWER_TIMEOUT, lambda: self._run.log({**self._step(), key: table}))

    def _log_dataset(self, name: str, facts: dict[str, Any]) -> None:
        import wandb

        with self._staging_in_run_folder():
            file = self._wandb_folder / "dataset.json"
            file.write_text(json.dumps(facts, indent=1, sort_keys=True))
            artifact = wandb.Artifact(artifact_name(name), type="dataset", metadata=facts)
            self._add(artifact, file)
            record = self._run.log_artifact if self.mode == "offline" else self._run.use_artifact
            call_with_timeout(ANSWER_TIMEOUT, lambda: record(artifact))

    def _log_model(self, path: Path, name: str, metadata: dict[str, Any], description: str) -> None:
        import wandb

        with self._staging_in_run_folder():
            artifact = wandb.Artifact(artifact_name(name), type="model", metadata=metadata, description=description)
            self._add(artifact, path)
            call_with_timeout(ANSWER_TIMEOUT, lambda: self._run.log_artifact(artifact, aliases=["best", "latest"]))
        if self.mode != "offline":
            # Without waiting, a failed upload appears only in wandb's log file.
            artifact.wait(timeout=ANSWER_TIMEOUT + path.stat().st_size // SLOWEST_UPLOAD)

    @contextlib.contextmanager
    def _errors_reported(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._report_error(error)

    def _report_error(self, error: Exception) -> None:
        """Print the first error of tracking; errors do not stop the run."""
        if not self._error_reported:
            self._say(f"W&B: {first_line(error)}. The run continues; everything is in {self._folder}.")
        self._error_reported = True

    @contextlib.contextmanager
    def _staging_in_run_folder(self) -> Iterator[None]:
        """Keep wandb's copies of artifact files in the run folder. Offline, work in it with paths relative to it."""
        offline = self.mode == "offline"
        user_choice = os.environ.get("WANDB_DATA_DIR")
        default = RELATIVE_STAGING if offline and Path("/proc/self/cwd").exists() else str(self._wandb_folder.parent)
        with contextlib.chdir(self._folder) if offline else contextlib.nullcontext():
            os.environ["WANDB_DATA_DIR"] = user_choice or default
            try:
                yield
            finally:
                if user_choice is None:
                    del os.environ["WANDB_DATA_DIR"]

    def _add(self, artifact: Any, path: Path) -> None:
        """Add a file of the run folder to an artifact without a copy in wandb's cache."""
        recorded = os.path.relpath(path, self._folder) if self.mode == "offline" else str(path)
        artifact.add_file(recorded, name=path.name, policy="immutable", skip_cache=True)


def artifact_name(text: str) -> str:
    """The text as an artifact name: characters that W&B does not accept become dashes; at most 128 characters."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-")[:128] or "unnamed"
