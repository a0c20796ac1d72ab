from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from reports.collection import Collection
from reports.importance import Importance, importance
from reports.runs import read_runs
from reports.stats.leaderboard import leaderboard
from tests.reports.stats.test_leaderboard import write

DISTRIBUTIONS = {"lr": CategoricalDistribution([1e-5, 1e-3, 1e-1]), "augment": CategoricalDistribution(["none", "on"])}


def study(folder: Path, trials: int, unfinished: int = 0) -> None:
    """One whose values depend on the learning rate alone."""
    place = folder.parent / "new.db"  # whose address needs no quoting
    made = optuna.create_study(direction="maximize", storage=f"sqlite:///{place}", study_name="s")
    for number in range(trials + unfinished):
        lr, augment = (1e-5, 1e-3, 1e-1)[number % 3], ("none", "on")[number // 3 % 2]
        value = {1e-5: 0.9, 1e-3: 0.5, 1e-1: 0.01}[lr] if number < trials else None
        state = optuna.trial.TrialState.COMPLETE if number < trials else optuna.trial.TrialState.FAIL
        settings = {"lr": lr, "augment": augment}
        made.add_trial(
            optuna.trial.create_trial(params=settings, distributions=DISTRIBUTIONS, value=value, state=state)
        )
    place.rename(folder / "study.db")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(2):
        write(tmp_path / "runs" / "s'?#%&" / f"r-{number}", 0.5, lr=number + 1.0)
    return tmp_path / "runs"


def found(folder: Path) -> Importance | str | None:
    return importance(Collection(folder, leaderboard(read_runs(folder))))


def test_what_decides_is_important(folder: Path) -> None:
    assert found(folder) is None
    path = folder / "s'?#%&"
    study(path, 12, unfinished=2)
    before = (path / "study.db").read_bytes()
    given = found(folder)
    assert isinstance(given, Importance)
    assert (given.trials, given.best) == (12, 4)
    assert list(given.shares) == ["lr", "augment"]
    assert given.shares["lr"] > 0.95
    assert sum(given.shares.values()) == pytest.approx(1)
    assert (path / "study.db").read_bytes() == before


def test_too_few_trials_say_nothing(folder: Path) -> None:
    study(folder / "s'?#%&", 7)
    assert found(folder) == "Importance needs 8 finished trials; the study has 7."


def test_a_study_that_cannot_be_used_is_said(folder: Path) -> None:
    (folder / "s'?#%&" / "study.db").write_bytes(b"no database" * 1000)
    said = found(folder)
    assert isinstance(said, str) and said.startswith("The study in study.db cannot be used (")
    (folder / "s'?#%&" / "study.db").write_bytes(b"")
    assert "cannot be used" in str(found(folder))


def test_runs_of_two_sweeps(folder: Path) -> None:
    write(folder / "other" / "r-0", 0.5, lr=3.0)
    study(folder / "s'?#%&", 8)
    study(folder / "other", 8)
    assert found(folder) == "These runs are of several sweeps: importance is shown on the page of one sweep."


def test_trials_without_a_common_setting_say_nothing(folder: Path) -> None:
    path = folder / "s'?#%&"
    made = optuna.create_study(direction="maximize", storage=f"sqlite:///{folder}/new.db", study_name="s")
    for number in range(8):
        made.add_trial(optuna.trial.create_trial(value=number / 10))
    (folder / "new.db").rename(path / "study.db")
    assert found(folder) == "Importance needs a setting that all trials of the study chose."


def test_the_seed_is_no_hyperparameter(folder: Path) -> None:
    """Eight settings with three seeds each; the scores depend on the learning rate, and more on the seed."""
    path = folder / "s'?#%&"
    made = optuna.create_study(direction="maximize", storage=f"sqlite:///{folder}/new.db", study_name="s")
    rates, seeds = [10.0**-number for number in range(8)], [0, 1, 2]
    distributions = {
        "lr": CategoricalDistribution(rates),
        "augment": CategoricalDistribution(["none", "on"]),
        "seed": CategoricalDistribution(seeds),
    }
    for number, lr in enumerate(rates):
        for seed in seeds:
            params = {"lr": lr, "augment": ("none", "on")[number % 2], "seed": seed}
            value = 0.01 * (number // 2) + 0.2 * seed
            made.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=value))
    (folder / "new.db").rename(path / "study.db")
    result = found(folder)
    assert isinstance(result, Importance)
    assert (result.trials, result.best, result.of_settings) == (8, 4, True)
    assert set(result.shares) <= {"lr", "augment"} and "lr" in result.shares


def test_the_journal_of_a_sweep_on_a_cluster(folder: Path) -> None:
    path = folder / "s'?#%&"
    study(path, 12)
    from_database = found(folder)
    (path / "study.db").rename(folder / "old.db")
    journal = path / "journal.log"
    storage = JournalStorage(JournalFileBackend(str(journal)))
    optuna.copy_study(from_study_name="s", from_storage=f"sqlite:///{folder}/old.db", to_storage=storage)
    before = journal.read_bytes()
    assert found(folder) == from_database
    assert journal.read_bytes() == before
    for line in (b"no journal\n", b"[]\n", b'{"op_code": 99, "worker_id": "x"}\n'):
        journal.write_bytes(line * 9)
        assert str(found(folder)).startswith("The study in journal.log cannot be used (")
