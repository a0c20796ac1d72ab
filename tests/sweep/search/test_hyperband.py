"""Early termination against W&B's rule, computed by hand."""

from __future__ import annotations

import optuna
import pytest

from harness.sweep.search.hyperband import WandbHyperband
from harness.sweep.spec.metric import Hyperband

HISTORIES = [[0.10, 0.20, 0.30], [0.40, 0.35, 0.30], [0.20, 0.60], [0.30, 0.30], [0.05]]


def is_pruned(rule: Hyperband, direction: str = "maximize") -> list[bool]:
    """For each history: whether its trial is pruned when all have reported."""
    pruned = []
    for index in range(len(HISTORIES)):
        study = optuna.create_study(direction=direction, pruner=WandbHyperband(rule))
        trials = [study.ask() for _ in HISTORIES]
        for trial, history in zip(trials, HISTORIES, strict=True):
            for epoch, value in enumerate(history, start=1):
                trial.report(value, step=epoch)
        pruned.append(trials[index].should_prune())
    return pruned


def test_the_best_trials_of_a_band_continue() -> None:
    # Epoch 2, four trials, eta 2: position 4 // 2 = 2 of 0.60, 0.35, 0.30, 0.20 is 0.30. The first trial reached 0.30
    # only at epoch 3. Epoch 1 is not a band, so the last trial is not compared.
    assert is_pruned(Hyperband((2,), eta=2, strict=False)) == [False, False, False, False, False]
    assert is_pruned(Hyperband((2,), eta=2, strict=True)) == [True, False, False, False, False]


def test_a_larger_eta_keeps_fewer() -> None:
    # Epoch 1, five trials, eta 3: position 5 // 3 = 1 of 0.40, 0.30, 0.20, 0.10, 0.05 is 0.30.
    assert is_pruned(Hyperband((1,), eta=3, strict=True)) == [True, False, True, False, True]
    # Best values so far: the first trial has 0.30, the third 0.60.
    assert is_pruned(Hyperband((1,), eta=3, strict=False)) == [False, False, False, False, True]


def test_trials_are_compared_at_their_last_band() -> None:
    # The two trials at epoch 3 (0.30 and 0.30) are compared there, the others at epoch 1.
    assert is_pruned(Hyperband((1, 3), eta=3, strict=True)) == [False, False, True, False, True]


def test_a_lower_metric_is_better_with_minimize() -> None:
    # Epoch 1: position 1 of 0.05, 0.10, 0.20, 0.30, 0.40 is 0.10.
    assert is_pruned(Hyperband((1,), eta=3, strict=True), "minimize") == [False, True, True, True, False]


def test_a_single_trial_and_one_before_the_first_band_continue() -> None:
    study = optuna.create_study(direction="maximize", pruner=WandbHyperband(Hyperband((2,), eta=3, strict=True)))
    trial = study.ask()
    for epoch in (1, 2, 3):
        trial.report(0.0, step=epoch)
        assert not trial.should_prune()
    assert trial.number == 0
    assert pytest.approx(0.0) == trial.study.trials[0].intermediate_values[3]
