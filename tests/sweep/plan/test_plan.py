"""`harness sweep plan`: the list of trials, and estimates computed by hand from invented runs."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from harness.config import RunConfig
from harness.errors import ConfigError, DataError, HarnessError
from harness.sweep.plan import benchmark as benchmark_module
from harness.sweep.plan import estimate as estimate_module
from harness.sweep.plan import plan as plan_module
from harness.sweep.plan.estimate import (
    Cost,
    ImageCounts,
    about_bytes,
    about_time,
    state_bytes,
    sweep_seconds,
    trial_seconds,
)
from harness.sweep.plan.plan import plan, render
from harness.sweep.plan.throughput import Throughput, throughput_of_runs
from harness.sweep.search.settings import Search
from harness.sweep.search.trial_queue import TrialQueue
from harness.sweep.session import check_inputs
from harness.sweep.spec.sweep_file import Sweep, read_sweep
from reports.runs import read_runs
from tests.helpers.earlier_ledgers import as_earlier_version

CONFIG = RunConfig(data="images", recipe="study", model="vit_demo", weights="demo", epochs=4)

HEAD = "program: harness/run.py\nmetric: {name: best/val_f1, goal: maximize}\n"
COMMAND = (
    "command:\n- python\n- ${program}\n- --recipe=study\n- --data=DATA\n- --model=vit_demo\n- --weights=demo\n"
    "- --epochs=4\n- ${args}\n"
)
GRID = (
    HEAD + "method: grid\nparameters:\n  lr: {values: [0.1, 0.001]}\n  augment: {values: [none, standard]}\n" + COMMAND
)


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes; 10 images to train with, 4 to validate, 6 to test."""
    root = tmp_path_factory.mktemp("images")
    for split, count in (("train", 5), ("valid", 2), ("test", 3)):
        for index, name in enumerate(("cat", "dog")):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                colour = (10 * number, 80 * index, sum(map(ord, split)) % 256)
                Image.new("RGB", (8, 8), colour).save(root / split / name / f"{number}.png")
    return root


def write_run(folder: Path, **changes: Any) -> None:
    """A finished run of CONFIG: 50 images a second, 20 s of training and 30 s in all, 900 images scored."""
    config = CONFIG.to_dict() | {"data": "elsewhere"}
    manifest = {
        "device": "cpu",
        "processes": 1,
        "threads": 1,
        "earlier_starts": [],
        "hardware": {"cpu": "Z80", "cores": 2, "gpus": []},
        "data": {"images": {"train": 250, "val": 200, "test": 100}},
    }
    summary = {"state": "finished", "train/images_per_second": 50.0, "seconds/train": 20.0, "seconds/total": 30.0}
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "best.safetensors").write_bytes(bytes(2_000_000))
    for name, content in (("config", config), ("manifest", manifest), ("summary", summary)):
        changed = content | {key: value for key, value in changes.items() if key in content}
        (folder / f"{name}.json").write_text(json.dumps(changed))


@pytest.fixture(autouse=True)
def on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate_module, "count_gpus", lambda environment: 0)
    monkeypatch.setattr(estimate_module, "usable_cores", lambda: 1)
    monkeypatch.setattr(benchmark_module, "SECONDS", 1e-9)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


def sweep_of(tmp_path: Path, data_folder: Path | str, text: str = GRID, *overrides: str) -> Sweep:
    path = tmp_path / "search.yaml"
    path.write_text(text.replace("DATA", str(data_folder)))
    return read_sweep(path, overrides)


def test_throughput_of_an_earlier_run(tmp_path: Path) -> None:
    write_run(tmp_path / "one")
    throughput = throughput_of_runs(read_runs(tmp_path), CONFIG, "cpu", "runs")
    # 4 x 200 + 100 images are scored at 150 per second: 6 s of the 10 s outside training.
    assert throughput == Throughput(
        training=50,
        scoring=150,
        overhead_seconds=pytest.approx(4.0),
        checkpoint=2_000_000,
        source="1 finished run of vit_demo in runs: 50 images per second in training, on Z80, 2 cores",
        files=sum(path.stat().st_size for path in (tmp_path / "one").glob("*.json")),
        threads=1,
    )


