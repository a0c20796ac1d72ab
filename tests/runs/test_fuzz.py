"""Every field of every file that is read, with values of wrong types: one sentence each, or a page that names them."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from harness.config import RunConfig
from harness.errors import HarnessError
from harness.explain import standalone
from harness.explain.drawing.plots import head_plots
from harness.explain.drawing.study_figures import finished_runs
from harness.explain.localization import on_object
from harness.model.new_model import new_model
from harness.runs.attention_files import Archive, PositionArchive, read_archive
from harness.runs.evidence_file import read_claims, read_map_scores
from harness.runs.folder import RunFolder
from harness.runs.sprite_files import read_sprites
from harness.training import checkpoint
from harness.training.state import TrainState
from reports.collection import collect
from reports.page import build
from reports.runs import read_run
from reports.stats.leaderboard import leaderboard
from reports.stats.leaderboard_table import render
from tests.helpers.built_models import loaded_model
from tests.helpers.explained_runs import write_explained_run
from tests.helpers.pages import Page
from tests.runs.test_evidence_file import CENTRE, CLAIM, GAIN

WRONG: list[Any] = [
    None,
    True,
    -1,
    0,
    0.5,
    1e308,
    float("nan"),
    10**400,
    "text",
    "",
    "\x1b[2J",
    [],
    [None],
    {},
    {"a": []},
]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every field of a JSON value, those inside objects and the first of each list included."""
    items = value.items() if isinstance(value, dict) else list(enumerate(value))[:1] if isinstance(value, list) else ()
    for key, part in items:
        yield (*path, key)
        yield from places(part, (*path, key))


def mutants(value: dict[str, Any], at_once: int = 1) -> Iterator[tuple[str, dict[str, Any]]]:
    """The object with a field of another value, or without it, for every field; each with a name.

    `at_once`: fields of one object that are changed; they lie far apart. Each field takes each value once.
    """
    changes = [(path, wrong) for path in places(value) for wrong in [*WRONG, KeyError]]
    count = -(-len(changes) // at_once)
    for first in range(count):
        mutant, names = copy.deepcopy(value), []
        for path, wrong in changes[first::count]:
            parent: Any = mutant
            for key in path[:-1]:
                parent = parent[key]
            if wrong is not KeyError:
                parent[path[-1]] = copy.deepcopy(wrong)
            elif isinstance(parent, dict):
                del parent[path[-1]]
            names.append(f"{'.'.join(map(str, path))} = {wrong!r:.20}")
        yield "; ".join(names), mutant


def is_refused_or_used(work: Callable[[], Any], name: str) -> bool:
    """Whether it ended with one sentence; any other error fails the test."""
    try:
        work()
    except HarnessError as error:
        sentences = error.problems
    except Exception as error:
        raise AssertionError(f"{name}: {type(error).__name__}: {error}") from error
    else:
        return False
    assert len(sentences) == 1 and "\n" not in sentences[0], name
    return True


def config_of(data: Path = Path("data"), **changes: Any) -> RunConfig:
    return RunConfig(
        data=str(data), model="vit_demo", weights="none", image_size=32, crop_pct=1.0, threads=1, **changes
    )


@pytest.fixture
def best(tmp_path: Path) -> Path:
    """The best checkpoint of a run of three classes."""
    loaded = loaded_model("vit_demo", num_classes=3, weights="none", image_size=32)
    path = tmp_path / "run" / "checkpoints" / "best.safetensors"
    scores = {"best/epoch": 1, "best/val_f1": 0.5, "best/val_loss": 1.0, "best/val_accuracy": 0.5}
    checkpoint.save_best(path, loaded.model.state_dict(), config_of(), ("a", "b", "c"), loaded.preprocessing, scores)
    return path


def test_metadata_of_the_best_checkpoint(best: Path) -> None:
    tensors, metadata = checkpoint.load_tensors(best)
    refused = {True: 0, False: 0}
    built: dict[tuple[Any, ...], Any] = {}  # building a model takes milliseconds; the same one is built only once
    for name, mutant in mutants(metadata):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpoint, "load_tensors", lambda *_, mutant=mutant: (tensors, mutant))
            patch.setattr(checkpoint, "new_model", lambda *key: cached(built, key))
            refused[is_refused_or_used(lambda: checkpoint.load_best(best), name)] += 1
            refused[is_refused_or_used(lambda: checkpoint.best_scores(best), name)] += 1
    assert refused[True] > 300 and refused[False] > 300


def cached(built: dict[tuple[Any, ...], Any], key: tuple[Any, ...]) -> Any:
    if key not in built:
        built[key] = new_model(*key)
    return built[key]


