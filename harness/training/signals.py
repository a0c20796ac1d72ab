"""Being told to stop: a signal becomes a decision at the next optimiser step, with a deadline."""

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

# A scheduler that asks for an end kills after 10 to 30 s; a save and a tracker's goodbye must fit before that.
SECONDS_TO_STOP = 8.0
SECONDS_TO_SAVE = 20.0
SECONDS_TO_SPEAK = 2.0


class StopRequested(BaseException):
    """The run was told to stop. Not an Exception: nothing on the way up may take it for a failure.

    `signum` is 0 when no signal came: W&B or the run folder said that the run is not wanted any more.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name if signum else "not wanted any more")
        self.signum = signum

    @property
    def exit_code(self) -> int:
        return 128 + self.signum if self.signum else 0


class StopSignals:
    """Turns SIGTERM, SIGINT and SIGHUP into `Stopped`; while `deferred`, only notes them for the loop to act on.

    Ranks get their signals at different moments, so inside the training loop a signal must wait until all agree.
    Should that moment not come in time, because a peer is gone or a step is very long, the process ends hard; the
    last checkpoint stands.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._deferred = False
        self._leaving = False
        self._timer: threading.Timer | None = None
        self._previous: dict[int, Any] = {}
        self._wakeup_write: socket.socket | None = None
        self._earlier_fd = -1
        # Said in another thread before a hard end, if it takes no longer than SECONDS_TO_SPEAK.
        self.on_hard_exit: Callable[[], None] = lambda: None

    def __enter__(self) -> StopSignals:
        # Handlers can only be set in the main thread; elsewhere whoever owns it decides about signals.
        if threading.current_thread() is not threading.main_thread():
            return self
        # Python calls a handler between two of its own instructions: never while the main thread waits in a collective
        # or for a device. The byte that the kernel writes arrives even then, and starts the deadline.
        wakeup_read, self._wakeup_write = socket.socketpair()
        self._wakeup_write.setblocking(False)
        self._earlier_fd = signal.set_wakeup_fd(self._wakeup_write.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._listen, args=(wakeup_read,), daemon=True).start()
        for signum in SIGNALS:
            # What is ignored (nohup, a shell's `&`) stays ignored.
            if signal.getsignal(signum) is not signal.SIG_IGN:
                self._previous[signum] = signal.signal(signum, self._received)
        return self

    def __exit__(self, *_: object) -> None:
        if self._wakeup_write is not None:
            signal.set_wakeup_fd(self._earlier_fd)
            self._wakeup_write.close()  # ends the listener
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        if self._timer:
            self._timer.cancel()

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    @property
    def requested(self) -> bool:
        return self.signum is not None

    def extend_deadline(self) -> None:
        """All ranks agreed to stop: from here on there is time to save and to say goodbye."""
        if self.requested:  # W&B, when it asks, sets no deadline
            self._end_within(SECONDS_TO_SAVE)

    def finishing(self) -> None:
        """The run is over and says goodbye: a signal that comes now only sets a deadline for that."""
        self._leaving = True

    def _received(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:
            return  # A launcher and its terminal may both pass the same signal on.
        self.signum = signum
        self._end_within(SECONDS_TO_SAVE if self._leaving else SECONDS_TO_STOP)
        if not self._deferred and not self._leaving:
            raise StopRequested(signum)

    def _listen(self, wakeup_read: socket.socket) -> None:
        with wakeup_read:
            while received := wakeup_read.recv(1):
                if received[0] in self._previous and self._timer is None:
                    self._end_within(SECONDS_TO_SAVE if self._leaving else SECONDS_TO_STOP)

    def _end_within(self, seconds: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._timer.start()

    def _end(self) -> None:
        sys.stderr.write("Told to stop, and could not in time: ending now. The last checkpoint stands.\n")
        sys.stderr.flush()
        speaker = threading.Thread(target=self.on_hard_exit, daemon=True)
        speaker.start()
        speaker.join(SECONDS_TO_SPEAK)
        os._exit(128 + (self.signum or signal.SIGTERM))