def test_only_similar_runs_count(tmp_path: Path) -> None:
    def speed(**settings: Any) -> float | None:
        throughput = throughput_of_runs(read_runs(tmp_path), dataclasses.replace(CONFIG, **settings), "cpu", "runs")
        return throughput.training if throughput else None

    assert speed() is None
    for name, changes in {
        "gpu": {"device": "cuda"},
        "failed": {"state": "failed"},
        "frozen": {"freeze": "backbone"},
        "large": {"image_size": 128},
        "other": {"weights": "none"},
        "silent": {"train/images_per_second": None},
    }.items():
        write_run(tmp_path / name, **changes)
    assert speed() is None
    write_run(tmp_path / "sweep" / "two-processes", **{"processes": 2, "train/images_per_second": 60.0})
    assert speed() == 30
    write_run(tmp_path / "a", **{"train/images_per_second": 40.0})
    write_run(tmp_path / "b", **{"train/images_per_second": 80.0})
    assert speed() == 40  # the median
    assert speed(batch_size=64) == 40
    write_run(tmp_path / "batch", **{"train/images_per_second": 90.0, "batch_size": 64})
    assert (speed(batch_size=64), speed(batch_size=32), speed(batch_size=16)) == (90, 60, 40)
    assert (speed(image_size=128), speed(freeze="backbone"), speed(weights="none")) == (50, 50, 50)
    assert speed(lora_rank=4) is None
    write_run(tmp_path / "lora", **{"lora_rank": 4, "train/images_per_second": 70.0})
    assert (speed(lora_rank=4), speed(lora_rank=8), speed()) == (70, None, 40)


def test_an_interrupted_run_has_no_overhead(tmp_path: Path) -> None:
    write_run(tmp_path / "one", earlier_starts=["2026-01-01"])
    throughput = throughput_of_runs(read_runs(tmp_path), CONFIG, "cpu", "runs")
    assert throughput and (throughput.training, throughput.overhead_seconds) == (50, 0.0)


def test_the_seconds_of_a_trial_add_up() -> None:
    throughput = Throughput(training=50, scoring=150, overhead_seconds=4, checkpoint=None, source="")
    assert trial_seconds(CONFIG, ImageCounts(250, 200, 100, 10), throughput) == pytest.approx(20 + 6 + 4)


@pytest.mark.parametrize(
    ("trials", "workers", "busy", "seconds"),
    [
        ([10, 20, 30], 1, 0, 60),
        ([10, 20, 30], 2, 0, 40),  # 10 then 30, beside 20
        ([10, 20, 30], 5, 0, 30),
        ([10, 20, 30], 3, 1, 60),  # each computes on all cores
        ([10, 20, 30], 1, 0.5, 60),
        ([10, 20, 30], 2, 0.5, 40),
        ([10, 20, 30], 3, 0.6, 36),
    ],
)
def test_the_seconds_of_a_sweep_depend_on_workers(
    trials: list[float], workers: int, busy: float, seconds: float
) -> None:
    assert sweep_seconds(trials, workers, busy) == pytest.approx(seconds)


def test_disk_space_counts_checkpoints_and_states() -> None:
    adamw, sgd = CONFIG, dataclasses.replace(CONFIG, optimizer="sgd")
    assert (state_bytes(adamw, 100), state_bytes(sgd, 100)) == (300, 200)
    assert state_bytes(dataclasses.replace(CONFIG, ema=True), 100) == 400
    cost = Cost(0, 0, workers=2, cores=2, threads=2, checkpoint=100, state=300, sources=())
    assert cost.disk(12, None) == (1200, 1200 + 600)
    assert cost.disk(12, 3) == (300, 300 + 2 * 100 + 600)
    assert cost.disk(1, 3) == (100, 100 + 300)
    # Ten bytes of figures and tables per trial.
    assert dataclasses.replace(cost, files=10).disk(12, 3) == (300 + 120, 300 + 2 * 100 + 600 + 120)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 s"),
        (7.6, "8 s"),
        (33, "35 s"),
        (59, "1 min"),
        (200, "3 min"),
        (2500, "40 min"),
        (3600 * 1.6, "1.5 h"),
        (3600 * 9, "9 h"),
        (3600 * 30, "30 h"),
        (86400 * 6.6, "7 days"),
    ],
)
def test_estimated_times_are_rounded(seconds: float, text: str) -> None:
    assert about_time(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(3_300_000, "3.3 MB"), (343e6, "340 MB"), (1.04e9, "1 GB"), (22e12, "22 TB"), (0, "0 MB")]
)
def test_estimated_sizes_have_two_digits(count: float, text: str) -> None:
    assert about_bytes(count) == text


