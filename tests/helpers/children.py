"""Work in a forked child, for what would change the process that runs the tests."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable

fork = multiprocessing.get_context("fork")


def run_in_child(work: Callable[[], None]) -> None:
    """Run `work` in a forked child; fails if it raises or takes more than two minutes."""
    child = fork.Process(target=work)
    child.start()
    child.join(120)
    child.kill()
    assert child.exitcode == 0
