"""First on PYTHONPATH, it makes a bare environment of each process that scores exported files.

There, the package cannot be imported and no address can be reached: a library must open the files by itself, offline.
"""

from __future__ import annotations

import socket
import sys
from typing import Any, NoReturn


class _NotInstalled:
    """Finds no module of this repository."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name.partition(".")[0] in ("harness", "reports", "tests"):
            raise ModuleNotFoundError(f"No module named {name!r} in a bare environment", name=name)


def _unreachable(*_: Any, **__: Any) -> NoReturn:
    raise OSError("a bare environment has no network")


if any(argument.endswith("scoring.py") for argument in sys.orig_argv):
    sys.meta_path.insert(0, _NotInstalled())  # type: ignore[arg-type]
    socket.getaddrinfo = _unreachable
    socket.socket.connect = _unreachable  # type: ignore[method-assign]
