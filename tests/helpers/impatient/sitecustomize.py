"""In each Python process that has this folder in PYTHONPATH, W&B's client asks its server more often.

Python imports this module when it starts (docs.python.org/3/library/site.html). The client asks every 15 s whether its
run is to stop, and an agent asks for commands every 5 s; a test would mostly wait.
"""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any

SECONDS = 0.5


def ask_often(module: Any) -> None:
    if module.__name__ == "wandb.wandb_agent":
        module.Agent.POLL_INTERVAL = SECONDS
    else:
        module.RunStopChecker.__init__.__kwdefaults__["poll_interval"] = SECONDS


class Impatient(MetaPathFinder):
    """Loads the two modules as Python does, then changes their intervals."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in ("wandb.wandb_agent", "wandb.sdk.lib.run_stopping"):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                ask_often(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, Impatient())
