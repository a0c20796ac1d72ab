"""The sweep files in `sweeps/`: a real W&B agent starts the same runs as this package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args, load_sweep_config

from harness.config import RunConfig
from harness.options import parse
from harness.sweep.search.grid import check_points, grid_points, probe_points, random_points
from harness.sweep.spec.sweep_file import Sweep, read_sweep
from tests import ROOT

FILES = sorted((ROOT / "sweeps").glob("*.yaml"))

LAUNCH = ["/usr/bin/env", "accelerate", "launch", "--config_file", "accelerate_config.yaml", "harness/run.py"]


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


def points_of(sweep: Sweep) -> list[dict[str, Any]]:
    """All points of a grid or a random search; many points of a Bayesian search, including its ends."""
    if sweep.method == "grid":
        return grid_points(sweep)
    return random_points(sweep, sweep.run_cap or 0, seed=0) if sweep.method == "random" else probe_points(sweep)


def command_of_agent(content: dict[str, Any], point: dict[str, Any]) -> list[str]:
    """The command line of a trial, from functions of W&B's client. The server sends the point as JSON."""
    received = {name: {"value": value} for name, value in json.loads(json.dumps(point)).items()}
    macros = create_sweep_command_args({"args": received})
    macros |= {"env": ["/usr/bin/env"], "interpreter": ["python"], "program": [content["program"]]}
    words: list[str] = []
    for word in map(str, create_sweep_command(list(content["command"]))):
        words += macros.get(word[2:-1], []) if word.startswith("${") and word.endswith("}") else [word]
    return words


def test_five_sweep_files_are_shipped() -> None:
    assert [path.stem for path in FILES] == ["bayes", "demo", "finetune", "grid", "random"]


def test_searches_for_new_data_are_around_the_recipe_finetune() -> None:
    for name in ("bayes", "finetune", "random"):
        sweep = read_sweep(ROOT / "sweeps" / f"{name}.yaml")
        assert {sweep.config(point).recipe for point in points_of(sweep)} == {"finetune"}, name
    sweep = read_sweep(ROOT / "sweeps" / "finetune.yaml")
    recipe = RunConfig(data="data/sports100", weights="imagenet")
    configs = [sweep.config(point) for point in grid_points(sweep)]
    assert recipe in configs
    swept = {"lr", "layer_decay", "augment"}
    for config in configs:
        assert {name for name, value in config.to_dict().items() if recipe.to_dict()[name] != value} <= swept


def test_the_agent_starts_the_same_runs(path: Path) -> None:
    sweep, content = read_sweep(path), load_sweep_config(str(path))
    assert content
    points = points_of(sweep)
    checked = check_points(sweep, points)
    assert (checked.problems, checked.equal) == ([], [])
    for point in points:
        words = command_of_agent(content, point)
        assert words[:6] == LAUNCH
        config = parse(words[6:])
        assert config == sweep.config(point)
        assert {name: getattr(config, name) for name in point} == point
    assert (ROOT / LAUNCH[4]).is_file()
    assert (ROOT / LAUNCH[5]).is_file()


def test_fixed_settings_can_be_overridden(path: Path) -> None:
    words = ("--data", "my_images", "--model", "vit_ti_16", "--weights", "deit.pth", "--epochs=2")
    sweep = read_sweep(path, words)
    config = sweep.config(points_of(sweep)[0])
    assert (config.data, config.model, config.weights, config.epochs) == ("my_images", "vit_ti_16", "deit.pth", 2)


def test_each_file_optimises_the_validation_score(path: Path) -> None:
    sweep = read_sweep(path)
    assert (sweep.metric.name, sweep.metric.goal) == ("best/val_f1", "maximize")
    assert sweep.method == "grid" or sweep.run_cap


def test_each_file_begins_with_its_purpose_and_commands(path: Path) -> None:
    text = path.read_text()
    head = text[: text.index("program:")]
    assert all(line.startswith("#") for line in head.splitlines())
    for part in (
        f"wandb sweep sweeps/{path.name}",
        f"harness sweep run sweeps/{path.name}",
        "Hardware",
        "Time",
        "Result",
    ):
        assert part in head


def test_the_grid_holds_the_five_settings_of_the_study() -> None:
    sweep = read_sweep(ROOT / "sweeps" / "grid.yaml")
    configs = [sweep.config(point) for point in grid_points(sweep)]
    settings = {(config.lr, config.batch_size, config.augment) for config in configs}
    assert len(configs) == len(settings) == 12
    assert settings >= {
        (1e-5, 16, "none"),
        (1e-3, 16, "standard"),
        (1e-1, 16, "standard"),
        (1e-5, 16, "standard"),
        (1e-5, 64, "standard"),
    }
    defaults = RunConfig(data="x", recipe="study")
    for config in configs:
        assert (config.data, config.epochs) == ("data/sports100", 5)
        assert (config.model, config.weights, config.optimizer) == (
            defaults.model,
            defaults.weights,
            defaults.optimizer,
        )


def test_the_demo_trains_on_the_scenes_of_make_demo() -> None:
    sweep = read_sweep(ROOT / "sweeps" / "demo.yaml")
    # W&B's order, of which run_cap takes the first six.
    configs = [sweep.config(point) for point in grid_points(sweep)[: sweep.run_cap]]
    assert [(config.lr, config.augment, config.head_init) for config in configs] == [
        (3e-4, "none", "zero"),
        (1e-1, "none", "zero"),
        (3e-4, "none", "probe"),
        (1e-1, "none", "probe"),
        (3e-4, "standard", "zero"),
        (1e-1, "standard", "zero"),
    ]
    assert {(config.data, config.model, config.weights, config.epochs) for config in configs} == {
        ("demo/data", "vit_demo", "demo", 5)
    }


def test_the_bayesian_search_compares_runs_before_their_end() -> None:
    sweep = read_sweep(ROOT / "sweeps" / "bayes.yaml")
    assert sweep.early_terminate
    config = sweep.config(probe_points(sweep)[0])
    assert [band for band in sweep.early_terminate.bands if band < config.epochs] == [2, 4, 8]
