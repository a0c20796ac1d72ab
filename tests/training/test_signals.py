from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from harness.training.signals import StopRequested, StopSignals


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_outside_the_loop_a_signal_ends_what_is_going_on(signum: int) -> None:
    before = signal.getsignal(signum)
    with pytest.raises(StopRequested) as told, StopSignals():
        os.kill(os.getpid(), signum)
        time.sleep(1)
        pytest.fail("went on")
    assert told.value.exit_code == 128 + signum
    assert str(told.value) == signal.Signals(signum).name
    assert signal.getsignal(signum) is before


def test_inside_the_loop_it_waits_for_the_loop_to_look() -> None:
    with StopSignals() as stop:
        with stop.deferred():
            assert not stop.requested
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)  # a second one changes nothing
            assert stop.requested
        assert stop.signum == signal.SIGTERM


def test_a_loop_that_never_looks_is_ended() -> None:
    code = (
        "import os, signal, time; from harness.training import signals as stop\n"
        "stop.SECONDS_TO_STOP = 0.2\n"
        "with stop.StopSignals() as signals, signals.deferred():\n"
        "    os.kill(os.getpid(), signal.SIGTERM); time.sleep(30)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert result.returncode == 128 + signal.SIGTERM
    assert "The last checkpoint stands." in result.stderr


def test_the_deadline_runs_also_while_the_process_is_blocked_outside_of_python() -> None:
    # Locking a mutex twice blocks in C and, unlike sleeping, is not cut short by a signal: as waiting for a peer is.
    code = (
        "import ctypes, os, signal, threading; from harness.training import signals as stop\n"
        "stop.SECONDS_TO_STOP = 0.5\n"
        "mutex = ctypes.create_string_buffer(64)\n"
        "with stop.StopSignals() as signals, signals.deferred():\n"
        "    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()\n"
        "    for _ in range(2): ctypes.CDLL(None).pthread_mutex_lock(mutex)\n"
    )
    began = time.monotonic()
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=40)
    assert result.returncode == 128 + signal.SIGTERM
    assert time.monotonic() - began < 20


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.requested
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_not_being_wanted_any_more_is_no_failure() -> None:
    assert (StopRequested(0).exit_code, str(StopRequested(0))) == (0, "not wanted any more")


def test_while_leaving_a_signal_interrupts_nothing_and_sets_a_deadline() -> None:
    code = (
        "import os, signal, time; from harness.training import signals as stop\n"
        "stop.SECONDS_TO_STOP, stop.SECONDS_TO_SAVE = 0.1, 1.5\n"
        "with stop.StopSignals() as signals:\n"
        "    signals.leaving()\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(0.7); print('said goodbye', flush=True); time.sleep(30)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert (result.returncode, result.stdout) == (128 + signal.SIGTERM, "said goodbye\n")


def test_last_words_are_said_before_a_hard_end_if_they_are_short() -> None:
    code = (
        "import os, signal, time; from harness.training import signals as stop\n"
        "stop.SECONDS_TO_STOP, stop.SECONDS_TO_SPEAK = 0.1, 0.5\n"
        "def speak():\n"
        "    print('farewell', flush=True); time.sleep(30)\n"
        "with stop.StopSignals() as signals, signals.deferred():\n"
        "    signals.on_hard_exit = speak\n"
        "    os.kill(os.getpid(), signal.SIGTERM); time.sleep(20)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=15)
    assert (result.returncode, result.stdout) == (128 + signal.SIGTERM, "farewell\n")
