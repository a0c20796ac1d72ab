"""A time limit for calls that may never return: a name lookup, for one, has no timeout parameter."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")


def call_with_timeout(seconds: float, work: Callable[[], T]) -> T:
    """Call `work` and return its result. Raises TimeoutError after `seconds`; its thread is left behind."""
    answer: Future[T] = Future()

    def attempt() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=attempt, daemon=True).start()
    if not wait([answer], seconds).done:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return answer.result()
