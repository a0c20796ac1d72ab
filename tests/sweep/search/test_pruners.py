"""Early termination against W&B's rule, computed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from harness.errors import ConfigError
from harness.sweep.search.pruners import WandbHyperband, make_pruner
from harness.sweep.search.settings import Search
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.spec.metric import Hyperband
from harness.sweep.spec.sweep_file import read_sweep
from tests.helpers.sweeping import write_sweep

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


@pytest.mark.parametrize(("pruner", "pruned"), [("hyperband", [0, 0, 1, 0]), ("asha", [0, 1, 1, 0])])
def test_asha_is_stricter_than_hyperband_at_first(pruner: str, pruned: list[int], tmp_path: Path) -> None:
    """At epoch 2 with eta 2, W&B's rule continues the best n // 2 + 1 of n values, and ASHA the best n // 2, or one."""
    early = {"type": "hyperband", "min_iter": 2, "eta": 2}
    parameters = {"seed": {"values": [0, 1, 2, 3]}}
    sweep = read_sweep(write_sweep(tmp_path / "s.yaml", tmp_path, parameters=parameters, early_terminate=early))
    trial_queue = TrialQueue.open(sweep, Search(pruner=pruner), tmp_path, str(tmp_path / "journal.log"))
    answers = []
    for value in (0.40, 0.20, 0.10, 0.35):
        claimed = trial_queue.claim()
        assert claimed is not None and not trial_queue.report(claimed, 1, 0.0)
        answers.append(trial_queue.report(claimed, 2, value))
    assert answers == [bool(one) for one in pruned]


def test_a_resumed_trial_is_judged_at_its_next_epoch(tmp_path: Path) -> None:
    """Its new runner reads all epochs again, and judges from the last one that is stored: it says which one it was."""
    early = {"type": "hyperband", "min_iter": 1, "eta": 2}
    parameters = {"seed": {"values": [0, 1, 2]}}
    sweep = read_sweep(write_sweep(tmp_path / "s.yaml", tmp_path, parameters=parameters, early_terminate=early))
    trial_queue = TrialQueue.open(sweep, Search(), tmp_path, str(tmp_path / "journal.log"))
    first, *others = (trial_queue.claim() for _ in range(3))
    assert first is not None
    for claimed, value in ((first, 0.1), *((other, 0.9) for other in others)):
        assert not any(trial_queue.report(claimed, epoch, value) for epoch in (1, 2))
    trial_queue.release(first)
    resumed = trial_queue.claim()
    assert resumed is not None and resumed.number == 0
    assert [trial_queue.report(resumed, epoch, 0.1) for epoch in (1, 2, 3)] == [False, True, True]


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({}, r"Add `early_terminate: \{type: hyperband, min_iter: 3, eta: 3\}`"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 2, "eta": 2.5}}, "eta is 2.5, and --pruner asha needs"),
    ],
)
def test_asha_needs_epochs_and_a_whole_eta(keys: dict[str, Any], why: str, tmp_path: Path) -> None:
    sweep = read_sweep(write_sweep(tmp_path / "s.yaml", tmp_path, **keys))
    with pytest.raises(ConfigError, match=why):
        make_pruner(sweep, Search(pruner="asha"))
