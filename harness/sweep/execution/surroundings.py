"""Causes of a failure that lie outside a trial: its machine and its files. A trial is not charged for them."""

from __future__ import annotations

import contextlib
import os
import shutil
import traceback
from collections.abc import Iterator
from pathlib import Path

from harness.config import RunConfig
from harness.data.image_folder import load_image_folder
from harness.errors import (
    DataError,
    HarnessError,
    InfeasibleError,
    LockedError,
    PathError,
    SurroundingsError,
    WeightsError,
)
from harness.files import no_space
from harness.sweep.execution.resources import Slot, visible_gpus

# Exit codes of a trial (sysexits.h): EX_TEMPFAIL, EX_NOINPUT, EX_UNAVAILABLE.
MACHINE_FAILED = 75  # disk, memory, a device, or data that changed
INPUTS_FAILED = 66  # the images or the weights cannot be used
RUN_LOCKED = 69  # another process is working on the run

# Bytes: with less, a run cannot even write that its disk is full.
LEAST_FREE = 2**20

# CUDA errors of a device that is gone or broken (driver_types.h): busy or unavailable, none, invalid, uncorrectable
# memory error, NVLink, unknown.
LOST_DEVICE = (46, 100, 101, 214, 220, 999)


@contextlib.contextmanager
def surroundings_as_exit_codes() -> Iterator[None]:
    """In a trial's process: errors that its settings did not cause get their exit codes."""
    try:
        yield
    except Exception as error:
        code = exit_code_of(error)
        if code is None:
            raise
        if not isinstance(error, HarnessError):
            with contextlib.suppress(OSError):  # a full disk has no room for the log either
                traceback.print_exc()
            error = SurroundingsError(str(error).strip().partition("\n")[0] or type(error).__name__)
        error.exit_code = code
        raise error


def exit_code_of(error: Exception) -> int | None:
    """The exit code for a cause outside the trial; None for any other error."""
    if isinstance(error, InfeasibleError):
        return None
    if isinstance(error, LockedError):
        return RUN_LOCKED
    if isinstance(error, SurroundingsError):
        return MACHINE_FAILED
    if isinstance(error, DataError | WeightsError | PathError):
        return INPUTS_FAILED
    is_lost = type(error).__name__ == "AcceleratorError" and getattr(error, "error_code", None) in LOST_DEVICE
    return MACHINE_FAILED if is_lost or (isinstance(error, OSError) and error.errno is not None) else None


def problem_around(config: RunConfig, folder: Path, slot: Slot) -> str | None:
    """What is wrong with the disk, the inputs or the GPUs of a trial now; None if nothing is."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:  # it was moved away, or its disk is not there any more
        return f"{folder} cannot be used any longer ({error.strerror})."
    if free < LEAST_FREE:
        return str(no_space(folder / "study.db"))
    try:
        load_image_folder(config.resolved())
    except HarnessError as error:
        return "; ".join(error.problems)
    if lost := set(slot.gpus) - set(visible_gpus(os.environ)):
        return f"GPU {', '.join(sorted(lost))} cannot be used any longer. Check it with nvidia-smi."
    return None
