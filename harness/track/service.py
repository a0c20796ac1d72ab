"""wandb's own process: it may fail, keep one waiting, or have to be ended."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Callable
from typing import Any

# What wandb imports only in the middle of wandb.init and of the first artifact: a second, where torch is loaded.
IMPORTED_LATE = ("wandb.sdk.launch.inputs.internal", "wandb.sdk.artifacts._internal_artifact")


def preload() -> None:
    """Import wandb now, all of it that a run needs, for processes that will be forked from this one."""
    import wandb  # noqa: F401

    for name in IMPORTED_LATE:
        with contextlib.suppress(ImportError):  # in another version of wandb, the run itself finds what it needs
            importlib.import_module(name)


def shut_down() -> None:
    """End wandb's own process, so that the next run finds it as new; where that has failed, it tries to end ours."""
    import wandb

    with contextlib.suppress(Exception, SystemExit):
        wandb.teardown()


def call_with_timeout(seconds: float, work: Callable[[], Any]) -> None:
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


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
