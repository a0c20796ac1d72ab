"""W&B's hyperband rule as a pruner of Optuna, so that a sweep file means the same with and without a server."""

from __future__ import annotations

import optuna

from harness.sweep.spec.sweep_file import Hyperband


class WandbHyperband(optuna.pruners.BasePruner):
    """Ends a trial that is not among the best 1 / eta of all that came as far as it did.

    Trials are compared at set numbers of epochs, the bands. The threshold of a band is the value at position
    floor(n / eta) of the n sorted values there (best first). A trial past a band stays if its best value so far
    reaches the threshold; with `strict`, its value at the band must. This is the rule of W&B's own controller
    (package `sweeps`, hyperband_stopping), after Li et al. 2018, "Hyperband", JMLR 18(185).
    """

    def __init__(self, rule: Hyperband) -> None:
        self._rule = rule

    def prune(self, study: optuna.study.Study, trial: optuna.trial.FrozenTrial) -> bool:
        sign = -1.0 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1.0
        histories = [
            [sign * value for _, value in sorted(other.intermediate_values.items())]
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number and not _is_same_run(other, trial)
        ]
        own = [sign * value for _, value in sorted(trial.intermediate_values.items())]
        passed = [band for band in self._rule.bands if band <= len(own)]
        if not passed:
            return False
        band = passed[-1]
        values = sorted(history[band - 1] for history in [own, *histories] if len(history) >= band)
        threshold = values[int(len(values) / self._rule.eta)]
        reached = own[band - 1] if self._rule.strict else min(own)
        return reached > threshold


def _is_same_run(one: optuna.trial.FrozenTrial, other: optuna.trial.FrozenTrial) -> bool:
    """Whether one is the other tried again: the study then holds the same epochs twice."""
    return "point" in one.user_attrs and one.user_attrs["point"] == other.user_attrs.get("point")
