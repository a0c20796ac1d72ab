from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from harness import train
from harness.cli import main
from harness.config import RunConfig
from harness.doctor.check import Check
from harness.errors import DataError
from harness.options import arguments
from harness.settings.option import option_name
from tests import ROOT
from tests.helpers.messy_folders import write_splits


def test_what_a_wandb_agent_emits_is_understood(fitted_configs: list[RunConfig]) -> None:
    arguments = ["--data=images", "--lr=1e-05", "--batch_size=16", "--augment=none", "--ema=True", "--compile=False"]
    result = CliRunner().invoke(main.run, [*arguments, "--_wandb={'sweep': 1}"])
    assert result.exit_code == 0, result.output
    assert fitted_configs == [RunConfig(data="images", lr=1e-5, batch_size=16, augment="none", ema=True, compile=False)]


def test_every_field_is_an_option_and_comes_back_from_its_own_arguments(
    fitted_configs: list[RunConfig], tmp_path: Path
) -> None:
    options = {name for parameter in main.run.params for name in parameter.opts}
    assert {option_name(field.name) for field in dataclasses.fields(RunConfig)} <= options
    config = RunConfig(data=str(tmp_path), weights="none", lr=3e-4, ema=True, fresh=True, tags="a,b", workers=3)
    assert CliRunner().invoke(main.run, arguments(config)).exit_code == 0
    assert fitted_configs == [config]


