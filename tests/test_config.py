from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path

import pytest

from harness.config import GROUPS, RunConfig
from harness.errors import ConfigError
from harness.model.architectures import ARCHITECTURES
from harness.settings.model import MODELS, NAMED_WEIGHTS
from harness.settings.option import value_type


def test_every_problem_is_said_at_once_in_terms_of_the_options() -> None:
    with pytest.raises(ConfigError) as error:
        RunConfig(data="images", lr=math.nan, batch_size=0, model="vit", augment="strong", drop_path=1.0)
    assert error.value.exit_code == 2
    assert [problem.split()[0] for problem in error.value.problems] == [
        "--augment",
        "--model",
        "--drop-path",
        "--lr",
        "--batch-size",
    ]
    assert "--lr is nan; it must be a finite number above 0, at most 1000000." in error.value.problems
    assert "--batch-size is 0; it must be a finite number at least 1, at most 1000000." in error.value.problems
    with pytest.raises(ConfigError, match=r"--seed is 2147483648; .* at most 2147483647"):
        RunConfig(data="images", seed=2**31)
    assert (
        "--augment is 'strong'; it must be one of none, standard, randaugment, trivialaugment, augmix, autoaugment."
        in error.value.problems
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "vit_s_16"}, "--weights imagenet does not exist for --model vit_s_16 (only for vit_b_16, vit_b_32,"),
        ({"epochs": 5, "warmup_epochs": 6.0}, "--warmup-epochs 6 is longer than the training itself (--epochs 5)."),
        ({"name": "../up"}, "--name '../up' becomes a folder name"),
        ({"lr": "1e-4"}, "--lr is '1e-4'; it takes a value of type float."),
        ({"ema": 1}, "--ema is 1; it takes a value of type bool."),
        ({"name": "x" * 101}, "--name 'xxx"),
        ({"crop_pct": 0.01}, "--crop-pct is 0.01; it must be a finite number at least 0.1, at most 1."),
        ({"data": " "}, "--data is empty"),
        ({"data": "a\0b"}, "--data is 'a\\x00b'; it must be UTF-8 without null characters."),
        (
            {"runs_dir": os.fsdecode(b"caf\xe9")},
            "--runs-dir is 'caf\\udce9'; it must be UTF-8 without null characters.",
        ),
        (
            {"data": "~unknown-user/a"},
            "--data ~unknown-user/a: there is no home folder ~unknown-user on this machine; give the whole",
        ),
        (
            {"weights": "~unknown-user/a.pth"},
            "--weights ~unknown-user/a.pth: there is no home folder ~unknown-user on this machine",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        RunConfig(**{"data": "images"} | changes)
    assert str(error.value).startswith(message)


def test_weights_that_are_not_there_are_an_error_for_a_run_but_not_for_its_checkpoint() -> None:
    config = RunConfig(data="images", weights="nowhere.pth")
    assert RunConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ConfigError, match=r"--weights nowhere\.pth is neither a file nor one of imagenet, "):
        config.resolved()


@pytest.mark.parametrize(
    ("weights", "code"), [("nowhere.pth", 1), ("folder/nowhere", 1), ("/dev/null", 1), ("imagnet", 2)]
)
def test_a_missing_weights_file_is_a_problem_of_the_disk_and_a_misspelt_name_one_of_the_command(
    weights: str, code: int
) -> None:
    with pytest.raises(ConfigError, match=f"--weights {weights} is n") as error:
        RunConfig(data="images", weights=weights).resolved()
    assert error.value.exit_code == code


def test_a_whole_number_is_a_float_where_one_is_wanted() -> None:
    assert type(RunConfig(data="images", lr=1).lr) is float


