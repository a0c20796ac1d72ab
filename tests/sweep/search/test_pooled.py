"""Bayesian search with repeats: one setting for all of its seeds, and what the search learns from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from harness.errors import ConfigError
from harness.sweep.search.pooled import setting_trials
from harness.sweep.search.rebuild import FoundRun, _places
from harness.sweep.search.settings import Search
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.spec.repeats import with_repeats
from harness.sweep.spec.sweep_file import Sweep, read_sweep
from tests.helpers.sweeping import write_sweep

# One distribution that Optuna has, one that only W&B has, and a constant.
PARAMETERS = {
    "lr": {"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-1},
    "weight_decay": {"distribution": "q_uniform", "min": 0.0, "max": 0.5, "q": 0.1},
    "epochs": {"value": 3},
}


def sweep_of(tmp_path: Path, repeats: int = 2, **keys: Any) -> Sweep:
    keys = {"method": "bayes", "parameters": PARAMETERS, "run_cap": 12} | keys
    return with_repeats(read_sweep(write_sweep(tmp_path / "tiny.yaml", tmp_path, **keys)), repeats)


def opened(tmp_path: Path, sweep: Sweep) -> TrialQueue:
    return TrialQueue.open(sweep, Search(repeats=sweep.repeats), tmp_path, str(tmp_path / "journal.log"))


def test_workers_run_the_seeds_of_one_setting(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    workers = [opened(tmp_path, sweep) for _ in range(2)]
    assert len(workers[0].records()) == 24  # run_cap counts settings
    first, second, third = (workers[number % 2].claim() for number in range(3))
    assert first and second and third
    assert [claimed.settings["seed"] for claimed in (first, second, third)] == [0, 1, 0]
    assert first.settings | {"seed": 1} == second.settings
    assert third.settings["lr"] != first.settings["lr"]
    assert {claimed.settings["epochs"] for claimed in (first, second, third)} == {3}
    assert sweep.config(second.settings).seed == 1
    # Optuna's own tools show the settings of every seed.
    one, two, _, *_ = workers[0].study.get_trials()
    assert one.params == two.params and one.params["lr"] == first.settings["lr"] and "seed" not in one.params


def test_the_search_learns_from_the_mean_of_each_setting(tmp_path: Path) -> None:
    trial_queue = opened(tmp_path, sweep_of(tmp_path, repeats=3, run_cap=6))
    endings: tuple[tuple[Any, ...], ...] = (
        (0.2, 0.4, 0.9),  # a lucky seed
        (0.5, "failed", 0.7),
        ("failed", "failed", "failed"),
        (0.9, "infeasible", 0.9),
        (0.6, "stopped", 0.9),
        (0.8, 0.8, None),  # one is running
    )
    lrs = []
    for endings_of_seeds in endings:
        for ending in endings_of_seeds:
            claimed = trial_queue.claim()
            assert claimed
            if isinstance(ending, float):
                trial_queue.end(claimed, "finished", value=ending)
            elif ending:
                trial_queue.report(claimed, 1, 0.3)
                trial_queue.end(claimed, ending, reason="a test")
        lrs.append(claimed.settings["lr"])
    pooled = setting_trials(trial_queue.study, 3)
    assert [trial.params["lr"] for trial in pooled] == [lrs[number] for number in (0, 1, 3, 4)]
    assert [trial.state for trial in pooled] == [TrialState.COMPLETE] * 2 + [TrialState.PRUNED] * 2
    assert [trial.value for trial in pooled[:2]] == pytest.approx([0.5, 0.6])
    assert pooled[3].intermediate_values == {1: 0.3}
    # The last seed ends too.
    trial_queue.end(claimed, "finished", value=0.5)
    assert setting_trials(trial_queue.study, 3)[-1].value == pytest.approx(0.7)


def test_an_interrupted_search_chooses_the_same_settings(tmp_path: Path) -> None:
    """TPE starts after ten settings. The means decide, so that swapped values of two seeds change nothing."""

    def run(folder: str, *, reopen: bool, swapped: bool) -> list[dict[str, Any]]:
        (tmp_path / folder).mkdir()
        sweep = sweep_of(tmp_path)
        trial_queue, chosen = opened(tmp_path / folder, sweep), []
        while claimed := trial_queue.claim():
            lr, seed = claimed.settings["lr"], claimed.settings["seed"]
            value = -abs(lr - 1e-3) + (0.25 if (seed == 0) != swapped else -0.25)
            trial_queue.end(claimed, "finished", value=value)
            chosen.append(claimed.settings)
            if reopen and claimed.number % 5 == 4:
                trial_queue = opened(tmp_path / folder, sweep)
        return chosen

    at_once = run("at once", reopen=False, swapped=False)
    assert len({settings["lr"] for settings in at_once}) == 12
    assert run("in parts", reopen=True, swapped=True) == at_once


def test_the_number_of_seeds_of_a_begun_search_cannot_change(tmp_path: Path) -> None:
    opened(tmp_path, sweep_of(tmp_path))
    with pytest.raises(ConfigError, match="was begun with --repeats 2, and has --repeats 1 now"):
        opened(tmp_path, sweep_of(tmp_path, repeats=1))
    # More settings are more trials.
    growth = opened(tmp_path, sweep_of(tmp_path, run_cap=13)).growth
    assert growth is not None and growth.queued == 2


def test_a_queue_made_again_keeps_the_seeds_of_a_setting_together(tmp_path: Path) -> None:
    """Numbers 1 and 4 had been queued again under others; seed 1 of the second setting had not begun."""
    runs: Any = None
    found = {
        number: FoundRun(runs, f"5eed-{number}", "", {"lr": lr, "seed": seed}, number)
        for number, lr, seed in ((0, 1e-3, 0), (2, 1e-2, 0), (3, 1e-4, 0), (5, 1e-3, 1), (6, 1e-4, 1))
    }
    assert _places(sweep_of(tmp_path), found) == {0: 0, 5: 1, 2: 2, 3: 4, 6: 5}
