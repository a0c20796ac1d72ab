"""What a user can put right: an error carries every problem found, and the exit code it ends with."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator


class HarnessError(Exception):
    """One or more problems in the user's words; printed without a traceback."""

    exit_code = 1

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class ConfigError(HarnessError):
    """A setting that cannot be used: a matter of usage, exit code 2."""

    exit_code = 2


class DataError(HarnessError):
    """Pictures or folders that cannot be used."""


class WeightsError(HarnessError):
    """A weights file that is missing, unsafe or does not fit the model."""


class TrainingError(HarnessError):
    """A run that cannot go on: memory, a changed data set, a full disk."""


class InfeasibleError(TrainingError):
    """These settings, or this data, cannot be trained on: another attempt would end the same.

    In a sweep that is a result and no failure: after three failures W&B's agent would take the program to be broken.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        super().__init__(problems)
        self.exit_code = 0 if os.environ.get("WANDB_SWEEP_ID") else 1


class UndecodableError(InfeasibleError, DataError):
    """Pictures that cannot be read."""


@contextlib.contextmanager
def errors_in_words() -> Iterator[None]:
    """Turn HarnessError into its sentences on stderr and an exit code."""
    try:
        yield
    except HarnessError as error:
        if int(os.environ.get("RANK", "0")) > 0 and error.exit_code != 0:
            # The main process says the same, and needs time to say goodbye to W&B, which it would not have if the
            # launcher saw one of us end. As soon as the main process has ended, the launcher ends us.
            time.sleep(150)
        for problem in error.problems:
            print(f"Error: {problem}", file=sys.stderr)
        sys.exit(error.exit_code)