def test_the_name_tells_what_a_sweep_varies() -> None:
    assert RunConfig(data="images", recipe="study").run_name == "lr1e-05_bs16_none_s0"
    assert (
        RunConfig(data="images", lr=0.1, batch_size=64, augment="standard", seed=3).run_name == "lr0.1_bs64_standard_s3"
    )


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("p(", "is not a regular expression: missing ), unterminated subpattern at position 1."),
        ("patient", r"has no group (...) that names the group of an image, as in 'patient(\d+)'."),
    ],
)
def test_split_group_is_a_pattern_with_a_group(pattern: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig(data="images", split_group=pattern)
    assert str(caught.value) == f"--split-group {pattern!r} {why}"


def test_identity_follows_what_is_computed_and_not_where(tmp_path: Path) -> None:
    for field in dataclasses.fields(RunConfig):
        config = RunConfig(data="images")
        if field.name in ("lora_alpha", "lora_targets"):
            config = dataclasses.replace(config, lora_rank=4)  # without LoRA, they do not count
        value = getattr(config, field.name)
        kind, _ = value_type(field)
        other = {str: "vit_l_16" if field.name == "model" else "elsewhere", bool: not value, int: 32, float: 0.25}[kind]
        if field.metadata["choices"] and field.name != "model":
            other = next(choice for choice in field.metadata["choices"] if choice != value)
        if field.name in ("weights", "explain"):
            other = "none"
        if field.name == "split_group":
            other = "(elsewhere)"
        if field.name in ("mean", "std"):
            other = "0.25"
        changed = dataclasses.replace(config, **{field.name: other})
        assert (changed.identity != config.identity) == field.metadata["identity"], field.name
    kept_out = {field.name for field in dataclasses.fields(RunConfig) if not field.metadata["identity"]}
    assert kept_out == {
        "recipe",
        "cache_dir",
        "workers",
        "micro_batch",
        "threads",
        "runs_dir",
        "project",
        "group",
        "tags",
        "log_every",
        "checkpoint_every",
        "checkpoint_minutes",
        "explain",
        "explain_layer",
        "verify",
        "fresh",
    }


def test_settings_of_later_versions_leave_the_identity_of_earlier_runs() -> None:
    # The folder of a run has its identity in its name: with another one the same command would not resume it.
    assert RunConfig(data="images", recipe="study").identity == "7e37289e"
    assert RunConfig(data="images", recipe="study", lr=0.1, augment="standard").identity == "2566444a"
    settings = {field.name: field for field in dataclasses.fields(RunConfig)}
    added = {"class_weights": "none", "sampler": "shuffle", "logit_adjust": 0.0, "split_group": None, "shuffle": "full"}
    for name, value in added.items():
        assert settings[name].metadata["earlier"] == settings[name].default == value
    config = RunConfig(data="images")
    assert dataclasses.replace(config, split_group=r"p(\d+)").identity != config.identity


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"class_weights": "balanced", "sampler": "balanced"}, "--class-weights balanced and --sampler balanced"),
        ({"class_weights": "effective", "logit_adjust": 1}, "--class-weights effective and --logit-adjust 1"),
        ({"sampler": "balanced", "logit_adjust": 0.5}, "--sampler balanced and --logit-adjust 0.5"),
    ],
)
def test_one_correction_of_class_imbalance_is_enough(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError) as error:
        RunConfig(**{"data": "images"} | changes)
    assert error.value.problems == (f"{named} correct the same class imbalance more than once; give one of them.",)
    # Weights of the user's own may have another reason.
    assert RunConfig(data="images", class_weights="costs.csv", sampler="balanced").sampler == "balanced"


def test_resolved_paths_mean_the_same_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some.pth").touch()
    monkeypatch.chdir(tmp_path)
    config = RunConfig(data="images", weights="some.pth").resolved()
    assert config.data == str(tmp_path / "images")
    assert config.weights == str(tmp_path / "some.pth")
    assert config.runs_dir == str(tmp_path / "runs")
    assert RunConfig(data="images").resolved().weights == "imagenet"


def test_a_saved_config_comes_back_and_unknown_settings_are_named() -> None:
    config = RunConfig(data="images", epochs=3)
    assert RunConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ConfigError, match="unknown settings later"):
        RunConfig.from_dict(config.to_dict() | {"later": 1})


def test_models_and_weights_name_what_exists() -> None:
    assert set(ARCHITECTURES) == set(MODELS)
    assert {model for models in NAMED_WEIGHTS.values() for model in models} == set(MODELS)


def test_a_model_of_timm_is_allowed_beside_the_choices() -> None:
    config = RunConfig(data="x", model="timm:test_vit", weights="none")
    assert RunConfig.from_dict(config.to_dict()).model == "timm:test_vit"
    with pytest.raises(ConfigError, match="--model"):
        RunConfig(data="x", model="timm:", weights="none")


def test_every_field_says_what_it_is() -> None:
    for field in dataclasses.fields(RunConfig):
        assert field.metadata["help"].endswith((".", "]")), field.name


def test_the_groups_of_the_help_hold_every_setting_once_and_in_its_order() -> None:
    grouped = [field.name for group in GROUPS.values() for field in dataclasses.fields(group)]
    assert grouped == [field.name for field in dataclasses.fields(RunConfig)]
