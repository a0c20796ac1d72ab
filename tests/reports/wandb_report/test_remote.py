"""Runs as W&B's API gives them; test_dashboard shows that the real client gives what is assumed here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reports.errors import ReportError
from reports.page.sections.provenance import facts_of
from reports.runs import Run
from reports.wandb_report.remote import known_ids, read_remote_runs

CLASSES = {"columns": ["class", "f1"], "data": [["cat", 1.0], ["dog", 0.5]]}
PREDICTIONS = {
    "columns": ["file", "label", "prediction", "probability", "label_probability", "later"],
    "data": [["a.jpg", "cat", "cat", 0.75, 0.75, 1], ["b.jpg", "dog", "cat", 0.5, 0.25, 2]],
}


class RecordedRun(SimpleNamespace):
    """The part of a wandb.apis.public.Run that is read."""

    def scan_history(self) -> list[dict[str, Any]]:
        return self.history

    def file(self, name: str) -> Any:
        def download(root: str, replace: bool) -> Any:
            path = Path(root, name)
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(self.files[name]))
            return path.open()

        if name not in self.files:
            return [][0]  # as wandb does it
        return SimpleNamespace(download=download)


class Api:
    def __init__(self, *runs: RecordedRun) -> None:
        self.found, self.asked = runs, dict[str, Any]()

    def runs(self, path: str, filters: dict[str, Any], lazy: bool) -> Sequence[RecordedRun]:
        self.asked = filters
        if path != "me/zoo":
            raise ValueError(f"Could not find project {path}")
        return self.found


def recorded(**changes: Any) -> RecordedRun:
    tables = {
        key: {"_type": "table-file", "path": f"media/{key}.json"} for key in ("test/per_class", "test/predictions")
    }
    known: dict[str, Any] = {
        "entity": "me",
        "project": "zoo",
        "id": "1a2b",
        "name": "lr0.1",
        "group": "grid",
        "sweep_name": "5eed",
        "state": "finished",
        "config": {"lr": 0.1, "batch_size": 16},
        "summary_metrics": {"state": "finished", "best/val_f1": 0.5, "_step": 3, **tables},
        "history": [],
        "metadata": None,
        "files": {"media/test/per_class.json": CLASSES, "media/test/predictions.json": PREDICTIONS},
    }
    return RecordedRun(**(known | changes))


def read(**changes: Any) -> Run:
    [run] = read_remote_runs(Api(recorded(**changes)), "me", "zoo")
    return run


def test_a_run_is_what_its_folder_would_be() -> None:
    run = read()
    assert (run.name, run.state, run.config["lr"], run.metric("best/val_f1")) == ("lr0.1-1a2b", "finished", 0.1, 0.5)
    assert {run.manifest[key] for key in ("wandb_run_id", "group", "sweep")} == {"1a2b", "grid", "5eed"}
    assert "_step" not in run.summary
    predictions = run.predictions
    assert (predictions.files, predictions.classes) == (("a.jpg", "b.jpg"), ("cat", "dog"))
    assert (predictions.labels.tolist(), predictions.predicted.tolist()) == ([0, 1], [0, 0])
    assert (predictions.probabilities.tolist(), predictions.label_probabilities.tolist()) == ([0.75, 0.5], [0.75, 0.25])


def test_the_manifest_has_what_w_and_b_records() -> None:
    known = {
        "python": "CPython 3.11.7",
        "startedAt": "2026-01-01T00:00:00Z",
        "host": "node",
        "cpu": {"model": "a CPU"},
        "cpu_count_logical": 4,
        "memory": {"total": "1024"},
        "gpu": "a GPU",
        "gpu_count": 2,
    }
    facts = facts_of(read(metadata=known))
    names = ("python", "host", "CPU", "cores", "memory", "GPUs", "day started")
    assert [facts[name] for name in names] == [*("3.11.7", "node", "a CPU", "4", "0 GiB", "a GPU, a GPU", "2026-01-01")]
    assert facts_of(read()).keys() == set()


def test_what_was_used_in_place_of_what_a_sweep_chose() -> None:
    run = read(config={"lr": 0.1, "epochs": 5, "override/epochs": 1})
    assert run.config == {"lr": 0.1, "epochs": 1}


def test_a_metric_that_a_run_has_not_logged_is_not_searched_for() -> None:
    run = read(history=None)
    assert run.metric("attention/n") is None
    assert read(summary_metrics={"val/f1": "NaN"}).metric("val/f1") is None


@pytest.mark.parametrize(
    ("recorded_state", "own", "state"),
    [
        ("finished", "infeasible", "infeasible"),
        ("failed", "stopped", "stopped"),
        ("running", "preempted", "running"),
        ("crashed", None, "crashed"),
        ("finished", None, "finished"),
    ],
)
def test_states(recorded_state: str, own: str | None, state: str) -> None:
    assert read(state=recorded_state, summary_metrics={"state": own}).state == state


def test_rows_are_those_of_metrics_jsonl() -> None:
    history = [
        {"_step": 0, "_timestamp": 1.5, "step": 10, "epoch": 0.5, "train/loss": float("nan")},
        {"_step": 1, "step": 12, "epoch": 1, "val/loss": "Infinity", "val/f1": 0.25},
        {"_step": 2, "step": 12, "best/val_f1": 0.25},
        {"_step": 3, "step": 20, "epoch": 1.5, "train/loss": 3.0},
        # Killed, and resumed from step 12.
        {"_step": 4, "step": 20, "epoch": 1.5, "train/loss": 2.0},
        {"_step": 5, "step": 20, "figures/loss_curve": {"_type": "image-file"}},
        {"_step": 6, "something": 1},
    ]
    assert read(history=history).rows == (
        {"step": 10, "epoch": 0.5, "train/loss": None},
        {"step": 12, "epoch": 1, "val/loss": None, "val/f1": 0.25},
        {"step": 20, "epoch": 1.5, "train/loss": 2.0},
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"summary_metrics": {}}, "W&B: the run has no table test/per_class"),
        ({"files": {"media/test/per_class.json": CLASSES}}, "the file of table test/predictions has not arrived"),
        (
            {"files": {"media/test/per_class.json": CLASSES, "media/test/predictions.json": {"columns": ["file"]}}},
            "table test/predictions is damaged",
        ),
        (
            {
                "files": {"media/test/per_class.json": {**CLASSES, "data": [["cat", 1]]}}
                | {"media/test/predictions.json": PREDICTIONS}
            },
            "test/predictions names a class that test/per_class does not: 'dog'",
        ),
    ],
)
def test_predictions_that_cannot_be_used_say_why(changes: dict[str, Any], said: str) -> None:
    assert said in read(**changes).predictions.problem


def test_an_error_of_the_network_is_not_taken_for_a_missing_table() -> None:
    run = recorded(state="failed", summary_metrics={**recorded().summary_metrics, "state": "failed"})

    def file(name: str) -> None:
        raise ConnectionError("gone")

    run.file = file
    [found] = read_remote_runs(Api(run), "me", "zoo")
    with pytest.raises(ConnectionError):
        _ = found.predictions


def test_runs_are_asked_for_by_sweep_or_group() -> None:
    api = Api(recorded())
    read_remote_runs(api, "me", "zoo", "grid")
    assert api.asked == {"$or": [{"sweep": "grid"}, {"group": "grid"}]}
    assert known_ids(api, "me", "zoo", ["1a2b", "other"]) == {"1a2b"}
    assert known_ids(api, "me", "elsewhere", ["1a2b"]) == set()
    with pytest.raises(ReportError, match="no project me/elsewhere"):
        read_remote_runs(api, "me", "elsewhere")
    with pytest.raises(ReportError, match="no runs in me/zoo of a sweep or group x"):
        read_remote_runs(Api(), "me", "zoo", "x")
