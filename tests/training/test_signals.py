from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from harness.training import signals
from harness.training.signals import StopRequested, StopSignals


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_outside_the_loop_a_signal_raises_at_once(signum: int) -> None:
    before = signal.getsignal(signum)
    with pytest.raises(StopRequested) as stop_request, StopSignals():
        os.kill(os.getpid(), signum)
        time.sleep(1)
        pytest.fail("the signal did not raise")
    assert stop_request.value.exit_code == 128 + signum
    assert str(stop_request.value) == signal.Signals(signum).name
    assert signal.getsignal(signum) is before


def test_inside_the_loop_a_signal_only_sets_requested() -> None:
    with StopSignals() as stop:
        with stop.deferred():
            assert not stop.requested
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)  # a second one changes nothing
            assert stop.requested
        assert stop.signum == signal.SIGTERM


def test_no_thread_outlives_the_context_with_a_reference_to_the_run() -> None:
    freed_in = []

    class Run:
        def close(self) -> None: ...

        def __del__(self) -> None:
            freed_in.append(threading.current_thread())

    before = threading.enumerate()
    for _ in range(200):
        with StopSignals() as stop:
            stop.on_hard_exit = Run().close
            with stop.deferred():
                os.kill(os.getpid(), signal.SIGTERM)  # starts a deadline, too
        del stop
    assert set(threading.enumerate()) <= set(before)  # a thread of an earlier test may have ended meanwhile
    assert freed_in == [threading.main_thread()] * 200


def test_a_loop_that_ignores_the_request_is_ended() -> None:
    code = (
        "import os, signal, time; from harness.training import signals as module\n"
        "module.SECONDS_TO_STOP = 0.2\n"
        "with module.StopSignals() as stop, stop.deferred():\n"
        "    os.kill(os.getpid(), signal.SIGTERM); time.sleep(30)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert result.returncode == 128 + signal.SIGTERM
    assert result.stderr == "Shutdown timed out; exiting. The last checkpoint is intact.\n"


def test_the_deadline_holds_while_the_main_thread_is_blocked_in_c() -> None:
    # Locking a mutex twice blocks in C and, unlike sleeping, is not cut short by a signal: as waiting for a peer is.
    code = (
        "import ctypes, os, signal, threading; from harness.training import signals as module\n"
        "module.SECONDS_TO_STOP = 0.5\n"
        "mutex = ctypes.create_string_buffer(64)\n"
        "with module.StopSignals() as stop, stop.deferred():\n"
        "    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()\n"
        "    for _ in range(2): ctypes.CDLL(None).pthread_mutex_lock(mutex)\n"
    )
    began = time.monotonic()
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=40)
    assert result.returncode == 128 + signal.SIGTERM
    assert time.monotonic() - began < 20


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.requested
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_stop_without_a_signal_exits_with_0() -> None:
    assert (StopRequested(0).exit_code, str(StopRequested(0))) == (0, "a stop request")


def test_while_finishing_a_signal_only_starts_a_deadline() -> None:
    with StopSignals() as stop:
        stop.finishing()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop._deadline and stop._deadline.interval == signals.SECONDS_TO_SAVE


def test_a_hard_exit_calls_its_hook_but_does_not_wait_for_one_that_hangs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called, release, codes = threading.Event(), threading.Event(), list[int]()

    def hook() -> None:
        called.set()
        release.wait()

    monkeypatch.setattr(signals, "SECONDS_FOR_EXIT_HOOK", 0.01)
    monkeypatch.setattr(os, "_exit", codes.append)
    stop = StopSignals()
    stop.on_hard_exit = hook
    stop._exit_hard()
    assert codes == [128 + signal.SIGTERM]
    assert called.wait(60)
    release.set()
    assert capsys.readouterr().err == "Shutdown timed out; exiting. The last checkpoint is intact.\n"
