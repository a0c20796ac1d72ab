"""Requests to W&B's server about runs: their project, their models and the aliases of these."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import HarnessError, first_line
from harness.time_limit import call_with_timeout
from harness.track.service import shut_down
from harness.track.tracker import artifact_name

# Time limits in seconds of the first request and of every other one.
REACH_TIMEOUT = 20
ANSWER_TIMEOUT = 60

Answer = TypeVar("Answer")


class Server:
    """W&B's public API with the user's login. Every method raises HarnessError if the server does not answer."""

    def __init__(self, api: Any, entity: str) -> None:
        self._api, self._entity = api, entity

    def ask(self, work: Callable[[Any], Answer], seconds: float = ANSWER_TIMEOUT) -> Answer:
        """Call `work` with the `wandb.Api` and return its result; raises HarnessError after `seconds`."""
        return _answer(lambda: work(self._api), seconds)

    def has_model(self, project: str, run_folder: Path, alias: str = "best") -> bool:
        """Whether W&B has the model of a run under an alias."""
        name = f"{project}/{model_name(run_folder)}:{alias}"
        return _answer(lambda: self._api.artifact_exists(name, type="model"))

    def move_alias(self, alias: str, project: str, best: Path, others: Sequence[Path]) -> None:
        """Set an alias on the model of the best run and remove it from the models of the other runs."""
        for other in others:
            if self.has_model(project, other, alias):
                self._change(f"{project}/{model_name(other)}:{alias}", remove=alias)
        if not self.has_model(project, best, alias):
            self._change(f"{project}/{model_name(best)}:best", add=alias)

    def project_of(self, run_folder: Path) -> str:
        """`entity/project` of a run, read from its newest wandb log file."""
        logs = [log for log in (run_folder / "wandb").glob("*run-*/*.wandb") if not log.parent.is_symlink()]
        if not logs:
            raise HarnessError(f"{run_folder} has no W&B files.")
        newest = max(logs, key=lambda log: log.parent.name.removeprefix("offline-"))
        recorded = _run_record(newest)
        return f"{recorded.get('entity') or self._entity}/{recorded.get('project') or 'uncategorized'}"

    def _change(self, name: str, *, add: str | None = None, remove: str | None = None) -> None:
        def change() -> None:
            artifact = self._api.artifact(name, type="model")
            artifact.aliases = [*(alias for alias in artifact.aliases if alias != remove), *([add] if add else [])]
            artifact.save()

        _answer(change)


@contextlib.contextmanager
def reach() -> Iterator[Server]:
    """Connect to the server. Raises HarnessError without a login or an answer from the server. Never prompts."""
    import wandb

    def connect() -> Server:
        if not wandb.login(prompt=False, verify=False):
            raise HarnessError("Not logged in to W&B. Run `wandb login`, then repeat the command.")
        api = wandb.Api(timeout=REACH_TIMEOUT)
        return Server(api, api.default_entity or "")

    try:
        # WANDB_MODE applies to runs; this request needs the server in any mode.
        wandb.setup(settings=wandb.Settings(mode="online", silent=True))
        yield _answer(connect, REACH_TIMEOUT)
    finally:
        shut_down()


def model_name(run_folder: Path) -> str:
    """The name of the artifact that holds the best checkpoint of a run."""
    return artifact_name(f"{run_folder.name}-model")


def _answer(ask: Callable[[], Answer], seconds: float = ANSWER_TIMEOUT) -> Answer:
    try:
        return call_with_timeout(seconds, ask)
    except HarnessError:
        raise
    except (Exception, SystemExit) as error:
        message = first_line(error)
        # A refusal has status 403, or status 200 and this word in the message.
        refused = getattr(getattr(error, "response", None), "http_status", 0) == 403 or "permission" in message.lower()
        raise HarnessError(f"W&B {'does not allow this' if refused else 'cannot be reached'}: {message}.") from error


def _run_record(log: Path) -> dict[str, Any]:
    """The record of the run in a wandb log file, read with wandb's own program."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as reader:
        assert reader.stdout is not None
        try:
            for line in reader.stdout:
                with contextlib.suppress(json.JSONDecodeError):
                    record = json.loads(line)
                    if record.get("type") == "run":
                        return record["run"]
        finally:
            reader.kill()
    raise HarnessError(f"{log} has no record of its run.")
