from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.config import RunConfig
from harness.run_name import MOST, naming_by, sweep_run_name


def named(swept: tuple[str, ...], **settings: Any) -> str:
    with naming_by(swept):
        return RunConfig(**{"data": "images", "recipe": "study", **settings}).run_name


def test_trials_are_named_by_what_the_sweep_sets() -> None:
    assert named(("lr", "ema"), ema=True) == "ema=true_lr=1e-05_s0"
    assert named(("lr", "ema", "seed"), seed=3) == "ema=false_lr=1e-05_s3"
    assert named(("seed",), seed=2) == "s2"
    # What an earlier version gave one name to.
    sets = {"weights": ("none", "a/deit.pth", "b/dino.pth"), "head_init": ("zero", "probe")}
    assert [named((name,), **{name: value}) for name, values in sets.items() for value in values] == [
        "weights=none_s0",
        "weights=deit.pth_s0",
        "weights=dino.pth_s0",
        "head_init=zero_s0",
        "head_init=probe_s0",
    ]


def test_outside_a_sweep_names_are_as_before() -> None:
    assert RunConfig(data="images", recipe="study").run_name == "lr1e-05_bs16_none_s0"
    assert named(("lr",), name="mine") == "mine"


@pytest.mark.parametrize("value", ["../../etc/passwd", "a b/\x1b[2J", "..", "ü" * 40, "x" * 300, "", None, 1e-300])
def test_values_cannot_leave_the_folder(value: Any) -> None:
    name = sweep_run_name({"data": value, "lr": 1e-5, "seed": 0}, ("data", "lr"))
    assert re.fullmatch(r"[\w.=+-]{1,80}", name, re.ASCII)
    assert name.startswith("data=") and name.endswith("_lr=1e-05_s0")


def test_a_long_name_is_cut_and_stays_different() -> None:
    names = [f"setting_number_{number}" for number in range(12)]
    one, other = (sweep_run_name({**dict.fromkeys(names, 0.123), "seed": seed}, names) for seed in (0, 1))
    assert len(one) == len(other) == MOST
    assert one != other


def test_a_run_of_an_agent_has_the_name_that_the_runner_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B's agent writes the settings of the run to a file."""
    file = tmp_path / "config-abc.yaml"
    content = {"wandb_version": 1, "lr": {"desc": None, "value": 1e-5}, "batch-size": {"value": 16}}
    file.write_text(yaml.safe_dump(content))
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(file))
    assert RunConfig(data="images", recipe="study").run_name == "batch_size=16_lr=1e-05_s0"
    assert named(("lr", "batch_size")) == "batch_size=16_lr=1e-05_s0"
    for number, damaged in enumerate(("{", "- a", "\x00")):
        (tmp_path / f"{number}").write_text(damaged)
        monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(tmp_path / f"{number}"))
        assert RunConfig(data="images", recipe="study").run_name == "lr1e-05_bs16_none_s0"
