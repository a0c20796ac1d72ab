"""One run in Weights & Biases: the only file that imports wandb, and only inside functions (the import takes seconds).

Tracking never decides how a run ends. No login, no network, a server that goes away: each costs one printed line,
the numbers stay in the run folder, and `wandb sync` sends them later.

Paths inside wandb's offline file. Media are found beside that file, but an artifact's files are looked up under the
path they were added by. So wandb works from inside the run folder and is given paths relative to it (tables are
staged by way of /proc/self/cwd): after `cd RUN`, `wandb sync wandb/offline-run-*` finds every file, also in a copy
of the run folder under another name or on another machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.config import RunConfig

PROJECT = "vit-harness"

# Seconds; WANDB_INIT_TIMEOUT and WANDB_FINISH_TIMEOUT take precedence.
INIT_TIMEOUT = 30
FINISH_TIMEOUT = 120
PATIENCE = 60

# Bytes per second below which an upload is given up.
SLOWEST_UPLOAD = 500_000

# Stays as it is in wandb's file, where any other relative path would be made absolute.
RELATIVE_STAGING = "/proc/self/cwd/wandb"


class Tracker:
    """A W&B run of the main process, from `start` to `finish`; other processes have none."""

    def __init__(self, run: Any, folder: Path, mode: str, stop: threading.Event, say: Callable[[str], None]) -> None:
        self._run, self._folder, self._stop, self._say = run, folder, stop, say
        self._complained = False
        self._wandb_folder = Path(run.settings.sync_dir)
        # online, offline, disabled or shared
        self.mode = mode
        # Where the run is to be seen; None offline.
        self.url: str | None = run.url if mode in ("online", "shared") else None
        # What `wandb sync` takes; None unless the run is kept offline.
        self.offline_folder = self._wandb_folder if mode == "offline" else None

    @property
    def stop_requested(self) -> bool:
        """Whether somebody has pressed stop in W&B."""
        return self._stop.is_set()

    def log(self, row: Mapping[str, Any]) -> None:
        """One row of history; its own "step" is the x-axis. Values of None are left out, NaN stays NaN."""
        with self._unbothered():
            self._run.log({key: value for key, value in row.items() if value is not None})

    def summarize(self, values: Mapping[str, Any]) -> None:
        """Values of the run as a whole, such as `best/val_f1`."""
        with self._unbothered():
            self._run.summary.update({key: value for key, value in values.items() if value is not None})

    def image(self, key: str, path: Path) -> None:
        """Show a picture file that is already written."""
        import wandb

        with self._unbothered():
            self._run.log({key: wandb.Image(str(path))})

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Show a table; call it once per key and run, for each call makes an artifact."""
        import wandb

        with self._unbothered(), self._staged():
            table = wandb.Table(columns=list(columns), data=[list(row) for row in rows])
            _within(PATIENCE, lambda: self._run.log({key: table}))

    def dataset(self, name: str, facts: Mapping[str, Any]) -> None:
        """Record the data as an input of the run: not the pictures, but their fingerprint and counts.

        Equal facts are one version in W&B, so that all runs on the same data meet there. Offline the artifact is
        recorded as an output instead: wandb takes inputs only while it is connected.
        """
        import wandb

        if self.mode == "disabled":
            return
        with self._unbothered(), self._staged():
            artifact = wandb.Artifact(artifact_name(name), type="dataset", metadata=dict(facts))
            with artifact.new_file("dataset.json") as file:
                json.dump(dict(facts), file, indent=1, sort_keys=True)
            record = self._run.log_artifact if self.mode == "offline" else self._run.use_artifact
            _within(PATIENCE, lambda: record(artifact))

    def model(self, path: Path, *, name: str, metadata: Mapping[str, Any], description: str = "") -> None:
        """Keep a checkpoint as a model artifact, `best` and `latest`; call it once, when the file is final."""
        import wandb

        if self.mode == "disabled":
            return
        path = path.absolute()
        recorded = os.path.relpath(path, self._folder) if self.mode == "offline" else path
        with self._unbothered(), self._staged():
            artifact = wandb.Artifact(
                artifact_name(name), type="model", metadata=dict(metadata), description=description or None
            )
            # The file stays in the run folder: a staged copy, or one in wandb's cache, would only fill the disk.
            artifact.add_file(str(recorded), name=path.name, policy="immutable", skip_cache=True)
            _within(PATIENCE, lambda: self._run.log_artifact(artifact, aliases=["best", "latest"]))
            if self.mode != "offline":
                # Without waiting, wandb tells of a failed upload in its own log file only.
                artifact.wait(timeout=PATIENCE + path.stat().st_size // SLOWEST_UPLOAD)

    def preempting(self) -> None:
        """Tell W&B that this run is being taken off the machine, so that its agent queues it again."""
        with self._unbothered():
            self._run.mark_preempting()

    def finish(self, exit_code: int) -> None:
        """Send what is left and close the run; gives up after a while, the rest is then for `wandb sync`."""
        import wandb

        try:
            self._run.finish(exit_code=exit_code)
        except Exception as error:
            sync = sync_command(self._folder, self._wandb_folder)
            self._say(f"W&B did not take everything ({_first_line(error)}). Nothing is lost; to send it: {sync}")
        with contextlib.suppress(Exception):
            wandb.teardown(exit_code)

    @contextlib.contextmanager
    def _unbothered(self) -> Iterator[None]:
        """An error in tracking is said once and goes no further."""
        try:
            yield
        except Exception as error:
            if not self._complained:
                self._say(f"W&B: {_first_line(error)}. The run goes on; everything is in {self._folder}.")
            self._complained = True

    @contextlib.contextmanager
    def _staged(self) -> Iterator[None]:
        """Have artifacts made in here kept in the run folder, offline under paths relative to it."""
        if "WANDB_DATA_DIR" in os.environ:
            yield
            return
        try:
            if self.mode == "offline":
                os.environ["WANDB_DATA_DIR"] = RELATIVE_STAGING
                with contextlib.chdir(self._folder):
                    yield
            else:
                os.environ["WANDB_DATA_DIR"] = str(self._folder / "wandb")
                yield
        finally:
            del os.environ["WANDB_DATA_DIR"]


def start(
    config: RunConfig,
    folder: Path,
    *,
    run_id: str,
    extra_config: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = print,
) -> Tracker:
    """Open the run in W&B, online when logged in, else offline with one line; the same id again goes on with it.

    W&B's own variables are obeyed (WANDB_MODE, WANDB_PROJECT, WANDB_DIR, ...); options that were given win over them.
    """
    import wandb

    root = _root(folder).resolve()
    root.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    mode, reason = _mode()
    keywords = _keywords(config, root, run_id, {**config.to_dict(), **(extra_config or {})})
    keywords["settings"] = _settings(stop)

    def init(mode: str) -> Tracker:
        run = wandb.init(mode=mode, **keywords)
        run.define_metric("step")
        run.define_metric("*", step_metric="step")
        return Tracker(run, root, mode, stop, say)

    try:
        tracker = init(mode)
    except Exception as error:
        if mode == "offline":
            raise
        mode, reason = "offline", f"W&B cannot be reached: {_first_line(error)}"
        wandb.teardown()
        tracker = init(mode)
    if tracker.url:
        say(f"W&B: {tracker.url}")
    if tracker.offline_folder:
        say(f"{reason}. The run is kept offline; to send it: {sync_command(root, tracker.offline_folder)}")
    return tracker


def sync_command(root: Path, wandb_folder: Path) -> str:
    return f"cd {shlex.quote(str(root))} && wandb sync {shlex.quote(os.path.relpath(wandb_folder, root))}"


def artifact_name(text: str) -> str:
    """The text with every character that W&B does not take in an artifact's name replaced by a dash."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-")[:128] or "unnamed"


def _root(folder: Path) -> Path:
    """The folder that holds `wandb/`: the run folder, or WANDB_DIR where a person (not a sweep's agent) has set it."""
    chosen = os.environ.get("WANDB_DIR")
    return Path(chosen).expanduser() if chosen and not os.environ.get("WANDB_SWEEP_ID") else folder


def _mode() -> tuple[str, str]:
    """The mode that W&B's settings and login ask for, and why where it is offline. Never prompts."""
    import wandb

    quiet: dict[str, Any] = {} if {"WANDB_SILENT", "WANDB_QUIET"} & set(os.environ) else {"silent": True}
    settings = wandb.setup(settings=wandb.Settings(**quiet)).settings
    mode = {"dryrun": "offline", "run": "online"}.get(settings.mode, settings.mode)
    if mode in ("disabled", "offline"):
        return mode, "W&B is set to offline"
    try:
        if wandb.login(prompt=False, verify=False):
            return mode, ""
        return "offline", "Not logged in to W&B (`wandb login`)"
    except Exception as error:
        return "offline", f"Logging in to W&B failed: {_first_line(error)}"


def _keywords(config: RunConfig, root: Path, run_id: str, values: dict[str, Any]) -> dict[str, Any]:
    """Arguments of wandb.init: options that were given; where W&B has its own setting, that; else our default."""
    import wandb

    known = wandb.setup().settings
    keywords: dict[str, Any] = {"dir": str(root), "config": values}
    if config.group:
        keywords["group"] = config.group
    if config.tags:
        keywords["tags"] = [tag.strip() for tag in config.tags.split(",") if tag.strip()]
    if config.name or not known.run_name:
        keywords["name"] = config.run_name
    if not known.run_job_type:
        keywords["job_type"] = "train"
    if not known.resume:
        keywords["resume"] = "allow"
    if not known.sweep_id and (config.project or not known.project):
        keywords["project"] = config.project or PROJECT
    if not known.run_id:
        keywords["id"] = run_id
    return keywords


def _settings(stop: threading.Event) -> Any:
    import wandb

    # Without stop_fn, wandb interrupts the main thread wherever it happens to be. A lambda, because wandb copies its
    # settings deeply, which a function survives and a method of an Event does not.
    chosen: dict[str, Any] = {"stop_fn": lambda: stop.set(), "finish_timeout_raises": True}
    if "WANDB_INIT_TIMEOUT" not in os.environ:
        chosen["init_timeout"] = INIT_TIMEOUT
    if "WANDB_FINISH_TIMEOUT" not in os.environ:
        chosen["finish_timeout"] = FINISH_TIMEOUT
    return wandb.Settings(**chosen)


def _within(seconds: float, work: Callable[[], Any]) -> None:
    """Do work that asks the server, for which wandb itself may wait without end."""
    errors: list[BaseException] = []

    def attempt() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"no answer within {seconds:g} s")
    if errors:
        raise errors[0]


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
