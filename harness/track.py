"""One run in Weights & Biases: the only file that imports wandb, and only inside functions (the import takes seconds).

Tracking never decides how a run ends. No login, no network, a server that goes away: each costs one printed line,
the numbers stay in the run folder, and `wandb sync` sends them later.

Where `wandb sync` finds files. History, summary, pictures and tables lie beside wandb's own file and arrive from
anywhere. An artifact's files are looked up under the path they were added by, and wandb says nothing when they are
not there. Offline, that path is relative to the run folder: `cd RUN && wandb sync wandb/offline-run-*` sends
everything, also from a copy of the folder under another name or on another machine; `sync` does the same from any
working directory.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.config import RunConfig
from harness.errors import ConfigError

PROJECT = "vit-harness"

# Seconds; WANDB_INIT_TIMEOUT and WANDB_FINISH_TIMEOUT take precedence over the first two.
INIT_TIMEOUT = 30
FINISH_TIMEOUT = 120
ANSWER_TIMEOUT = 60

# Bytes per second. A checkpoint that goes up more slowly is left to `wandb sync`.
SLOWEST_UPLOAD = 2_000_000

# Stays as it is in wandb's file, where any other relative folder would be made absolute.
RELATIVE_STAGING = "/proc/self/cwd/wandb"

# Marks wandb's folder of an online run that was not uploaded to its end.
UNSENT = "unsent"


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
        """Show a picture file that is already written."""
        import wandb

        with self._unbothered():
            self._run.log({**self._step(), key: wandb.Image(str(path))})

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Show a table; call it once per key and run, for each call makes an artifact."""
        self._send(lambda tracker: tracker._log_table(key, columns, rows))

    def dataset(self, name: str, facts: Mapping[str, Any]) -> None:
        """Record the data as an input of the run: not the pictures, but their fingerprint and counts.

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
        try:
            self._run.finish(exit_code=exit_code)
        except Exception as error:
            self._complain(error)
            left.append(self._wandb_folder)
            (self._wandb_folder / UNSENT).touch()
        _shut_down()
        if self._unsent:
            with contextlib.suppress(Exception):
                left.append(self._keep_unsent(exit_code))
            _shut_down()
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
            table = wandb.Table(columns=list(columns), data=[list(row) for row in rows])
            _within(ANSWER_TIMEOUT, lambda: self._run.log({**self._step(), key: table}))

    def _log_dataset(self, name: str, facts: dict[str, Any]) -> None:
        import wandb

        with self._staged():
            file = self._wandb_folder / "dataset.json"
            file.write_text(json.dumps(facts, indent=1, sort_keys=True))
            artifact = wandb.Artifact(artifact_name(name), type="dataset", metadata=facts)
            self._add(artifact, file)
            record = self._run.log_artifact if self.mode == "offline" else self._run.use_artifact
            _within(ANSWER_TIMEOUT, lambda: record(artifact))

    def _log_model(self, path: Path, name: str, metadata: dict[str, Any], description: str) -> None:
        import wandb

        with self._staged():
            artifact = wandb.Artifact(artifact_name(name), type="model", metadata=metadata, description=description)
            self._add(artifact, path)
            _within(ANSWER_TIMEOUT, lambda: self._run.log_artifact(artifact, aliases=["best", "latest"]))
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
            self._say(f"W&B: {_first_line(error)}. The run goes on; everything is in {self._folder}.")
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
    try:
        mode, reason = _mode()
        keywords = _keywords(config, root, run_id, {**config.to_dict(), **(extra_config or {})})
    except ValueError as error:
        raise ConfigError(
            f"A WANDB_* variable or a settings file of wandb has a value it does not take: {error}"
        ) from None
    stop = threading.Event()

    def open_run(mode: Any) -> Any:
        run = wandb.init(mode=mode, settings=_settings(stop), **keywords)
        # Rows of a resumed run count W&B's own steps on from where it stopped; ours is the axis.
        run.define_metric("step")
        run.define_metric("*", step_metric="step")
        return run

    problems = []
    # What fails online is kept offline; where even that fails, say on a full disk, the run goes on without W&B.
    for attempt in dict.fromkeys((mode, "offline", "disabled")):
        try:
            tracker = Tracker(open_run, attempt, folder=root, stop=stop, say=say)
            break
        except Exception as error:
            problems.append(f"W&B cannot be used {attempt} ({_first_line(error)})")
            _shut_down()
    else:
        raise AssertionError("wandb promises that a disabled run always opens")
    if tracker.url:
        say(f"W&B: {tracker.url}")
    elif tracker.offline_folder:
        reason = "; ".join(problems) or reason
        say(f"{reason}. The run is kept offline; to send it: {sync_command(root, [tracker.offline_folder])}")
    elif problems:
        say(f"{'; '.join(problems)}. The run goes on without it.")
    return tracker


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

    settings = wandb.setup(settings=wandb.Settings(**_quiet())).settings
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

    chosen: dict[str, Any] = {
        **_quiet(),
        # Instead of a KeyboardInterrupt wherever the main thread happens to be. wandb copies its settings deeply,
        # which a function survives and a method of an Event does not.
        "stop_fn": lambda: stop.set(),
        "finish_timeout_raises": True,
        # Offline, a logged table then points at a file beside wandb's own, which is found from anywhere.
        "allow_offline_artifacts": False,
    }
    if "WANDB_INIT_TIMEOUT" not in os.environ:
        chosen["init_timeout"] = INIT_TIMEOUT
    if "WANDB_FINISH_TIMEOUT" not in os.environ:
        chosen["finish_timeout"] = FINISH_TIMEOUT
    if "x_transaction_log_flush_interval" in wandb.Settings.model_fields:
        # Seconds of rows that kill -9 takes out of wandb's file; its default is 15.
        chosen["x_transaction_log_flush_interval"] = 1.0
    return wandb.Settings(**chosen)


def _quiet() -> dict[str, Any]:
    """We print one line ourselves; wandb's own are for who asks for them."""
    return {} if {"WANDB_SILENT", "WANDB_QUIET"} & set(os.environ) else {"silent": True}


def _shut_down() -> None:
    """End wandb's own process, so that the next run finds it as new; where that has failed, it tries to end ours."""
    import wandb

    with contextlib.suppress(Exception, SystemExit):
        wandb.teardown()


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
