"""wandb's service process: preload it, and shut it down."""

from __future__ import annotations

import contextlib
import importlib

from harness.track.settings import is_disabled

# Modules that wandb imports during wandb.init and the first artifact. If torch is loaded, that takes a second.
IMPORTED_LATE = ("wandb.sdk.launch.inputs.internal", "wandb.sdk.artifacts._internal_artifact")


def preload() -> None:
    """Import all of wandb that a run needs, unless it is disabled: forked processes need not import it again."""
    if is_disabled():
        return
    import wandb  # noqa: F401

    for name in IMPORTED_LATE:
        with contextlib.suppress(ImportError):  # other versions of wandb may lack them
            importlib.import_module(name)
    with contextlib.suppress(Exception):  # a private function of wandb, which other versions may lack or change
        _read_packages_once()


def _read_packages_once() -> None:
    """Keep the list of installed packages, which wandb would read from disk at each start of a run (0.1 to 0.4 s)."""
    from wandb import util

    packages = tuple(util.working_set())
    util.working_set = lambda *_, **__: packages


def shut_down() -> None:
    """End wandb's service process, so that the next run starts a new one. On errors wandb may raise SystemExit."""
    import wandb

    with contextlib.suppress(Exception, SystemExit):
        wandb.teardown()
