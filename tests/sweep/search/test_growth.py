"""A sweep grows: new points get new trials, others keep theirs, whatever else has changed in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.errors import ConfigError
from harness.sweep.redo import requeue_at_start
from harness.sweep.search.growth import Growth
from harness.sweep.search.identity import Contents, data_key
from harness.sweep.search.settings import Search
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.search.trial_record import TrialRecord
from harness.sweep.spec.sweep_file import Sweep, read_sweep
from tests.helpers.earlier_ledgers import as_earlier_version
from tests.helpers.sweeping import write_sweep

STORAGES = ("sqlite:///{}/study.db", "{}/journal.log")


@pytest.fixture(params=STORAGES, ids=["sqlite", "journal"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.param).format(tmp_path)


def sweep_of(tmp_path: Path, lrs: list[float], *words: str, overrides: tuple[str, ...] = (), **keys: Any) -> Sweep:
    parameters = keys.pop("parameters", {"lr": {"values": lrs}})
    return read_sweep(write_sweep(tmp_path / "tiny.yaml", tmp_path, *words, parameters=parameters, **keys), overrides)


def opened(
    tmp_path: Path, sweep: Sweep, storage: str | None = None, search: Search | None = None, **options: Any
) -> Any:
    return TrialQueue.open(sweep, search or Search(), tmp_path, storage, **options)


def finish(trial_queue: TrialQueue, count: int = 1000) -> list[Any]:
    """Claim trials and finish them; the lr of each."""
    lrs = []
    while len(lrs) < count and (claimed := trial_queue.claim()):
        trial_queue.end(claimed, "finished", value=claimed.settings["lr"])
        lrs.append(claimed.settings["lr"])
    return lrs


def states(records: list[TrialRecord]) -> list[tuple[Any, str, bool]]:
    return [(record.settings and record.settings["lr"], record.state, record.in_file) for record in records]


def test_an_added_value_runs_exactly_the_new_points(tmp_path: Path, storage: str) -> None:
    two = {"lr": {"values": [1e-3, 1e-2]}, "augment": {"values": ["none", "standard"]}}
    three = two | {"lr": {"values": [1e-4, 1e-3, 1e-2]}}
    before = opened(tmp_path, sweep_of(tmp_path, [], parameters=two), storage)
    assert before.growth == Growth(queued=4, removed=0, outside=0, is_first=True)
    finish(before)
    kept = before.records()
    grown = opened(tmp_path, sweep_of(tmp_path, [], parameters=three), storage)
    assert grown.growth == Growth(queued=2, removed=0, outside=0, is_first=False)
    assert finish(grown) == [1e-4, 1e-4]
    records = grown.records()
    assert records[:4] == kept
    assert [record.number for record in records[4:]] == [4, 5]
    assert [record.run_id for record in records[4:]] == [f"{grown.sweep_id}-4", f"{grown.sweep_id}-5"]
    assert finish(opened(tmp_path, sweep_of(tmp_path, [], parameters=three), storage)) == []


def test_a_removed_value_keeps_its_results_and_does_not_run(tmp_path: Path, storage: str) -> None:
    opened(tmp_path, sweep_of(tmp_path, [1e-4, 1e-3, 1e-2]), storage)
    finish(opened(tmp_path, sweep_of(tmp_path, [1e-4, 1e-3, 1e-2]), storage), count=1)
    smaller = opened(tmp_path, sweep_of(tmp_path, [1e-3]), storage)
    assert smaller.growth == Growth(queued=0, removed=1, outside=2, is_first=False)
    assert finish(smaller) == [1e-3]
    assert states(smaller.records()) == [(1e-4, "finished", False), (1e-3, "finished", True), (1e-2, "removed", False)]
    # The file has them again: what is finished stays, what was removed runs.
    again = opened(tmp_path, sweep_of(tmp_path, [1e-4, 1e-3, 1e-2]), storage)
    assert again.growth == Growth(queued=1, removed=0, outside=0, is_first=False)
    assert finish(again) == [1e-2]
    assert states(again.records()) == [(lr, "finished", True) for lr in (1e-4, 1e-3, 1e-2)]
    finished = [trial for trial in again.study.trials if trial.value is not None]
    # Optuna stores each value, or, beside other choices of the file, none.
    assert all(trial.params.items() <= trial.user_attrs["settings"].items() for trial in finished)
    assert [bool(trial.params) for trial in finished] == [True, False, True]


def test_an_interrupted_trial_that_the_file_lost_is_not_resumed(tmp_path: Path, storage: str) -> None:
    begun = opened(tmp_path, sweep_of(tmp_path, [1e-4, 1e-3]), storage)
    claimed = begun.claim()
    begun.release(claimed)
    without = opened(tmp_path, sweep_of(tmp_path, [1e-3]), storage)
    assert states(without.records())[0] == (1e-4, "interrupted", False)
    assert finish(without) == [1e-3]
    assert states(without.records())[0] == (1e-4, "removed", False)
    assert not without.unsettled()
    resumed = opened(tmp_path, sweep_of(tmp_path, [1e-4, 1e-3]), storage).claim()
    assert resumed.run_id == claimed.run_id


def test_the_count_of_a_grid_is_raised_and_lowered(tmp_path: Path, storage: str) -> None:
    sweep = sweep_of(tmp_path, [1e-4, 1e-3, 1e-2, 1e-1])
    assert finish(opened(tmp_path, sweep, storage, Search(count=2))) == [1e-4, 1e-3]
    assert finish(opened(tmp_path, sweep, storage, Search(count=3))) == [1e-2]
    opened(tmp_path, sweep, storage)
    assert opened(tmp_path, sweep, storage, Search(count=3)).claim() is None
    assert finish(opened(tmp_path, sweep, storage)) == [1e-1]


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_a_raised_count_runs_the_difference(method: str, tmp_path: Path, storage: str) -> None:
    parameters = {"lr": {"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-1}}
    sweep = sweep_of(tmp_path, [], method=method, parameters=parameters)
    first = finish(opened(tmp_path, sweep, storage, Search(count=3)))
    then = opened(tmp_path, sweep, storage, Search(count=5))
    more = finish(then)
    assert (len(first), len(more)) == (3, 2)
    assert [record.number for record in then.records()] == [0, 1, 2, 3, 4]
    at_once = finish(opened(tmp_path, sweep, f"sqlite:///{tmp_path}/other.db", Search(count=5)))
    assert [*first, *more] == at_once


def test_random_trials_that_repeat_their_settings_are_counted(tmp_path: Path, storage: str) -> None:
    sweep = sweep_of(tmp_path, [1e-3, 1e-2], method="random")
    assert len(finish(opened(tmp_path, sweep, storage, Search(count=6)))) == 6
    assert len(finish(opened(tmp_path, sweep, storage, Search(count=9)))) == 3


def test_a_change_without_effect_on_results_adds_no_trials(tmp_path: Path, storage: str) -> None:
    finish(opened(tmp_path, sweep_of(tmp_path, [1e-3, 1e-2]), storage))
    file = tmp_path / "tiny.yaml"
    reordered = {"lr": {"values": [1e-2, 1e-3]}, "seed": {"value": 0}}
    changed = [
        sweep_of(tmp_path, [1e-3, 1e-2], description="a description", project="another", entity="someone"),
        sweep_of(tmp_path, [1e-3, 1e-2], "--threads=2", "--log-every=3", "--explain=none"),
        sweep_of(tmp_path, [1e-3, 1e-2], overrides=("--threads", "1", "--workers=1")),
        sweep_of(tmp_path, [], parameters=reordered),
    ]
    write_sweep(file, tmp_path, parameters={"lr": {"values": [1e-3, 1e-2]}})
    file.write_text("# a comment\n" + file.read_text().replace("--threads=1", "--threads"))
    file.write_text(file.read_text().replace("- --threads\n", '- --threads\n- "1"\n'))
    changed.append(read_sweep(file))
    for sweep in changed:
        assert opened(tmp_path, sweep, storage).growth == Growth(queued=0, removed=0, outside=0, is_first=False)


def test_a_setting_of_all_trials_needs_to_be_accepted(tmp_path: Path, storage: str) -> None:
    finish(opened(tmp_path, sweep_of(tmp_path, [1e-3, 1e-2], "--epochs=1"), storage))
    longer = sweep_of(tmp_path, [1e-3, 1e-2, 1e-1], "--epochs=2", "--drop-path=0.1")
    with pytest.raises(ConfigError) as error:
        opened(tmp_path, longer, storage)
    assert "  --drop-path: 0.0 -> 0.1\n  --epochs: 1 -> 2\n" in str(error.value)
    assert "To run its 3 trials as new ones" in str(error.value)
    assert len(TrialQueue.load(longer, tmp_path, storage).records()) == 2

    accepted = opened(tmp_path, longer, storage, accept=True)
    assert accepted.growth == Growth(queued=3, removed=0, outside=2, is_first=False)
    assert finish(opened(tmp_path, longer, storage)) == [1e-3, 1e-2, 1e-1]
    assert [record.in_file for record in accepted.records()] == [False, False, True, True, True]
    # Back to the first settings: their results are there.
    back = opened(tmp_path, sweep_of(tmp_path, [1e-3, 1e-2], "--epochs=1"), storage)
    assert back.growth == Growth(queued=0, removed=0, outside=3, is_first=False)


def test_another_seed_of_a_random_search_needs_to_be_accepted(tmp_path: Path, storage: str) -> None:
    lr = {"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-1}
    sweep = sweep_of(tmp_path, [], method="random", parameters={"lr": lr})
    finish(opened(tmp_path, sweep, storage, Search(count=3, seed=7)))
    with pytest.raises(ConfigError, match="--seed of `harness sweep run`: 7 -> 0"):
        opened(tmp_path, sweep, storage, Search(count=3))
    assert opened(tmp_path, sweep, storage, Search(count=3), accept=True).growth.queued == 3


def test_replacing_all_values_needs_no_consent(tmp_path: Path) -> None:
    finish(opened(tmp_path, sweep_of(tmp_path, [1e-3])))
    assert finish(opened(tmp_path, sweep_of(tmp_path, [1e-4, 1e-5]))) == [1e-4, 1e-5]


def test_a_fixed_setting_may_become_a_varied_one(tmp_path: Path, storage: str) -> None:
    """The default of weight_decay in this recipe is 0.01: of the four points two are there."""
    finish(opened(tmp_path, sweep_of(tmp_path, [1e-3, 1e-2]), storage))
    parameters = {"lr": {"values": [1e-3, 1e-2]}, "weight_decay": {"values": [0.01, 0.1]}}
    assert finish(opened(tmp_path, sweep_of(tmp_path, [], parameters=parameters), storage)) == [1e-3, 1e-2]


def contents_of(sweep: Sweep, fingerprint: str) -> Contents:
    return Contents({data_key(sweep.config({"lr": 1e-3})): fingerprint})


def test_the_contents_of_the_data_count_and_not_their_path(tmp_path: Path, storage: str) -> None:
    sweep = sweep_of(tmp_path, [1e-3, 1e-2])
    first, second = "1" * 64, "2" * 64
    finish(opened(tmp_path, sweep, storage, contents=contents_of(sweep, first)))
    moved = read_sweep(
        write_sweep(tmp_path / "tiny.yaml", tmp_path / "moved", parameters={"lr": {"values": [1e-3, 1e-2]}})
    )
    assert opened(tmp_path, moved, storage, contents=contents_of(moved, first)).growth.queued == 0
    with pytest.raises(ConfigError, match="splits of --data: fingerprint 11111111 -> fingerprint 22222222"):
        opened(tmp_path, moved, storage, contents=contents_of(moved, second))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"method": "random", "run_cap": 2}, "was begun with method grid, and method is now random"),
        (
            {"metric": {"name": "best/val_loss", "goal": "minimize"}},
            "metric best/val_f1, and metric is now best/val_l",
        ),
    ],
)
def test_another_search_is_refused(keys: dict[str, Any], message: str, tmp_path: Path) -> None:
    opened(tmp_path, sweep_of(tmp_path, [1e-3, 1e-2]))
    with pytest.raises(ConfigError, match=message):
        opened(tmp_path, sweep_of(tmp_path, [1e-3, 1e-2], **keys), accept=True)


def test_a_bayesian_search_may_widen_a_range_and_keeps_its_choices(tmp_path: Path, storage: str) -> None:
    def search(high: float, *augment: str, words: tuple[str, ...] = ()) -> Sweep:
        lr = {"distribution": "log_uniform_values", "min": 1e-5, "max": high}
        return sweep_of(tmp_path, [], *words, method="bayes", parameters={"lr": lr, "augment": {"values": [*augment]}})

    finish(opened(tmp_path, search(1e-3, "none", "standard"), storage, Search(count=3)))
    assert len(finish(opened(tmp_path, search(1e-1, "none", "standard"), storage, Search(count=6)))) == 3
    with pytest.raises(ConfigError, match=r"parameters\.augment: .* cannot change the `values`"):
        opened(tmp_path, search(1e-1, "none", "trivialaugment"), storage, Search(count=6))
    with pytest.raises(ConfigError, match="learns from all of its trials"):
        words = ("--drop-path=0.2",)
        opened(tmp_path, search(1e-1, "none", "standard", words=words), storage, Search(count=9), accept=True)


def test_a_point_is_added_by_hand(tmp_path: Path, storage: str) -> None:
    sweep = sweep_of(tmp_path, [1e-3, 1e-2])
    trial_queue = opened(tmp_path, sweep, storage)
    finish(trial_queue, count=1)
    added = trial_queue.add([{"lr": 3e-4}, {"lr": 1e-3}, {"lr": 1e-2}, {"lr": 3e-4}, {"lr": 1e-3, "epochs": 9}])
    assert [(one.number, one.state) for one in added] == [
        (2, None),
        (0, "finished"),
        (1, "waiting"),
        (2, None),
        (3, None),
    ]
    with pytest.raises(ConfigError, match="--lr is -1"):
        trial_queue.add([{"lr": 1e-5}, {"lr": -1.0}])
    # The file does not list them; they run nevertheless.
    assert finish(opened(tmp_path, sweep, storage)) == [1e-2, 3e-4, 1e-3]
    assert [record.in_file for record in opened(tmp_path, sweep, storage).records()] == [True] * 4


def test_points_are_added_to_a_bayesian_search(tmp_path: Path, storage: str) -> None:
    parameters = {
        "lr": {"distribution": "uniform", "min": 1e-5, "max": 1e-1},
        "augment": {"values": ["none", "standard"]},
    }
    sweep = sweep_of(tmp_path, [], method="bayes", parameters=parameters)
    trial_queue = opened(tmp_path, sweep, storage, Search(count=3))
    points = [{"lr": 0.5, "augment": "none"}, {"lr": 1e-3, "augment": "trivialaugment"}]
    assert [one.state for one in trial_queue.add(points)] == [None, None]
    assert finish(trial_queue)[3:] == [0.5, 1e-3]
    assert len(finish(opened(tmp_path, sweep, storage, Search(count=5)))) == 2
    [chosen] = [record.settings for record in trial_queue.records() if record.number == 1]
    assert [(one.number, one.state) for one in trial_queue.add([chosen])] == [(1, "finished")]


@pytest.mark.parametrize("method", ["grid", "random", "bayes"])
def test_a_ledger_of_an_earlier_version_grows(method: str, tmp_path: Path) -> None:
    parameters: dict[str, Any] = {"lr": {"distribution": "uniform", "min": 1e-5, "max": 1e-1}}
    grid = method == "grid"
    sweep = sweep_of(tmp_path, [1e-3, 1e-2], **({} if grid else {"method": method, "parameters": parameters}))
    begun = opened(tmp_path, sweep, search=None if grid else Search(count=2))
    claimed = begun.claim()
    begun.end(claimed, "failed", reason="a test")
    finish(begun)
    as_earlier_version(tmp_path / "study.db")
    if grid:
        sweep = sweep_of(tmp_path, [1e-3, 1e-2, 1e-1])
    grown = opened(tmp_path, sweep, search=Search(count=3))
    assert grown.growth == Growth(queued=1, removed=0, outside=0, is_first=False)
    requeue_at_start(grown, tmp_path, 1, None)
    assert len(finish(grown)) == 2
    assert [record.state for record in grown.records()] == ["finished"] * 3
    with pytest.raises(ConfigError, match="--epochs: 5 -> 7"):
        keys = {} if grid else {"method": method, "parameters": parameters}
        opened(tmp_path, sweep_of(tmp_path, [1e-4], "--epochs=7", **keys), search=Search(count=4))
