"""TCP ports for servers that tests start."""

from __future__ import annotations

import contextlib
import random
import socket


def free_ports(count: int) -> list[int]:
    """Different TCP ports that nothing listens on now, below those that the system gives to others meanwhile."""
    with contextlib.ExitStack() as stack:
        found: list[int] = []
        for port in random.sample(range(10_000, 30_000), 100):
            with contextlib.suppress(OSError):
                listener = stack.enter_context(socket.socket())
                listener.bind(("127.0.0.1", port))
                found.append(port)
        return found[:count]
