"""Early termination: W&B's rule and asynchronous successive halving, as pruners of Optuna."""

from __future__ import annotations

import optuna

from harness.errors import ConfigError
from harness.sweep.search.ledger import key_of
from harness.sweep.search.settings import Search
from harness.sweep.spec.metric import Hyperband
from harness.sweep.spec.sweep_file import Sweep


def make_pruner(sweep: Sweep, search: Search) -> optuna.pruners.BasePruner:
    """Early termination of the sweep's trials. Raises ConfigError if the file does not suit the pruner."""
    if search.pruner == "asha":
        return asha(sweep)
    return WandbHyperband(sweep.early_terminate) if sweep.early_terminate else optuna.pruners.NopPruner()


def asha(sweep: Sweep) -> optuna.pruners.SuccessiveHalvingPruner:
    """The pruner of Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning" (arXiv 1810.05934).

    It compares trials at the file's first band b and at b * eta, b * eta^2, ...: a trial continues if its value there
    is among the best n // eta of the n that reached the band so far, and among the first eta - 1 if it is the best.
    Raises ConfigError if the file does not say after which epochs.
    """
    rule = sweep.early_terminate
    if rule is None:
        raise ConfigError(
            f"{sweep.path}: --pruner asha needs the epochs at which trials are compared. Add `early_terminate: "
            "{type: hyperband, min_iter: 3, eta: 3}` to the file."
        )
    if rule.eta != int(rule.eta):
        raise ConfigError(
            f"{sweep.path}: early_terminate.eta is {rule.eta:g}, and --pruner asha needs a whole number of at least 2."
        )
    return optuna.pruners.SuccessiveHalvingPruner(
        min_resource=rule.bands[0], reduction_factor=int(rule.eta), min_early_stopping_rate=0
    )


class WandbHyperband(optuna.pruners.BasePruner):
    """Prunes a trial that is not among the best 1 / eta of the trials that trained as long.

    Trials are compared after fixed numbers of epochs, the bands. The threshold of a band is the value at position
    floor(n / eta) of its n sorted values (best first). A trial continues past a band if its best value so far reaches
    the threshold; with `strict`, if its value at the band does. This is the rule of W&B's own controller (package
    `sweeps`, hyperband_stopping), after Li et al. 2018, "Hyperband", JMLR 18(185).
    """

    def __init__(self, rule: Hyperband) -> None:
        self._rule = rule

    def prune(self, study: optuna.study.Study, trial: optuna.trial.FrozenTrial) -> bool:
        sign = -1.0 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1.0  # lower is better below
        own = _history(trial, sign)
        bands = [band for band in self._rule.bands if band <= len(own)]
        if not bands:
            return False
        band = bands[-1]
        rivals = [other for other in study.get_trials(deepcopy=False) if not _is_same_point(other, trial)]
        histories = [own, *(_history(rival, sign) for rival in rivals)]
        values = sorted(history[band - 1] for history in histories if len(history) >= band)
        threshold = values[int(len(values) / self._rule.eta)]
        value = own[band - 1] if self._rule.strict else min(own)
        return value > threshold


def _history(trial: optuna.trial.FrozenTrial, sign: float) -> list[float]:
    return [sign * value for _, value in sorted(trial.intermediate_values.items())]


def _is_same_point(a: optuna.trial.FrozenTrial, b: optuna.trial.FrozenTrial) -> bool:
    """Whether they are one trial, or one is a retry of the other and holds the values of the same epochs."""
    if a.number == b.number or "point" not in a.user_attrs or "point" not in b.user_attrs:
        return a.number == b.number
    return key_of(a.user_attrs) == key_of(b.user_attrs)
