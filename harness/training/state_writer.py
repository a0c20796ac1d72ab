"""Writes the state and the best checkpoint of a run in a thread, from a snapshot, while training continues."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from torch import Tensor

from harness.config import RunConfig
from harness.training.checkpoint import save_tensors, without_prefix
from harness.training.signals import StopRequested
from harness.training.state import TrainState, training_ended


class StateWriter:
    """A context around training. Only the main process writes, one save after another.

    A failed write raises its error from the next call, and at the latest on leaving, which waits for the last save.
    """

    def __init__(
        self, state: TrainState, path: Path, origin: dict[str, Any], config: RunConfig, *, is_main: bool
    ) -> None:
        self._state, self._path, self._origin, self._config = state, path, origin, config
        self._is_main = is_main
        self._last_save = time.monotonic()
        self._thread = ThreadPoolExecutor(1, "state")
        self._writing: Future[None] | None = None
        self._copies: dict[str, Tensor] = {}

    def __enter__(self) -> StateWriter:
        return self

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> None:
        self._thread.shutdown()
        self._copies.clear()
        if error is None or isinstance(error, StopRequested):  # any other error is why the run failed
            self.wait()

    def save(self, save_best: Callable[[dict[str, Tensor]], None] | None = None) -> None:
        """Write the state as it is now. If its weights are the best, `save_best` is called first, to write them."""
        if not self._is_main:
            return
        self.wait()
        state, prefix = self._state, "average" if self._state.average else "model"
        # After the last epoch the file holds progress alone: the test needs only the tensors of the best checkpoint.
        ended = training_ended(state.progress, self._config)
        copies = self._copied(
            {
                name: tensor
                for name, tensor in state.tensors().items()
                if not ended or (save_best and name.startswith(f"{prefix}."))
            }
        )
        metadata = state.metadata(self._origin) | {"ended": ended}

        def write() -> None:
            # The best first: a run that resumes from a state of a later epoch would not write it again.
            if save_best:
                save_best(without_prefix(prefix, copies))
            save_tensors(self._path, {} if ended else copies, metadata)

        self._writing = self._thread.submit(write)
        self._last_save = time.monotonic()

    def wait(self) -> None:
        """Wait until the file is written; raises the error if it could not be."""
        if self._writing:
            writing, self._writing = self._writing, None
            writing.result()

    def is_due(self) -> bool:
        """Whether --checkpoint-minutes have passed since the last save or the last True.

        Never on the other ranks, nor if the minutes are 0.
        """
        if self._writing and self._writing.done():
            self.wait()
        now = time.monotonic()
        due = self._is_main and 0 < self._config.checkpoint_minutes * 60 <= now - self._last_save
        if due:
            self._last_save = now  # several GPUs save a step later; asked again meanwhile, they would save twice
        return due

    def _copied(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Copies on the CPU, in memory that is used again: new pages cost several times as much as the copy."""
        for name, value in tensors.items():
            if name in self._copies:
                self._copies[name].copy_(value)
            else:
                self._copies[name] = value.detach().to("cpu", copy=True)
        return {name: self._copies[name] for name in tensors}
