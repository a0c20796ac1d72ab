"""Work in a process of its own, forked from the one of the tests: wandb remembers who is logged in."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


def in_child(work: Callable[[], Answer], seconds: float = 60) -> Answer:
    """What `work` returns there, within so many seconds."""
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def child() -> None:
        sender.send(work())
        sender.close()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    try:
        assert receiver.poll(seconds), "no answer"
        return receiver.recv()
    finally:
        process.join(10)
        process.kill()
