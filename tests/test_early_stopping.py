"""Early stopping: when training ends, what is recorded, and that resuming and other processes change nothing."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from harness import train as train_module
from harness.config import RunConfig
from harness.train import fit
from harness.training.state import Progress, stops_early
from harness.training.state_writer import StateWriter
from tests.helpers.sweeping import records, sweep_here, write_sweep
from tests.test_train import in_child, on_ranks, rows_of, same_bits, settings, weights_of

# At a learning rate of almost 0 no epoch is better than the first.
STUCK = {"lr": 1e-30, "epochs": 5, "patience": 2}
REASON = "epochs without a better validation score: 2"


def stuck(data_folder: Path, runs: Path, **changes: Any) -> RunConfig:
    return settings(data_folder, runs, **STUCK | changes)


def test_epochs_since_the_best_are_counted() -> None:
    progress = Progress(epochs=7, best={"best/epoch": 4})
    assert [patience for patience in range(6) if stops_early(progress, patience)] == [1, 2, 3]
    assert not stops_early(Progress(), 1)
    # A best checkpoint can be an epoch ahead of the state.
    assert not stops_early(Progress(epochs=3, best={"best/epoch": 4}), 1)
    # Without its best checkpoint a run chooses another one among the remaining epochs.
    assert not stops_early(Progress(epochs=7), 1)


def test_training_ends_and_the_best_epoch_is_tested(
    data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fit(stuck(data_folder, tmp_path))
    assert [row["epoch"] for row in rows_of(run) if "val/f1" in row] == [1, 2, 3]
    summary = run.summary
    assert (summary["state"], summary["best/epoch"], summary["test/n"]) == ("finished", 1, 9)
    assert (summary["stopped_early/epoch"], summary["stopped_early/reason"]) == (3, REASON)
    assert re.search(r"best epoch +1 of 5 \(stopped early after epoch 3\)", capsys.readouterr().out)


def test_without_patience_and_while_epochs_get_better_all_are_trained(data_folder: Path, tmp_path: Path) -> None:
    for name, changes in {"off": {"patience": 0}, "better": {"patience": 1, "lr": 1e-4, "epochs": 3}}.items():
        run = fit(stuck(data_folder, tmp_path / name, **changes))
        assert run.summary["best/epoch"] == (1 if name == "off" else 3)
        assert len([row for row in rows_of(run) if "val/f1" in row]) == (5 if name == "off" else 3)
        assert not [key for key in run.summary if key.startswith("stopped_early")]


def test_the_schedule_stays_that_of_all_epochs(data_folder: Path, tmp_path: Path) -> None:
    early = fit(stuck(data_folder, tmp_path / "early", schedule="cosine"))
    whole = fit(stuck(data_folder, tmp_path / "whole", schedule="cosine", patience=0))
    rates = [[row["train/lr"] for row in rows_of(run) if "train/lr" in row] for run in (early, whole)]
    assert rates[0] == rates[1][: len(rates[0])]
    assert len(rates[0]) < len(rates[1])


@pytest.mark.parametrize("epoch", [2, 3])
def test_killed_before_and_after_the_decision_a_run_resumes_to_the_same_end(
    data_folder: Path, tmp_path: Path, epoch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit(stuck(data_folder, tmp_path / "whole"))
    config = stuck(data_folder, tmp_path / "killed")

    def killed() -> None:
        save = StateWriter.save

        def save_and_die(self: StateWriter, *save_best: Any) -> None:
            save(self, *save_best)
            self.wait()
            if self._state.progress.epochs == epoch:
                os.kill(os.getpid(), signal.SIGKILL)

        StateWriter.save = save_and_die
        fit(config)

    in_child(killed, -signal.SIGKILL)
    steps: list[int] = []
    take_step = train_module.training_step

    def counted_step(state: Any, *rest: Any) -> Any:
        steps.append(state.progress.step)
        return take_step(state, *rest)

    monkeypatch.setattr(train_module, "training_step", counted_step)
    resumed = fit(config)
    assert steps == list(range(5 * epoch, 15))  # after the decision, the run goes straight to its test
    assert resumed.summary["stopped_early/epoch"] == 3
    assert resumed.summary["test/loss"] == whole.summary["test/loss"]
    assert same_bits(weights_of(resumed), weights_of(whole))


def test_all_processes_stop_after_the_same_epoch(data_folder: Path, tmp_path: Path) -> None:
    on_ranks(2, lambda: fit(stuck(data_folder, tmp_path)))
    [folder] = tmp_path.iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["state"], summary["stopped_early/epoch"]) == ("finished", 3)
    assert [row["epoch"] for row in rows_of(folder) if "val/f1" in row] == [1, 2, 3]


def test_a_trial_that_stops_early_is_finished_also_where_hyperband_compares_it(
    data_folder: Path, tmp_path: Path
) -> None:
    file = write_sweep(
        tmp_path / "tiny.yaml",
        data_folder,
        *("--epochs=4", "--patience=1", "--head-init=default"),
        parameters={"lr": {"values": [1e-3, 1e-30]}},
        early_terminate={"type": "hyperband", "min_iter": 2, "eta": 2},
    )
    assert sweep_here(file, tmp_path / "runs", keep=1) == 0
    learned, early = records(file, tmp_path / "runs")
    assert (learned.state, early.state) == ("finished", "finished")
    [folder] = (tmp_path / "runs").glob(f"*/*-{early.number}")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["stopped_early/epoch"] == 2
    assert early.value == summary["best/val_f1"] < (learned.value or 0)
    assert not (folder / "checkpoints" / "best.safetensors").exists()  # the sweep keeps the better one
