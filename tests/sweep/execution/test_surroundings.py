"""Which failures are charged to a trial, and which to its surroundings."""

from __future__ import annotations

import errno
import shutil
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import config as config_module
from harness.errors import (
    ConfigError,
    DataError,
    InfeasibleError,
    LockedError,
    NotEnoughMemoryError,
    PathError,
    SurroundingsError,
    TrainingError,
    UndecodableError,
    WeightsError,
    errors_in_words,
)
from harness.sweep.execution import surroundings
from harness.sweep.execution.outcome import outside_cause
from harness.sweep.execution.resources import Slot
from harness.sweep.execution.surroundings import (
    INPUTS_FAILED,
    MACHINE_FAILED,
    RUN_LOCKED,
    exit_code_of,
    problem_around,
    surroundings_as_exit_codes,
)
from harness.training.failures import in_words

CPU = Slot(0, (), (0,), 1)


class AcceleratorError(RuntimeError):
    """As torch names it; this machine may have no device that could raise it."""

    def __init__(self, error_code: int) -> None:
        super().__init__("CUDA error")
        self.error_code = error_code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (in_words(OSError(errno.ENOSPC, "No space left"), Path("run")), MACHINE_FAILED),
        (in_words(MemoryError(), Path("run")), MACHINE_FAILED),
        (SurroundingsError("The data changed."), MACHINE_FAILED),
        (OSError(errno.EIO, "Input/output error"), MACHINE_FAILED),
        (FileNotFoundError(errno.ENOENT, "No such file"), MACHINE_FAILED),
        (AcceleratorError(100), MACHINE_FAILED),  # no device
        (DataError("The folder is gone."), INPUTS_FAILED),
        (WeightsError("The file is gone."), INPUTS_FAILED),
        (PathError("The file is gone."), INPUTS_FAILED),
        (LockedError("Another process is running this run."), RUN_LOCKED),
        # The settings are to blame, or the program.
        (AcceleratorError(710), None),  # an assertion in a kernel
        (InfeasibleError("The loss became nan."), None),
        (NotEnoughMemoryError("Out of memory."), None),
        (UndecodableError("An image cannot be decoded."), None),
        (TrainingError("--compile true failed."), None),
        (ConfigError("--lr is 0."), None),
        (RuntimeError("a bug"), None),
        (OSError("not from the system"), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_the_exit_code_of_an_error(error: Exception, code: int | None) -> None:
    assert exit_code_of(error) == code


def test_a_trial_ends_with_the_exit_code_and_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, errors_in_words(), surroundings_as_exit_codes():
        raise PermissionError(errno.EACCES, "Permission denied", "images/a.png")
    assert end.value.code == MACHINE_FAILED
    assert capsys.readouterr().err.splitlines()[-1] == "Error: [Errno 13] Permission denied: 'images/a.png'"
    with pytest.raises(SystemExit) as end, errors_in_words(), surroundings_as_exit_codes():
        raise ConfigError("--lr is 0.")
    assert end.value.code == ConfigError.exit_code


def test_what_is_wrong_around_a_trial(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Path(shutil.copytree(data_folder, tmp_path / "images"))
    config = config_module.RunConfig(data=str(data), weights="none")
    assert problem_around(config, tmp_path, CPU) is None

    data.rename(tmp_path / "away")
    assert str(data) in str(problem_around(config, tmp_path, CPU))
    (tmp_path / "away").rename(data)
    lost = config_module.RunConfig(data=str(data), weights=str(tmp_path / "weights.pth"))
    assert "weights.pth is neither a file nor one of" in str(problem_around(lost, tmp_path, CPU))

    monkeypatch.setattr(surroundings, "visible_gpus", lambda _: ["0"])
    assert problem_around(config, tmp_path, Slot(0, ("0",), (0,), 1)) is None
    assert str(problem_around(config, tmp_path, Slot(0, ("0", "1"), (0,), 2))).startswith("GPU 1 cannot be used")

    assert str(problem_around(config, tmp_path / "moved", CPU)) == (
        f"{tmp_path / 'moved'} cannot be used any longer (No such file or directory)."
    )
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(surroundings.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 4096))
    assert str(problem_around(config, tmp_path, CPU)).startswith("No space left to save")


@pytest.mark.parametrize(
    ("exit_code", "swept", "cause"),
    [
        (MACHINE_FAILED, ("lr",), "the disk is away"),
        (INPUTS_FAILED, ("lr",), "the disk is away"),
        (INPUTS_FAILED, ("lr", "weights"), None),  # of this trial alone; the others may have usable weights
        (MACHINE_FAILED, ("weights",), "the disk is away"),
        (1, ("lr",), None),
        (-9, ("lr",), None),
    ],
)
def test_a_cause_that_all_trials_share_lies_outside_of_them(
    exit_code: int, swept: tuple[str, ...], cause: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.sweep.execution.outcome.problem_around", lambda *_: None)
    log = tmp_path / "log"
    log.write_text("Error: the disk is away\n")
    folder, process = SimpleNamespace(path=tmp_path / "run"), SimpleNamespace(exitcode=exit_code)
    trial: Any = SimpleNamespace(
        config=None, folder=folder, slot=CPU, process=process, log=log, was_killed_for_memory=False
    )
    sweep: Any = SimpleNamespace(parameters=[SimpleNamespace(name=name, varies=True) for name in swept])
    assert outside_cause(trial, sweep) == cause