def test_plan_from_earlier_runs(tmp_path: Path, data_folder: Path) -> None:
    write_run(tmp_path / "runs" / "one")
    result = plan(sweep_of(tmp_path, data_folder), Search(), runs_dir=tmp_path / "runs", probe=False)
    # 4 epochs of 10 images at 50 per second, 4 x 4 + 6 images scored at 150, and 4 s of overhead.
    assert result.cost and result.cost.trial_seconds == pytest.approx(0.8 + 22 / 150 + 4)
    assert result.cost.seconds == pytest.approx(4 * result.cost.trial_seconds)
    lines = render(result).splitlines()
    assert lines[0] == f"{tmp_path}/search.yaml: no problems. 4 trials, method grid, best/val_f1 maximised."
    assert [line.split() for line in lines[1:6]] == [
        ["trial", "augment", "lr", "run"],
        ["0", "none", "0.1", "augment=none_lr=0.1_s0"],
        ["1", "none", "0.001", "augment=none_lr=0.001_s0"],
        ["2", "standard", "0.1", "augment=standard_lr=0.1_s0"],
        ["3", "standard", "0.001", "augment=standard_lr=0.001_s0"],
    ]
    assert lines[6:] == [
        "time   about 20 s with 1 worker; about 5 s per trial",
        f"       measured in 1 finished run of vit_demo in {tmp_path}/runs: 50 images per second in training, "
        "on Z80, 2 cores",
        "disk   about 8 MB at the end, 14 MB at most: checkpoints of 2 MB, all are kept; --keep K keeps the best K",
    ]


def test_plan_with_workers_and_keep(tmp_path: Path, data_folder: Path) -> None:
    write_run(tmp_path / "runs" / "one")
    text = render(
        plan(sweep_of(tmp_path, data_folder), Search(), runs_dir=tmp_path / "runs", probe=False, workers=3, keep=2)
    )
    assert "with 3 workers" in text
    # Two kept checkpoints and three running trials, but four trials in all: 4 checkpoints, and 3 states of 6 MB.
    assert "disk   about 4 MB at the end, 26 MB at most: checkpoints of 2 MB, the best 2 are kept" in text


@pytest.mark.parametrize(
    ("threads", "cores", "workers", "seconds", "line"),
    [
        (1, 2, 1, 20, "a trial computes on 1 of the 2 cores: --workers 2 trains 2 trials at a time"),
        (1, 2, 2, 10, None),
        (1, 2, 3, 10, "a trial computes on 1 of the 2 cores: more workers than 2 save no time"),
        (2, 2, 1, 20, None),
        (2, 3, 2, 15, None),  # 2/3 of the seconds, rounded as estimates are
        (2, 2, 2, 20, "a trial computes on 2 of the 2 cores: more workers than 1 save no time"),
        (1, 32, 1, 20, "a trial computes on 1 of the 32 cores: --workers 4 trains 4 trials at a time"),
        (None, 32, 2, 20, "a trial computes on 32 of the 32 cores: more workers than 1 save no time"),
    ],
)
def test_a_plan_says_how_many_workers_save_time_on_a_cpu(
    threads: int | None,
    cores: int,
    workers: int,
    seconds: int,
    line: str | None,
    tmp_path: Path,
    data_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of four trials of about 5 s; by a run of an earlier version, the number of threads is not known."""
    monkeypatch.setattr(estimate_module, "usable_cores", lambda: cores)
    write_run(tmp_path / "runs" / "one", threads=threads)
    swept = sweep_of(tmp_path, data_folder)
    result = plan(swept, Search(), runs_dir=tmp_path / "runs", probe=False, workers=workers)
    time, *others = render(result).splitlines()[6:-1]
    assert time.startswith(f"time   about {seconds} s with {workers} worker")
    assert [other.strip() for other in others[:-1]] == ([line] if line else [])


def test_plan_with_a_benchmark(tmp_path: Path, data_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = GRID.replace("lr: {values: [0.1, 0.001]}", "batch_size: {values: [2, 4]}\n  threads: {value: 1}")
    result = plan(sweep_of(tmp_path, data_folder, text), Search(), runs_dir=tmp_path / "none")
    assert result.cost
    announced = capsys.readouterr().err
    assert announced.count("measuring its speed in a few steps on random pixels") == 1
    [source] = result.cost.sources  # with --threads, both batch sizes share one benchmark
    # Of 8 images on a machine where a step of 2 is quick.
    assert re.match("a benchmark: 1 training step of vit_demo on [28] random images of 64 px, ", source)
    assert result.cost.trial_seconds > 0
    # The demo's 6 layers of width 128, and a head for two classes: 4 bytes each.
    width, mlp = 128, 256
    layer = 4 * width * width + 4 * width + 2 * width * mlp + width + mlp + 4 * width
    around = 3 * 8 * 8 * width + width + width + 65 * width + 2 * width + 2 * width + 2
    assert result.cost.checkpoint == 4 * (6 * layer + around)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("step", [0.01, 0.3, 0.59, 2.5])
def test_a_benchmark_takes_under_three_seconds(step: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of two images that take so long."""
    spent: list[float] = []

    def seconds(work: Any, device: Any) -> float:
        spent.append(step)
        return spent[-1]

    monkeypatch.setattr(benchmark_module, "SECONDS", 1.0)
    monkeypatch.setattr(benchmark_module, "_seconds", seconds)
    throughput = benchmark_module.measure(CONFIG, 2)
    assert sum(spent) < 3
    assert throughput.training == pytest.approx((8 if step < 0.1 else 2) / step)


def test_a_busy_machine_is_named_beside_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark_module.os, "getloadavg", lambda: (7.0, 0, 0))
    assert "; other programs used the CPU (load 7.0 on " in benchmark_module.measure(CONFIG, 2).source
    monkeypatch.setattr(benchmark_module.os, "getloadavg", lambda: (0.0, 0, 0))
    uneven = iter([0.1, 0.2, 0.5, 0.1, *[0.1] * 40])
    monkeypatch.setattr(benchmark_module, "_seconds", lambda work, device: next(uneven))
    monkeypatch.setattr(benchmark_module, "MAX_STEPS", 2)
    monkeypatch.setattr(benchmark_module, "SECONDS", 1.0)
    throughput = benchmark_module.measure(CONFIG, 2)
    assert throughput.training == pytest.approx(2 / 0.2)  # the fastest
    unequal = "; the steps took unequal times, so that the time may be wrong by more than a factor of 2"
    assert throughput.source.endswith(unequal)