@pytest.fixture
def state() -> TrainState:
    loaded = loaded_model("vit_demo", num_classes=3, weights="none", image_size=32)
    state = TrainState(loaded.model, config_of(ema=True), Accelerator(cpu=True))
    loaded.model(torch.zeros(1, 3, 32, 32)).sum().backward()
    state.optimizer.step()
    state.progress.best = {"best/epoch": 1.0, "best/val_f1": 0.5}
    state.progress.last_losses = [1.0]
    return state


def test_the_state_to_resume_from(state: TrainState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = {"data": "d", "weights": "w"}
    path = tmp_path / "state.safetensors"
    checkpoint.save_tensors(path, state.tensors(), state.metadata(origin))
    tensors, metadata = checkpoint.load_tensors(path)
    state.restore(path, origin)
    for name, mutant in mutants(metadata):
        monkeypatch.setattr("harness.training.state.load_tensors", lambda _, mutant=mutant: (tensors, mutant))
        if not is_refused_or_used(lambda: state.restore(path, origin), name):
            progress = dataclasses.asdict(state.progress)
            if progress["micro_batch_limit"] is None:  # of an earlier version
                del progress["micro_batch_limit"]
            assert all(type(value) in (int, float, dict, list) for value in progress.values()), name
            assert all(value >= 0 for value in progress.values() if not isinstance(value, dict | list)), name
    wrong: dict[str, dict[str, torch.Tensor]] = {
        "none": {},
        "too few": {key: value for key, value in tensors.items() if not key.endswith("class_token")},
        "another shape": {key: torch.zeros(2) for key in tensors},
        "another optimiser": {key: value for key, value in tensors.items() if not key.startswith("optimizer")}
        | {"optimizer.x.step": torch.zeros(1)},
        "no average": {key: value for key, value in tensors.items() if not key.startswith("average")},
    }
    for name, values in wrong.items():
        monkeypatch.setattr("harness.training.state.load_tensors", lambda _, values=values: (values, metadata))
        assert is_refused_or_used(lambda: state.restore(path, origin), name), name


def test_settings_of_the_attention(tmp_path: Path) -> None:
    """`harness explain --redraw` draws from them."""
    path = write_explained_run(tmp_path / "run") / "attention" / "attention.npz"
    with np.load(path) as content:
        arrays = dict(content)
    rule = {"resize_size": 32, "crop_size": 32, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [1] * 3}
    settings = json.loads(str(arrays["settings"])) | {"root": str(tmp_path), "preprocessing": rule}
    drawn: set[str] = set()  # drawing takes a second: once for each value of the settings that figures use

    def redraw(mutant: dict[str, Any]) -> None:
        np.savez(path, **(arrays | {"settings": np.array(json.dumps(mutant))}))
        archive = read_archive(path, Archive)
        try:
            standalone._recorded_images(archive, None)
        except ValueError as error:
            raise HarnessError(str(error)) from error
        on_object(archive, tmp_path)
        sizes = repr([archive.settings[name] for name in ("patch_size", "image_size")])
        if sizes not in drawn:
            drawn.add(sizes)
            head_plots(archive)

    assert not is_refused_or_used(functools.partial(redraw, settings), "as written")
    refused = [is_refused_or_used(functools.partial(redraw, mutant), name) for name, mutant in mutants(settings)]
    assert sum(refused) > 50


def test_numbers_of_the_positions(tmp_path: Path) -> None:
    path = write_explained_run(tmp_path / "run") / "attention" / "positions.npz"
    with np.load(path) as content:
        arrays = dict(content)
    numbers = json.loads(str(arrays["numbers"]))

    def read(mutant: dict[str, Any]) -> None:
        np.savez(path, **(arrays | {"numbers": np.array(json.dumps(mutant))}))
        read_archive(path, PositionArchive)

    refused = [is_refused_or_used(functools.partial(read, mutant), name) for name, mutant in mutants(numbers)]
    assert sum(refused) > 30


def test_arrays_of_a_wrong_type_or_shape(tmp_path: Path) -> None:
    attention = write_explained_run(tmp_path / "run") / "attention"
    for file, kind in (("attention.npz", Archive), ("positions.npz", PositionArchive)):
        path = attention / file
        with np.load(path) as content:
            arrays = dict(content)
        for name, array in arrays.items():
            for wrong in (
                np.array(["text"] * max(1, array.size)).reshape(array.shape),
                np.zeros(0),
                array.astype(object).astype("S") if array.dtype.kind == "U" else array.astype(complex),
                array[None],
                array[:0] if array.ndim else np.array(3),
                np.array(b"\xff"),
            ):
                np.savez(path, **(arrays | {name: wrong}))
                what = f"{file}: {name} {wrong.dtype} {wrong.shape}"
                is_refused_or_used(lambda path=path, kind=kind: read_archive(path, kind), what)


@pytest.mark.parametrize("file", ["config.json", "manifest.json", "summary.json"])
def test_a_page_and_a_leaderboard_of_runs_with_wrong_fields(tmp_path: Path, file: str) -> None:
    run = write_explained_run(tmp_path / "runs" / "run")
    manifest = {
        "started": "2025-01-01T00:00:00",
        "command": "harness train",
        "arguments": ["--data=x", "--lr=0.001"],
        "data": {"root": "x", "images": {"train": 6}, "classes": 3, "fingerprint": "f", "skipped": [], "notes": []},
        "git": {"commit": "c", "dirty": False, "changed": []},
        "hardware": {"gpus": ["g"], "cpu": "c", "cores": 2, "memory": 3},
        "versions": {"torch": "2", "python": "3.11"},
        "weights": {"source": "none", "digest": "d", "report": ["New head."]},
        "problems": {"attention maps": "They could not be drawn."},
        "notes": ["note"],
        "ignored_files": {"hidden": 1},
        "earlier_starts": ["2025-01-01"],
    }
    more = {"manifest.json": manifest, "config.json": config_of().to_dict()}
    values = json.loads((run / file).read_text()) | more.get(file, {})
    shutil.rmtree(run / "attention")  # the arrays are tested above
    names = {}
    for number, (name, mutant) in enumerate(mutants(values, at_once=4)):
        folder = tmp_path / "runs" / f"{number:04}"
        shutil.copytree(run, folder, copy_function=shutil.copyfile)
        (folder / file).write_text(json.dumps(mutant))
        names[folder.name] = name
    assert len(names) > 25
    runs = [read_run(folder) for folder in sorted((tmp_path / "runs").iterdir())]
    for one in runs:
        assert all("\n" not in problem for problem in one.problems), names.get(one.name)
    render(leaderboard(runs, metric="best/val_f1", goal="maximize"))
    page = Page(build.build(tmp_path / "runs", gallery=0, tables=("csv", "latex", "markdown")))
    assert page.text_of("")
    assert all(run.label for run in finished_runs(tmp_path / "runs"))
    assert len(collect(tmp_path / "runs").rows) == len(names) + 1


def test_claims_and_map_scores_of_the_evidence(tmp_path: Path) -> None:
    maps = {"relevance": GAIN, "centre": CENTRE}
    evidence = {"claims": [CLAIM], "results": {"faithfulness": {"n": 9, "maps": maps}}}
    refused = []
    for name, mutant in mutants(evidence):
        (tmp_path / "evidence.json").write_text(json.dumps(mutant))
        for read in (read_claims, read_map_scores):
            refused.append(is_refused_or_used(functools.partial(read, tmp_path), name))
    assert 100 < sum(refused) < len(refused)


def test_rows_tables_and_sprites(tmp_path: Path) -> None:
    """Rows of metrics.jsonl are read by the run that resumes, too; the rest by the page alone."""
    run = write_explained_run(tmp_path / "runs" / "run")
    row = {"step": 3, "epoch": 1, "train/loss": 1.0, "train/images_per_second": 5.0, "val/loss": 1.0, "val/f1": 0.5}
    for number, (name, mutant) in enumerate(mutants(row)):
        folder = tmp_path / "runs" / f"row-{number:04}"
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(mutant) + "\n")
        read_run(folder).metric("val/f1")
        is_refused_or_used(functools.partial(RunFolder(folder).keep_metrics_until, 3, 1), name)
    for file in ("predictions.csv", "per_class.csv"):
        header, first, *rows = (run / file).read_text().splitlines()
        for number in range(len(first.split(","))):
            for place, wrong in enumerate(("text", "", "nan", "1e999", "\x1b[2J", '"', "a,b")):
                folder = shutil.copytree(run, tmp_path / "runs" / f"{file}-{number}-{place}")
                changed = [wrong if index == number else value for index, value in enumerate(first.split(","))]
                (folder / file).write_text("\n".join([header, ",".join(changed), *rows]) + "\n")
                assert "\n" not in read_run(folder).predictions.problem
    sprites = json.loads((run / "attention" / "sprites" / "sprites.json").read_text())
    for name, mutant in mutants(sprites):
        (run / "attention" / "sprites" / "sprites.json").write_text(json.dumps(mutant))
        is_refused_or_used(functools.partial(read_sprites, run, 3), name)
    assert Page(build.build(tmp_path / "runs", gallery=2)).text_of("")
