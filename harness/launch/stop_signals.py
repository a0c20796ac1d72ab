"""The signals that ask a launcher or a runner to stop, and a handler for them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def handling_stop_signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have `handler` called for the signals that ask a launcher to stop, but those that are ignored (nohup, `&`)."""
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers can only be set in the main thread; whoever owns it decides about signals
        return
    previous = {signum: signal.getsignal(signum) for signum in STOP_SIGNALS}
    taken = [signum for signum, old in previous.items() if old is not signal.SIG_IGN]
    for signum in taken:
        signal.signal(signum, handler)
    try:
        yield
    finally:
        for signum in taken:
            signal.signal(signum, previous[signum])
