"""Asynchronous successive halving, Optuna's early termination, with the epochs and eta of a sweep file."""

from __future__ import annotations

import optuna

from harness.errors import ConfigError
from harness.sweep.spec.sweep_file import Sweep


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
