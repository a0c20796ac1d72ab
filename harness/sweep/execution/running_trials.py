"""The trials of one runner that have a process: in each slot one that trains, and perhaps one that only finishes."""

from __future__ import annotations

from collections.abc import Iterator

from harness.sweep.execution.resources import Slot
from harness.sweep.execution.running_trial import RunningTrial


class RunningTrials:
    def __init__(self) -> None:
        self._training: dict[int, RunningTrial] = {}  # by slot number
        self._finishing: dict[int, RunningTrial] = {}  # by slot number: tested, while the slot has the next trial

    def __iter__(self) -> Iterator[RunningTrial]:
        return iter([*self._finishing.values(), *self._training.values()])

    def __len__(self) -> int:
        return len(self._finishing) + len(self._training)

    def has_free(self, slot: Slot) -> bool:
        """Whether a trial can start in this slot."""
        return slot.number not in self._training

    def add(self, trial: RunningTrial) -> None:
        self._training[trial.slot.number] = trial

    def let_finish(self, trial: RunningTrial) -> None:
        """Free the slot of a trial that needs it no longer, unless the trial before is still finishing there."""
        number = trial.slot.number
        if self._training.get(number) is trial and number not in self._finishing:
            self._finishing[number] = self._training.pop(number)

    def is_finishing(self, trial: RunningTrial) -> bool:
        return self._finishing.get(trial.slot.number) is trial

    def remove(self, trial: RunningTrial) -> None:
        for trials in (self._training, self._finishing):
            if trials.get(trial.slot.number) is trial:
                del trials[trial.slot.number]
