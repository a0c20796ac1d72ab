"""What may take long: a time limit for calls that have none, such as a name lookup, and a line while one waits."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")

# Seconds of waiting before a line is printed.
SILENT_SECONDS = 2.0


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


@contextlib.contextmanager
def waiting_reported(say: Callable[[str], None], sentence: str, seconds: float = SILENT_SECONDS) -> Iterator[None]:
    """Print the sentence if the block takes longer than `seconds`."""
    timer = threading.Timer(seconds, say, [sentence])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # `say` may refer to a run, which must not be freed in another thread
