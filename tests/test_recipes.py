"""Recipes are defaults and nothing else: what they hold, what takes precedence, and what earlier versions meant."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.config import RunConfig
from harness.errors import ConfigError
from harness.options import arguments, parse
from harness.recipes import FINETUNE, RECIPES, STUDY, Derived, default_text, notes
from harness.sweep.search.grid import grid_points
from harness.sweep.spec.sweep_file import read_sweep
from harness.train import fit
from tests import ROOT
from tests.test_train import settings

# config.json of the last version without recipes, all settings at its defaults.
EARLIER = {
    **{"data": "photos", "image_size": None, "crop_pct": None, "bad_images": "fail", "split_fraction": 0.2},
    **{"split_seed": 0, "cache_dir": None, "workers": None, "augment": "none", "color_jitter": 0.4},
    **{"random_erasing": 0.0, "mixup": 0.0, "cutmix": 0.0, "label_smoothing": 0.0, "model": "vit_b_16"},
    **{"weights": "imagenet", "freeze": "none", "head_init": "zero", "drop_path": 0.0, "epochs": 5, "lr": 1e-05},
    **{"batch_size": 16, "optimizer": "adamw", "weight_decay": 0.01, "momentum": 0.9, "layer_decay": 1.0},
    **{"schedule": "constant", "warmup_epochs": 0.0, "clip_grad": 0.0, "ema": False, "ema_decay": 0.999, "seed": 0},
    **{"precision": "auto", "micro_batch": None, "grad_checkpointing": False, "compile": False},
    **{"deterministic": False, "threads": None, "runs_dir": "runs", "name": None, "project": None, "group": None},
    **{"tags": None, "log_every": 10, "checkpoint_every": 0, "checkpoint_minutes": 10.0, "explain": "all"},
    **{"explain_layer": None, "fresh": False},
}
# Explaining is capped since, which changes no score: up to 2,000 test images the two are the same.
UNSCORED = {"explain": "auto"}
CHANGED = {"lr": 3e-4, "epochs": 3, "schedule": "cosine", "warmup_epochs": 0.5, "ema": True, "augment": "standard"}


def test_the_study_is_what_versions_without_recipes_computed() -> None:
    study = RunConfig(data="photos", recipe="study")
    expected = EARLIER | {"recipe": "study", "patience": 0, "crop_area": 0.08} | UNSCORED
    assert {name: getattr(study, name) for name in expected} == expected
    assert RunConfig.from_dict(EARLIER | UNSCORED) == study


def test_runs_of_earlier_versions_keep_their_names_and_identities() -> None:
    """The digits are those that the earlier version computed."""
    config = RunConfig.from_dict(EARLIER)
    assert (config.run_name, config.identity) == ("lr1e-05_bs16_none_s0", "69ed9030")
    changed = RunConfig.from_dict(EARLIER | CHANGED | {"head_init": "probe"})
    assert (changed.run_name, changed.identity) == ("lr0.0003_bs16_standard_s0", "cecfcaf9")
    # The name of the recipe is not part of it; its values are.
    values = {name: getattr(config, name) for name in FINETUNE}
    assert RunConfig(data="photos", recipe="finetune", **values).identity == "69ed9030"
    assert RunConfig(data="photos").identity != "69ed9030"
    for name, value in {"patience": 1, "crop_area": 0.5}.items():
        assert dataclasses.replace(config, **{name: value}).identity != "69ed9030"


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_is_given_takes_precedence_and_the_rest_is_the_recipes(recipe: str) -> None:
    plain = RunConfig(data="images", recipe=recipe)
    for name, value in RECIPES[recipe].items():
        assert getattr(plain, name) == (value.of(vars(plain)) if isinstance(value, Derived) else value), name
    changed = RunConfig(data="images", recipe=recipe, **CHANGED)
    differing = {name for name, value in plain.to_dict().items() if changed.to_dict()[name] != value}
    assert differing == {name for name, value in CHANGED.items() if getattr(plain, name) != value}
    assert {name: getattr(changed, name) for name in CHANGED} == CHANGED


def test_recipes_decide_the_same_settings() -> None:
    by_recipe = {field.name for field in dataclasses.fields(RunConfig) if field.metadata["by_recipe"]}
    assert set(FINETUNE) == set(STUDY) == by_recipe


def test_values_follow_the_settings_they_depend_on() -> None:
    assert [RunConfig(data="images", epochs=epochs).warmup_epochs for epochs in (1, 3, 10)] == [0.1, 0.3, 1.0]
    pretrained, new = RunConfig(data="images", freeze="backbone"), RunConfig(data="images", weights="none")
    assert (pretrained.head_init, new.head_init) == ("probe", "default")
    assert new.layer_decay == 1.0
    assert notes(pretrained.to_dict()) == []
    assert notes(RunConfig(data="images", recipe="study", weights="none").to_dict()) == []
    [note] = notes(new.to_dict())
    assert note.startswith("--weights none has no features to probe: the head starts from PyTorch's default.")


def test_problems_of_a_recipe_are_reported_with_the_others() -> None:
    with pytest.raises(ConfigError) as error:
        RunConfig(data="images", recipe="finetuned", epochs="many", lr=-1.0)  # type: ignore[arg-type]
    assert error.value.problems[0] == "--recipe is 'finetuned'; it must be one of finetune, study."
    assert [problem.split()[0] for problem in error.value.problems] == ["--recipe", "--epochs", "--lr"]
    with pytest.raises(ConfigError, match=r"--recipe is \[\]"):
        RunConfig.from_dict(EARLIER | {"recipe": []})
    with pytest.raises(ConfigError, match="--lr is None; a saved run has a value"):
        RunConfig.from_dict(EARLIER | {"lr": None})


@pytest.mark.parametrize("changes", [{}, CHANGED, {"weights": "none"}, {"epochs": 3, "head_init": "zero"}])
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_config_comes_back_from_its_arguments_and_its_file(recipe: str, changes: dict[str, Any]) -> None:
    config = RunConfig(data="images", recipe=recipe, **changes)
    assert parse(arguments(config)) == config
    assert RunConfig.from_dict(config.to_dict()) == config
    # Also where a later version has other values.
    assert {f"--{name.replace('_', '-')}={getattr(config, name)}" for name in FINETUNE} <= set(arguments(config))


def test_the_command_line_is_the_same_as_python(
    fitted_configs: list[RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    monkeypatch.setenv("HARNESS_SWEEP_ARGS", "--epochs=4")
    for line in (["--data=images"], ["--data=images", "--lr=0.5", "--recipe=study"]):
        assert CliRunner().invoke(main.run, line).exit_code == 0
    # What a sweep chose and what HARNESS_SWEEP_ARGS adds take precedence over the recipe, wherever it stands.
    assert fitted_configs == [
        RunConfig(data="images", epochs=4),
        RunConfig(data="images", recipe="study", lr=0.5, epochs=4),
    ]


def test_a_default_of_several_recipes_is_legible() -> None:
    assert default_text("lr") == f"{FINETUNE['lr']}; study: 1e-05"
    assert default_text("batch_size") == "16"
    assert default_text("warmup_epochs") == "10% of --epochs; study: 0.0"


def test_the_grid_of_the_study_computes_what_it_did() -> None:
    sweep = read_sweep(ROOT / "sweeps" / "grid.yaml")
    for point in grid_points(sweep):
        assert sweep.config(point) == RunConfig.from_dict(EARLIER | UNSCORED | {"data": "data/sports100", **point})


def test_the_demo_computes_what_it_did() -> None:
    sweep = read_sweep(ROOT / "sweeps" / "demo.yaml")
    fixed = {"data": "demo/data", "model": "vit_demo", "weights": "demo", "schedule": "cosine"}
    for point in grid_points(sweep):
        assert sweep.config(point) == RunConfig.from_dict(EARLIER | UNSCORED | fixed | point)


def test_a_plain_run_records_its_recipe_and_starts_from_the_probe(data_folder: Path, tmp_path: Path) -> None:
    small = {"data": str(data_folder), "runs_dir": str(tmp_path), "threads": 1, "explain": "none", "epochs": 1}
    run = fit(RunConfig(**small, model="vit_demo", weights="demo", image_size=64))
    config = json.loads((run.folder / "config.json").read_text())
    assert (config["recipe"], config["head_init"], config["warmup_epochs"]) == ("finetune", "probe", 0.1)
    assert config == RunConfig.from_dict(config).to_dict()
    assert "probe/gain" in run.summary
    manifest = json.loads((run.folder / "manifest.json").read_text())
    assert parse(manifest["arguments"]) == RunConfig.from_dict(config)


def test_without_pretrained_weights_a_run_states_where_its_head_starts(
    data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fit(settings(data_folder, tmp_path, recipe="finetune", epochs=1))
    [sentence] = notes(json.loads((run.folder / "config.json").read_text()))
    assert sentence in capsys.readouterr().out
    assert sentence in json.loads((run.folder / "manifest.json").read_text())["notes"]
    assert not [key for key in run.summary if key.startswith("probe/")]
