"""Errors that a user can fix: each carries all problems found and an exit code; and how text is printed safely."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence


class HarnessError(Exception):
    """One or more problems in the user's words; printed without a traceback.

    The exit code is 2 if the command has to be corrected: an option, a value, the content of a sweep file. It is 1 if
    the same command may work later: a missing file, data, memory, disk or network.
    """

    exit_code = 1

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class ConfigError(HarnessError):
    """An invalid setting; exit code 2."""

    exit_code = 2


class PathError(ConfigError):
    """A setting names a file that is missing or cannot be read; exit code 1: the same command may work later."""

    exit_code = 1


class DataError(HarnessError):
    """Images or folders that cannot be used."""


class WeightsError(HarnessError):
    """A weights file that is missing, unsafe or does not fit the model."""


class TrainingError(HarnessError):
    """A run that cannot continue: out of memory, a changed data set, a full disk."""


class SurroundingsError(TrainingError):
    """The machine or its files ended a run, not its settings: disk, memory, a device, data that changed."""


class LockedError(HarnessError):
    """Another process holds a lock."""


class InfeasibleError(TrainingError):
    """These settings or data cannot be trained; another attempt would fail in the same way.

    In a sweep this exits with 0: W&B's agent stops after several failed runs, and the sweep should continue.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        super().__init__(problems)
        self.exit_code = 0 if os.environ.get("WANDB_SWEEP_ID") else 1


class NotEnoughMemoryError(InfeasibleError):
    """The device has too little memory for these settings; a larger one may have enough."""


class UndecodableError(InfeasibleError, DataError):
    """Images that cannot be decoded."""


def joined(errors: Sequence[HarnessError]) -> HarnessError:
    """One error with the problems of all; exit code 2 if one of them has it."""
    if len(errors) == 1:
        return errors[0]
    kind = ConfigError if any(error.exit_code == ConfigError.exit_code for error in errors) else HarnessError
    return kind(problem for error in errors for problem in error.problems)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, without a final period; the name of its type if it has no message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def printable(text: object) -> str:
    """Text from a file or a path that is safe on a terminal: control characters and surrogates are escaped."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode()
        for letter in str(text)
    )


def summarise(items: Iterable[str], limit: int = 10, separator: str = ", ") -> str:
    """The first few items in one printable string, and how many more there are."""
    items = list(items)
    more = f"{separator}and {len(items) - limit} more" if len(items) > limit else ""
    return separator.join(printable(item) for item in items[:limit]) + more


@contextlib.contextmanager
def errors_in_words() -> Iterator[None]:
    """Print the problems of a HarnessError on stderr and exit with its code; so also if a path is not allowed."""
    try:
        with _permissions_in_words():
            yield
    except HarnessError as error:
        if int(os.environ.get("RANK", "0")) > 0 and error.exit_code != 0:
            # The main process prints the same problems and needs time to finish its W&B run. If this process exited
            # first, the launcher would kill the main one. Once the main process exits, the launcher ends this one.
            time.sleep(150)
        for problem in error.problems:
            for line in f"Error: {problem}".split("\n"):
                print(printable(line), file=sys.stderr)
        sys.exit(error.exit_code)


@contextlib.contextmanager
def _permissions_in_words() -> Iterator[None]:
    """Any question about a path may be refused, also whether it exists, if a folder above it may not be entered."""
    try:
        yield
    except PermissionError as error:
        if error.filename is None:  # not about a path
            raise
        raise PathError(
            f"{error.filename}: {(error.strerror or 'permission denied').lower()}. Check the permissions of it and of "
            "the folders above it (ls -ld), or name another path."
        ) from error
