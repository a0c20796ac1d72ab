"""Early termination against W&B's rule worked out by hand."""

from __future__ import annotations

import optuna
import pytest

from harness.sweep.search.hyperband import WandbHyperband
from harness.sweep.spec.sweep_file import Hyperband

HISTORIES = [[0.10, 0.20, 0.30], [0.40, 0.35, 0.30], [0.20, 0.60], [0.30, 0.30], [0.05]]


def verdicts(rule: Hyperband, direction: str = "maximize") -> list[bool]:
    """For each history: whether its trial, last to report, would be ended."""
    found = []
    for own in range(len(HISTORIES)):
        study = optuna.create_study(direction=direction, pruner=WandbHyperband(rule))
        trials = [study.ask() for _ in HISTORIES]
        for trial, history in zip(trials, HISTORIES, strict=True):
            for epoch, value in enumerate(history, start=1):
                trial.report(value, step=epoch)
        found.append(trials[own].should_prune())
    return found


def test_the_best_of_a_band_go_on() -> None:
    # Epoch 2, four trials, eta 2: position 4 // 2 = 2 of 0.60, 0.35, 0.30, 0.20 is 0.30. The first trial has reached
    # 0.30 by now, though not at epoch 2. Epoch 1 is no band, so the last trial is safe.
    assert verdicts(Hyperband((2,), eta=2, strict=False)) == [False, False, False, False, False]
    assert verdicts(Hyperband((2,), eta=2, strict=True)) == [True, False, False, False, False]


def test_a_larger_eta_keeps_fewer() -> None:
    # Epoch 1, five trials, eta 3: position 5 // 3 = 1 of 0.40, 0.30, 0.20, 0.10, 0.05 is 0.30.
    assert verdicts(Hyperband((1,), eta=3, strict=True)) == [True, False, True, False, True]
    # With its best so far: the first has 0.30, the third 0.60.
    assert verdicts(Hyperband((1,), eta=3, strict=False)) == [False, False, False, False, True]


def test_the_last_band_reached_counts() -> None:
    # Those at epoch 3 (0.30 and 0.30) are compared there, the others at epoch 1.
    assert verdicts(Hyperband((1, 3), eta=3, strict=True)) == [False, False, True, False, True]


def test_the_other_direction() -> None:
    # Epoch 1: position 1 of 0.05, 0.10, 0.20, 0.30, 0.40 is 0.10.
    assert verdicts(Hyperband((1,), eta=3, strict=True), "minimize") == [False, True, True, True, False]


def test_nobody_is_ended_alone_or_before_the_first_band() -> None:
    study = optuna.create_study(direction="maximize", pruner=WandbHyperband(Hyperband((2,), eta=3, strict=True)))
    trial = study.ask()
    for epoch in (1, 2, 3):
        trial.report(0.0, step=epoch)
        assert not trial.should_prune()
    assert trial.number == 0
    assert pytest.approx(0.0) == trial.study.trials[0].intermediate_values[3]
