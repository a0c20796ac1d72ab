"""Stop signals: SIGTERM, SIGINT and SIGHUP stop a run within two optimiser steps, and within a deadline."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

# Schedulers send SIGKILL 10 to 30 s after SIGTERM. Saving and closing W&B must fit into that.
SECONDS_TO_STOP = 8.0  # from the signal until all ranks agree to stop
SECONDS_TO_SAVE = 20.0  # from that agreement until the process has ended
SECONDS_FOR_EXIT_HOOK = 2.0


class StopRequested(BaseException):
    """The run has to stop. Not an Exception, so that no `except Exception` treats it as a failure.

    `signum` is 0 when no signal came: the stop was requested in W&B or by a file in the run folder.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name if signum else "a stop request")
        self.signum = signum

    @property
    def exit_code(self) -> int:
        return 128 + self.signum if self.signum else 0


class StopSignals:
    """A context that handles stop signals. What a signal does depends on the phase of the run:

    * at first, it raises StopRequested at once;
    * inside `deferred()`, it only sets `requested`: ranks receive their signals at different moments, so the training
      loop has to let all of them agree on a step before it raises StopRequested;
    * after `finishing()`, it interrupts nothing.

    Each signal starts a deadline. A process that has not ended by then (a peer is gone, a step takes minutes) calls
    `on_hard_exit` and exits; its last checkpoint is intact.
    """

    def __init__(self) -> None:
        self.signum: int | None = None  # of the first signal
        self.on_hard_exit: Callable[[], None] = lambda: None  # may take SECONDS_FOR_EXIT_HOOK
        self._deferred = False
        self._finishing = False
        self._deadline: threading.Timer | None = None
        self._deadline_lock = threading.RLock()  # reentrant: a signal handler may interrupt the thread that holds it
        self._previous_handlers: dict[int, Any] = {}
        self._previous_wakeup_fd = -1
        self._wakeup_write: socket.socket | None = None
        self._watcher: threading.Thread | None = None

    def __enter__(self) -> StopSignals:
        # Python allows signal handlers in the main thread only. In another thread, its owner handles signals.
        if threading.current_thread() is not threading.main_thread():
            return self
        # A Python handler runs only between two bytecodes of the main thread: not while it waits in a collective or for
        # a device. The C handler writes the signal's number to the wakeup socket even then, and a thread that reads
        # the socket starts the deadline (docs.python.org/3/library/signal.html#signal.set_wakeup_fd).
        wakeup_read, self._wakeup_write = socket.socketpair()
        self._wakeup_write.setblocking(False)
        self._previous_wakeup_fd = signal.set_wakeup_fd(self._wakeup_write.fileno(), warn_on_full_buffer=False)
        self._watcher = threading.Thread(target=self._watch_wakeups, args=(wakeup_read,), daemon=True)
        self._watcher.start()
        for signum in SIGNALS:
            # A signal that is ignored (nohup, a shell's `&`) stays ignored.
            if signal.getsignal(signum) is not signal.SIG_IGN:
                self._previous_handlers[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._wakeup_write is not None:
            signal.set_wakeup_fd(self._previous_wakeup_fd)
            self._wakeup_write.shutdown(socket.SHUT_RDWR)  # ends _watch_wakeups, even if a child has the socket as well
            self._wakeup_write.close()
        for signum, handler in self._previous_handlers.items():
            signal.signal(signum, handler)
        # Through `on_hard_exit`, both threads refer to the run. Were one of them the last to drop it while Python
        # exits, the run's tensors would be freed in a thread that may no longer run, and the process would abort.
        if self._watcher is not None:
            self._watcher.join()
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline.join()
            self._deadline = None

    @property
    def requested(self) -> bool:
        return self.signum is not None

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """A phase in which signals only set `requested`."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def extend_deadline(self) -> None:
        """Allow SECONDS_TO_SAVE from now on: all ranks agreed to stop, and have to save."""
        if self.requested:  # a stop requested in W&B has no deadline
            self._set_deadline(SECONDS_TO_SAVE)

    def finishing(self) -> None:
        """The run has ended and closes its folder and W&B: a signal from now on only starts a deadline for that."""
        self._finishing = True

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.requested:
            return  # a launcher and its terminal may both pass on the same signal
        self.signum = signum
        self._start_deadline()
        if not self._deferred and not self._finishing:
            raise StopRequested(signum)

    def _watch_wakeups(self, wakeup_read: socket.socket) -> None:
        with wakeup_read:
            while received := wakeup_read.recv(1):
                if received[0] in self._previous_handlers:
                    self._start_deadline()

    def _start_deadline(self) -> None:
        """Start the deadline of a signal that has just arrived, unless one is running."""
        with self._deadline_lock:
            if self._deadline is None:
                self._set_deadline(SECONDS_TO_SAVE if self._finishing else SECONDS_TO_STOP)

    def _set_deadline(self, seconds: float) -> None:
        """Exit hard in `seconds` from now; this replaces an earlier deadline."""
        with self._deadline_lock:
            if self._deadline:
                self._deadline.cancel()
            self._deadline = threading.Timer(seconds, self._exit_hard)
            self._deadline.daemon = True
            self._deadline.start()

    def _exit_hard(self) -> None:
        sys.stderr.write("Shutdown timed out; exiting. The last checkpoint is intact.\n")
        sys.stderr.flush()
        # In a thread, because the hook may hang as well.
        hook = threading.Thread(target=self.on_hard_exit, daemon=True)
        hook.start()
        hook.join(SECONDS_FOR_EXIT_HOOK)
        os._exit(128 + (self.signum or signal.SIGTERM))
