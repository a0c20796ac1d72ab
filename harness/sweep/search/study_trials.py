"""Single trials of a study, by number: read, leased, ended."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from harness.sweep.search.ledger import DUPLICATE, ending_of, is_copy, key_of


class StudyTrials:
    """Reads one trial where the study would read all of them, and creates each of Optuna's trial objects once."""

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._opened: dict[int, optuna.Trial] = {}  # by number

    def ask(self) -> optuna.Trial:
        """Optuna's next trial: it waits, or is new."""
        trial = self._study.ask()
        self._opened[trial.number] = trial
        return trial

    def open(self, number: int) -> optuna.Trial:
        # Created once per number: the constructor runs the sampler.
        if number not in self._opened:
            self._opened[number] = optuna.Trial(self._study, self.read(number)._trial_id)
        return self._opened[number]

    def read(self, number: int) -> FrozenTrial:
        storage = self._study._storage
        return storage.get_trial(storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number))

    def set_lease(self, number: int, lease: dict[str, Any] | None) -> bool:
        """Write the lease of a trial; returns False if another machine has ended the trial."""
        try:
            self.open(number).set_user_attr("owner", lease)
        except UpdateFinishedTrialError:
            return False
        return True

    def end_without_run(self, number: int, state: str) -> None:
        """End a trial that does not run: it is a duplicate, or was removed."""
        self.open(number).set_user_attr("ending", {"state": state, "reason": None})
        self._study.tell(number, state=TrialState.FAIL)

    def is_duplicate(self, number: int) -> bool:
        """Whether an older trial is of the same point: two machines may have queued it at the same moment."""
        trial = self.read(number)
        key = key_of(trial.user_attrs)
        return any(
            "point" in other.user_attrs
            and key_of(other.user_attrs) == key
            and ending_of(other) != DUPLICATE
            and is_copy(trial, other)
            for other in self._study.get_trials(deepcopy=False)[:number]
        )