def test_a_flag_without_a_value_is_true(fitted_configs: list[RunConfig]) -> None:
    assert CliRunner().invoke(main.run, ["--ema", "--data", "my_images"]).exit_code == 0
    assert fitted_configs[0].ema is True


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data=images", "--learning-rate=1"], "No such option"),
        (["--data=images", "--batchsize=1"], "--batch-size"),
        (["--data=images", "--lr=small"], "'small' is not a valid float"),
        ([], "Missing option '--data'"),
        (["--data=images", "--lr=nan", "--batch-size=0"], "Error: --lr is nan"),
        (["--data=images", "--lr=nan", "--batch-size=0"], "Error: --batch-size is 0"),
    ],
)
def test_usage_errors_end_with_2_and_say_what_is_wrong(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main.run, arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def test_errors_of_data_end_with_1_and_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(_: RunConfig) -> None:
        raise DataError(["no class folders in x", "y.jpg is broken"])

    monkeypatch.setattr(train, "fit", fit)
    result = CliRunner().invoke(main.run, ["--data=images"])
    assert (result.exit_code, result.output) == (1, "Error: no class folders in x\nError: y.jpg is broken\n")


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    found = []
    for name, command in group.commands.items():
        found.append(((*path, name), command))
        if isinstance(command, click.Group):
            found += commands(command, (*path, name))
    return found


@pytest.mark.parametrize(
    ("path", "command"), commands(main.main), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_every_command_explains_itself(path: tuple[str, ...], command: click.Command) -> None:
    result = CliRunner().invoke(main.main, [*path, "--help"])
    assert result.exit_code == 0
    assert isinstance(command, click.Group) or f"harness {' '.join(path)}" in result.output, "an example"
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help, parameter.name


def test_help_groups_the_options_of_a_run_with_their_defaults() -> None:
    text = CliRunner().invoke(main.run, ["--help"]).output
    titles = ["Recipe:", "Data:", "Augmentation:", "Model:", "Optimisation:", "Compute:", "Run:"]
    assert sorted(titles, key=text.index) == titles
    for default in ("0.0001; study: 1e-05", "10% of --epochs; study: 0.0", "16", "imagenet"):
        assert f"[default: {default}]" in " ".join(text.split())
    assert "vit_b_16|vit_b_32" in text
    assert "wandb" not in text.split("Run:")[0].lower()


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from harness.cli.main import main\n"
        "try: main(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'torchvision', 'numpy', 'wandb', 'accelerate', 'matplotlib'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_run_py_works_from_anywhere_and_is_not_shadowed(tmp_path: Path) -> None:
    # A folder of files named like packages, and no project on the path.
    (tmp_path / "harness.py").write_text("raise SystemExit('wrong harness')")
    environment: dict[str, Any] = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, "-S", "-c", "print()"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=True,
    )
    result = subprocess.run(
        [sys.executable, str(ROOT / "harness" / "run.py"), "--data=images", "--lr=-1"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert result.returncode == 2
    assert result.stderr.startswith("Error: --lr is -1.0")


def test_train_checks_the_folder_before_it_starts_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.launch.launch.launch", lambda *_, **__: pytest.fail("launched"))
    result = CliRunner().invoke(main.main, ["train", "--data", str(tmp_path / "nowhere"), "--weights", "none"])
    assert result.exit_code == 1
    assert "nowhere" in result.output


def test_train_launches_the_same_run(data_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    launched: list[tuple[list[str], int | None]] = []
    lists: list[dict[str, Any]] = []

    def launch(arguments: list[str], *, num_processes: int | None, env: dict[str, str]) -> int:
        launched.append((arguments, num_processes))
        lists.append(json.loads(Path(env["HARNESS_IMAGE_FOLDER"]).read_text()))
        assert env["HOME"] == os.environ["HOME"]
        return 7

    monkeypatch.setattr("harness.launch.launch.launch", launch)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(
        main.main, ["train", "--data", str(data_folder), "--weights", "none", "--lr", "0.5", "--num-processes", "2"]
    )
    assert result.exit_code == 7
    config = RunConfig(data=str(data_folder), weights="none", lr=0.5).resolved()
    assert launched == [(arguments(config), 2)]
    # The run takes the list that the command has checked, if it is of the same settings.
    assert lists[0]["settings"] == [str(data_folder), 0, 0.2, None, None]
    assert lists[0]["splits"]["val"][0][0] == "valid/class 0/000.png"
    assert {f"--data={data_folder}", "--weights=none", "--lr=0.5", f"--runs-dir={tmp_path}/runs"} <= set(launched[0][0])


def test_data_check_prints_json(data_folder: Path) -> None:
    result = CliRunner().invoke(main.main, ["data", "check", str(data_folder), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)


def test_data_check_finds_groups_in_two_splits(tmp_path: Path) -> None:
    write_splits(tmp_path, "train", "valid", "test")
    result = CliRunner().invoke(main.main, ["data", "check", str(tmp_path), "--split-group", r"/(\d+)\.png"])
    assert result.exit_code == 1
    assert "problem: Groups of --split-group are in two splits (4)" in result.output
    assert "00: train/cat/00.png, valid/cat/00.png, test/cat/00.png" in result.output
    result = CliRunner().invoke(main.main, ["data", "check", str(tmp_path), "--split-group", "cat"])
    assert result.exit_code == 2
    assert "--split-group 'cat' has no group (...)" in result.output


def test_doctor_prints_json_and_fails_if_a_check_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = [Check("GPU", "ok", "none"), Check("torch", "fail", "import torch: broken", "Install it again.")]
    for expected, exit_code in ((checks[:1], 0), (checks, 1)):
        monkeypatch.setattr("harness.doctor.examination.examine", lambda runs_dir, cache_dir, result=expected: result)
        result = CliRunner().invoke(main.main, ["doctor", "--json"])
        assert result.exit_code == exit_code
        assert json.loads(result.stdout) == [dataclasses.asdict(check) for check in expected]


@pytest.mark.parametrize("words", [[], ["data"], ["sweep"]])
def test_a_list_of_commands_cuts_no_sentence(words: list[str]) -> None:
    text = CliRunner().invoke(main.main, [*words, "--help"], terminal_width=80).output
    commands = text.partition("Commands:")[2].splitlines()[1:]
    assert len(commands) > 3
    assert all(line.endswith(".") and not line.endswith("...") for line in commands), text