def test_a_step_that_was_slow_because_it_compiled_is_not_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the first step on a GPU, which loads kernels."""
    seconds = iter([9.0, *[0.1] * 40])
    monkeypatch.setattr(benchmark_module, "_seconds", lambda work, device: next(seconds))
    throughput = benchmark_module.measure(dataclasses.replace(CONFIG, compile=True), 2)
    assert throughput.training == pytest.approx(2 / 0.1)


def test_trials_of_the_ledger_are_named_and_not_estimated(tmp_path: Path, data_folder: Path) -> None:
    write_run(tmp_path / "runs" / "one")
    sweep, search = sweep_of(tmp_path, data_folder), Search()
    (tmp_path / "runs" / "search").mkdir()
    queue = TrialQueue.open(sweep, search, tmp_path / "runs" / "search", None, check_inputs(sweep, search))
    for state in ("finished", "failed"):
        claimed = queue.claim()
        assert claimed
        queue.end(claimed, state, value=0.5 if state == "finished" else None)
    grown = sweep_of(tmp_path, data_folder, GRID.replace("[0.1, 0.001]", "[0.1, 0.001, 0.5]"))
    result = plan(grown, Search(), runs_dir=tmp_path / "runs", probe=False)
    assert result.states == ("finished", "failed", "new", "waiting", "waiting", "new")
    assert result.cost and result.cost.seconds == pytest.approx(4 * result.cost.trial_seconds)
    text = render(result)
    assert "queue  4 of 6 trials are in the trial queue: 1 finished, 1 failed, 2 waiting" in text
    assert "with 1 worker for the 4 that are left; about" in text
    assert ["0", "none", "0.1", "finished", "augment=none_lr=0.1_s0"] in [line.split() for line in text.splitlines()]
    for _ in range(2):
        claimed = queue.claim()
        assert claimed
        queue.end(claimed, "finished", value=0.5)
    done = plan(sweep_of(tmp_path, data_folder), Search(), runs_dir=tmp_path / "runs", probe=False)
    with pytest.raises(HarnessError, match="--storage nowhere://x cannot be opened"):
        plan(sweep, Search(), runs_dir=tmp_path / "runs", probe=False, storage="nowhere://x")
    assert done.cost is None and done.notes == ("All trials have ended: nothing is left to run.",)


def contents_below(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize("content", [None, b""])
@pytest.mark.parametrize("storage", [None, "sqlite:///{}/x.db", "{}/deep/journal.log"])
def test_a_plan_leaves_a_lost_ledger_as_it_is(
    content: bytes | None, storage: str | None, tmp_path: Path, data_folder: Path
) -> None:
    """Or `run` would take the new, empty one for the ledger and train every trial again."""
    sweep, storage = sweep_of(tmp_path, data_folder), storage and storage.format(tmp_path)
    file = Path((storage or f"{tmp_path}/runs/search/study.db").removeprefix("sqlite:///"))
    (tmp_path / "runs" / "search").mkdir(parents=True)
    if content is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    before = contents_below(tmp_path)
    assert plan(sweep, Search(), runs_dir=tmp_path / "runs", probe=False, storage=storage).states == ()
    assert contents_below(tmp_path) == before
    write_run(tmp_path / "runs" / "search" / "one")
    before = contents_below(tmp_path)
    with pytest.raises(HarnessError, match=f"holds 1 run, but .* is {'missing' if content is None else 'empty'}"):
        plan(sweep, Search(), runs_dir=tmp_path / "runs", probe=False, storage=storage)
    assert contents_below(tmp_path) == before


def test_a_plan_knows_removed_trials_and_ledgers_of_an_earlier_version(tmp_path: Path, data_folder: Path) -> None:
    """`run` queues the removed ones again."""
    sweep, search, folder = sweep_of(tmp_path, data_folder), Search(), tmp_path / "runs" / "search"
    folder.mkdir(parents=True)
    queue = TrialQueue.open(sweep, search, folder, None, check_inputs(sweep, search))
    claimed = queue.claim()
    assert claimed
    queue.end(claimed, "finished", value=0.5)
    smaller = sweep_of(tmp_path, data_folder, GRID.replace("[0.1, 0.001]", "[0.1]"))
    TrialQueue.open(smaller, search, folder, None, check_inputs(smaller, search))
    sweep = sweep_of(tmp_path, data_folder)
    result = plan(sweep, Search(), runs_dir=tmp_path / "runs", probe=False)
    assert (result.states, result.left) == (("finished", "new", "waiting", "new"), 3)

    TrialQueue.open(sweep, search, folder, None, check_inputs(sweep, search))
    as_earlier_version(folder / "study.db")
    states = plan(sweep, Search(), runs_dir=tmp_path / "runs", probe=False).states
    assert states == ("finished", "waiting", "waiting", "waiting")


def test_plan_without_images(tmp_path: Path) -> None:
    result = plan(sweep_of(tmp_path, "nowhere"), Search(), runs_dir=tmp_path)
    assert result.cost is None
    assert render(result).endswith("note   The folder nowhere does not exist, so time and disk are unknown.")


def test_plan_without_a_measurement(tmp_path: Path, data_folder: Path) -> None:
    text = render(plan(sweep_of(tmp_path, data_folder), Search(), runs_dir=tmp_path / "none", probe=False))
    problem = f"{tmp_path}/none holds no finished run of vit_demo on this machine, so time and disk are unknown."
    assert f"note   {problem}" in text


def test_plan_of_a_random_search(tmp_path: Path) -> None:
    text = HEAD + "method: random\nrun_cap: 3\nparameters:\n  lr: {min: 0.1, max: 0.2}\n" + COMMAND
    sweep = sweep_of(tmp_path, "nowhere", text)
    three, five = (plan(sweep, Search(count), runs_dir=tmp_path) for count in (None, 5))
    assert (three.trials, five.trials) == (3, 5)
    assert five.points[:3] == three.points
    assert plan(sweep, Search(seed=1), runs_dir=tmp_path).points != three.points
    with pytest.raises(ConfigError, match="--count"):
        plan(dataclasses.replace(sweep, run_cap=None), Search(), runs_dir=tmp_path)


def test_plan_of_a_bayesian_search(tmp_path: Path, data_folder: Path) -> None:
    write_run(tmp_path / "runs" / "one")
    parameters = (
        "parameters:\n  lr: {distribution: log_uniform_values, min: 0.001, max: 0.1}\n  augment: {values: [none]}\n"
    )
    early = "early_terminate: {type: hyperband, min_iter: 1}\n"
    sweep = sweep_of(tmp_path, data_folder, HEAD + "method: bayes\nrun_cap: 7\n" + parameters + early + COMMAND)
    result = plan(sweep, Search(), runs_dir=tmp_path / "runs", probe=False)
    assert result.points == result.names == ()
    assert result.cost and result.cost.seconds == pytest.approx(7 * result.cost.trial_seconds)
    text = render(result)
    assert [line.split() for line in text.splitlines()[2:4]] == [
        ["augment", "categorical", "none"],
        ["lr", "log_uniform_values", "0.001", "to", "0.1"],
    ]
    assert "minus the savings of early termination" in text


def test_unusual_settings_of_a_valid_file_are_pointed_out(tmp_path: Path) -> None:
    text = (
        HEAD
        + "method: random\nrun_cap: 30\nearly_terminate: {type: hyperband, min_iter: 4}\n"
        + "parameters:\n  augment: {values: [none, standard]}\n"
        + COMMAND.replace("- python\n", "- accelerate\n- launch\n- --mixed_precision=fp16\n")
    )
    notes = plan(sweep_of(tmp_path, "nowhere", text), Search(), runs_dir=tmp_path).notes
    assert notes[0] == "28 of the random trials repeat the settings of another trial, as with W&B."
    assert notes[1] == (
        "early_terminate has no effect: it first compares runs at epoch 4, and no run is longer than 4 epochs."
    )
    assert notes[2].startswith("--mixed_precision before ${program} has an effect only with W&B's agents.")
    rate = "  lr: {distribution: log_uniform, min: 1.0e-5, max: 0.1}\n"
    text = HEAD + "method: random\nrun_cap: 3\nparameters:\n" + rate + COMMAND
    [note, _] = plan(sweep_of(tmp_path, "nowhere", text), Search(), runs_dir=tmp_path).notes
    assert "its values are between 1 and 1.11. To give values, use log_uniform_values." in note


def test_a_disk_that_is_too_small(tmp_path: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "runs" / "one")
    free = type("usage", (), {"free": 10_000_000})
    monkeypatch.setattr(plan_module.shutil, "disk_usage", lambda path: free)
    result = plan(sweep_of(tmp_path, data_folder), Search(), runs_dir=tmp_path / "runs", probe=False)
    assert result.notes == (f"{tmp_path}/runs has only 10 MB free. Keep fewer checkpoints: --keep K.",)


def test_problems_that_prevent_a_sweep(tmp_path: Path, data_folder: Path) -> None:
    wrong = GRID.replace("[none, standard]", "[none, nonee]").replace("0.1, 0.001", "-0.1, -1")
    with pytest.raises(ConfigError) as error:
        plan(sweep_of(tmp_path, data_folder, wrong), Search(), runs_dir=tmp_path)
    assert [problem.removeprefix(f"{tmp_path}/search.yaml: ")[:12] for problem in error.value.problems] == [
        "Trials 0 and",
        "Trials 1 and",
        "Trials 2 and",
    ]
    with pytest.raises(ConfigError, match=r"--weights no.pth is neither a file"):
        plan(sweep_of(tmp_path, data_folder, GRID, "--weights=no.pth"), Search(), runs_dir=tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        plan(sweep_of(tmp_path, tmp_path / "empty"), Search(), runs_dir=tmp_path)


def test_an_invalid_value_makes_its_trials_infeasible(tmp_path: Path) -> None:
    text = GRID.replace("[none, standard]", "[none, nonee]")
    result = plan(sweep_of(tmp_path, "nowhere", text), Search(), runs_dir=tmp_path)
    names = ["augment=none_lr=0.1_s0", "augment=none_lr=0.001_s0", "infeasible", "infeasible"]
    assert list(result.names) == names
    assert result.notes[0].startswith("infeasible: Trials 2 and 3: --augment is 'nonee'; it must be one of none")
    assert render(result).startswith(f"{tmp_path}/search.yaml: 2 of 4 trials are infeasible. 4 trials, method grid")


def test_whole_limits_of_a_fraction_are_pointed_out(tmp_path: Path) -> None:
    text = HEAD + "method: random\nrun_cap: 3\nparameters:\n  mixup: {min: 0, max: 1}\n" + COMMAND
    note = plan(sweep_of(tmp_path, "nowhere", text), Search(), runs_dir=tmp_path).notes[0]
    assert note == (
        "mixup: min 0 and max 1 are whole numbers, so that W&B draws whole numbers only (int_uniform). For fractions, "
        "write 0.0 and 1.0."
    )


def test_a_long_list_is_shortened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "MAX_ROWS", 3)
    lines = render(plan(sweep_of(tmp_path, "nowhere"), Search(), runs_dir=tmp_path)).splitlines()
    assert [line.split()[0] for line in lines[2:6]] == ["0", "1", "2", "+"]
    assert lines[5].split() == ["+", "1"]
