"""Sweep files: how they are read, and the error messages."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from harness.errors import ConfigError
from harness.sweep.spec.command import DEFAULT, launcher_words, named_settings, read_command, run_words
from harness.sweep.spec.metric import Hyperband, Metric
from harness.sweep.spec.sweep_file import Sweep, read_sweep
from harness.sweep.spec.yaml_text import number_in_text

GOOD: dict[str, Any] = {
    "program": "harness/run.py",
    "method": "grid",
    "metric": {"name": "best/val_f1", "goal": "maximize"},
    "parameters": {"lr": {"values": [0.1, 0.01]}},
    "command": ["${env}", "python", "${program}", "--data=images", "${args}"],
}

HYPERBAND = {"type": "hyperband", "min_iter": 3}


def write(folder: Path, text: str = "", **changes: Any) -> Path:
    """A sweep file with this text, or GOOD with changed keys; None removes a key."""
    path = folder / "search.yaml"
    content = {key: value for key, value in (GOOD | changes).items() if value is not None}
    path.write_text(text or yaml.safe_dump(content))
    return path


def problems_of(path: Path, overrides: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(ConfigError) as error:
        read_sweep(path, overrides)
    prefix = f"{path}: "
    assert all(problem.startswith(prefix) for problem in error.value.problems)
    return [problem.removeprefix(prefix) for problem in error.value.problems]


def test_all_keys_are_read(tmp_path: Path) -> None:
    more = {"name": "my sweep", "project": "p", "entity": "e", "description": "d", "run_cap": 7, "kind": "sweep"}
    path = write(tmp_path, **more, early_terminate=HYPERBAND, controller={"type": "cloud"}, apiVersion="1")
    sweep = read_sweep(path, ("--epochs", "3"))
    assert (sweep.name, sweep.project, sweep.entity, sweep.description, sweep.run_cap) == ("my sweep", "p", "e", "d", 7)
    assert sweep.method == "grid"
    assert sweep.metric == Metric("best/val_f1", "maximize")
    assert sweep.text == path.read_text()
    assert sweep.early_terminate == Hyperband((3, 9, 27, 81, *(3**n for n in range(5, 13))), 3, True)
    config = sweep.config({"lr": 0.01})
    assert (config.data, config.lr, config.epochs) == ("images", 0.01, 3)


def test_defaults_are_those_of_wandb(tmp_path: Path) -> None:
    sweep = read_sweep(write(tmp_path, metric=None, command=None))
    assert sweep.name == "search"
    assert sweep.metric == Metric("best/val_f1", "maximize")
    assert sweep.command == ("${env}", "${interpreter}", "${program}", "${args}")
    assert (sweep.early_terminate, sweep.run_cap, sweep.project) == (None, None, None)
    loss = read_sweep(write(tmp_path, metric={"name": "val/loss"}))
    assert loss.metric == Metric("val/loss", "minimize")


def test_parameters_are_sorted_by_their_names_in_the_file(tmp_path: Path) -> None:
    names = ("weight-decay", "batch_size", "lr", "augment")
    entries = {key: {"value": 1} for key in names} | {"augment": {"value": "none"}}
    sweep = read_sweep(write(tmp_path, parameters=entries))
    assert [parameter.name for parameter in sweep.parameters] == ["augment", "batch_size", "lr", "weight_decay"]


@pytest.mark.parametrize(
    ("early", "bands", "eta", "strict"),
    [
        # The two examples of W&B's documentation.
        ({"max_iter": 27, "s": 2}, (3, 9), 3, True),
        ({"min_iter": 3}, (3, 9, 27, 81), 3, True),
        ({"max_iter": 27, "s": 9, "eta": 3, "strict": False}, (1, 3, 9), 3, False),
        ({"min_iter": 1, "eta": 1.5}, (1, 2, 3, 5), 1.5, True),  # 1, 1.5, 2.25, 3.375, 5.06: each epoch once
        ({"max_iter": 100, "s": 3, "eta": 2.5}, (6, 16, 40), 2.5, True),
    ],
)
def test_the_bands_of_hyperband_are_those_of_wandb(
    tmp_path: Path, early: dict[str, Any], bands: tuple[int, ...], eta: float, strict: bool
) -> None:
    hyperband = read_sweep(write(tmp_path, early_terminate={"type": "hyperband", **early})).early_terminate
    assert hyperband is not None
    assert hyperband.bands[: 4 if "min_iter" in early else None] == bands
    assert (hyperband.eta, hyperband.strict) == (eta, strict)
    assert hyperband.bands[-1] <= 10**6


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"program": "train.py"}, "program is train.py; it must be harness/run.py."),
        ({"program": None}, "program is missing; it must be harness/run.py."),
        ({"method": None}, "method is missing; it must be grid, random or bayes."),
        ({"method": "gird"}, "method is gird"),
        ({"method": "custom"}, "method custom is not supported"),
        ({"parameters": None}, "parameters are missing"),
        ({"parameters": ["lr"]}, "parameters is a list"),
        ({"parameters": {1: {"value": 1}}}, "1 is not the name of a setting"),
        ({"parameters": {"batch_size": {"value": 1}, "batch-size": {"value": 1}}}, "parameters has batch_size twice"),
        ({"parameters": {"lr": {"min": 0.1, "max": 0.2}}}, "parameters.lr: W&B's grids do not support uniform"),
        (
            {"parameters": {"lr": {"values": [1, 2], "probabilities": [0.5, 0.5]}}},
            "W&B's grids do not support categorical_w_probabilities",
        ),
        ({"parameters": {"seed": {"min": 0, "max": 10**9}}}, "the grid has 1,000,000,001 points"),
        ({"metrik": 1}, "`metrik` is not a key of a W&B sweep file. Did you mean metric?"),
        ({"xyzzy": 1}, "`xyzzy` is not a key of a W&B sweep file. Keys are program, method"),
        ({"job": "x"}, "`job` is not supported: launch jobs need W&B's server."),
        ({"image_uri": "x"}, "`image_uri` is not supported"),
        ({"scheduler": {"engine": "optuna"}}, "`scheduler` is not supported: it needs W&B's server."),
        ({"metrics": []}, "`metrics` is not supported"),
        ({"controller": {"type": "local"}}, "`controller` is not supported"),
        ({"kind": "job"}, "kind is job"),
        ({"run_cap": 0}, "run_cap is 0; it must be a whole number of at least 1."),
        ({"run_cap": True}, "run_cap is true"),
        ({"name": 7}, "name is 7; it must be text. Put it in quotes."),
        ({"name": "../up"}, "cannot be a folder name"),
        ({"name": "trailing "}, "cannot be a folder name"),
        ({"project": 1.5}, "project is 1.5; it must be text"),
        ({"metric": "best/val_f1"}, "metric must have a name and a goal"),
        ({"metric": {"goal": "maximize"}}, "metric must have a name and a goal"),
        ({"method": "bayes", "metric": None}, "metric must have a name and a goal"),
        (
            {"metric": {"name": "test/f1", "goal": "maximize"}},
            "a sweep must not choose settings by test images.",
        ),
        ({"metric": {"name": "val_f1", "goal": "maximize"}}, "Did you mean val/f1?"),
        ({"metric": {"name": "speed"}}, "metric speed is not a metric that a sweep can optimise"),
        ({"metric": {"name": "best/val_f1"}}, "without a `goal`, W&B minimises it. Write `goal: maximize`."),
        ({"metric": {"name": "val/loss", "goal": "maximize"}}, "the goal is maximize. Write `goal: minimize`."),
        (
            {"metric": {"name": "best/val_f1", "goal": "maximize", "target": 0.9}},
            "metric.target is not supported: a sweep ends with its last trial.",
        ),
        ({"metric": {"name": "val/loss", "impute": "worst"}}, "metric.impute is not supported"),
        ({"early_terminate": {"type": "median"}}, "early_terminate must have `type: hyperband`"),
        ({"early_terminate": "hyperband"}, "early_terminate must have `type: hyperband`"),
        ({"early_terminate": {"type": "hyperband"}}, "early_terminate needs either min_iter"),
        ({"early_terminate": HYPERBAND | {"max_iter": 9, "s": 2}}, "early_terminate needs either min_iter"),
        ({"early_terminate": HYPERBAND | {"s": 2}}, "early_terminate.s needs max_iter instead of min_iter."),
        (
            {"early_terminate": HYPERBAND | {"min_iter": 0}},
            "early_terminate.min_iter must be a whole number",
        ),
        (
            {"early_terminate": {"type": "hyperband", "max_iter": 9}},
            "early_terminate.s must be a whole number",
        ),
        ({"early_terminate": {"type": "hyperband", "max_iter": 2, "s": 2}}, "compares runs at no epoch"),
        ({"early_terminate": HYPERBAND | {"eta": 1}}, "early_terminate.eta is 1; it must be a number above 1."),
        ({"early_terminate": HYPERBAND | {"strict": "yes"}}, "early_terminate.strict is yes"),
        ({"early_terminate": HYPERBAND | {"mn_iter": 1}}, "early_terminate.mn_iter is not a key of hyperband"),
        ({"early_terminate": HYPERBAND, "metric": None}, "early_terminate needs a `metric`"),
        ({"early_terminate": HYPERBAND, "metric": {"name": "train/loss"}}, "train/loss is logged more often"),
        ({"command": "python run.py"}, "command is python run.py; it must be a list"),
        ({"command": ["python", "${args}"]}, "command must have ${program} exactly once"),
        ({"command": ["python", "${program}", "--data=x"]}, "command must have one of ${args}"),
        ({"command": ["python", "${args}", "${program}"]}, "the settings must come after ${program}"),
        ({"command": ["accelerate launch", "${program}", "${args}"]}, "Make it several items: `- accelerate`"),
        ({"command": ["${program}", "--epochs 5", "${args}"]}, "'--epochs 5' is passed on as one word"),
        (
            {"command": ["${program}", "${interpreter}", "${args}"]},
            "Put it before ${program}.",
        ),
        ({"command": ["${program}", "${arg}", "${args}"]}, "${arg} is not a macro of W&B;"),
        ({"command": ["${program}", "--x=${args}", "${args}"]}, "W&B does not replace ${args} within a word"),
        ({"command": ["${program}", {"--epochs": 5}, "${args}"]}, "item 2 is a mapping"),
        (
            {"command": ["${program}", "${args_json}"]},
            "does not support ${args_json}: it does not read JSON.",
        ),
        ({"command": ["${program}", "${args_json_file}"]}, "it does not read JSON files"),
        ({"command": ["${program}", "${args_no_hyphens}"]}, "options need hyphens"),
        ({"command": ["${program}", "${args_append_hydra}"]}, "it does not use Hydra"),
        ({"command": ["${program}", "${args_override_hydra}"]}, "it does not use Hydra"),
        ({"command": ["${program}", "--data=${envvar:NO_SUCH_THING}", "${args}"]}, "Set NO_SUCH_THING."),
        ({"command": ["${program}", "--data=${envvar:lower}", "${args}"]}, "the name may have only capital letters"),
        (
            {"command": ["${program}", "--lr=1", "${args}"]},
            "lr is set twice: by --lr in `command` and",
        ),
        ({"command": ["${program}", "--epohs=1", "${args}"]}, "There is no option --epohs. Did you mean epochs?"),
        ({"command": ["${program}", "--fresh", "${args}"]}, "--fresh cannot be given for the trials of a sweep"),
        ({"command": ["${program}", "-h", "${args}"]}, "There is no option --h."),
    ],
)
def test_invalid_files(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    problems = problems_of(write(tmp_path, **changes))
    assert len(problems) == 1
    assert sentence in problems[0]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (("--lr", "0.3"), "--lr cannot be given for all trials, because this sweep varies lr."),
        (("--lr=0.3",), "--lr cannot be given for all trials"),
        (("--runs-dir=x",), "--runs-dir cannot be given for the trials of a sweep: the sweep keeps its runs"),
        (("--wieghts=x",), "Did you mean weights?"),
        (("--help",), "There is no option --help."),
    ],
)
def test_invalid_overrides(tmp_path: Path, overrides: tuple[str, ...], sentence: str) -> None:
    problems = problems_of(write(tmp_path), overrides)
    assert len(problems) == 1
    assert sentence in problems[0]


def test_a_metric_of_the_wrong_type_is_a_problem(tmp_path: Path) -> None:
    problems = problems_of(write(tmp_path, metric={"name": ["val/f1"]}, early_terminate=HYPERBAND, method=["grid"]))
    assert [problem.split()[0] for problem in problems] == ["method", "metric", "early_terminate"]


def test_constants_can_be_overridden(tmp_path: Path) -> None:
    sweep = read_sweep(write(tmp_path, parameters={"epochs": {"value": 5}, "lr": {"values": [1, 2]}}), ("--epochs=2",))
    assert sweep.config({"epochs": 5, "lr": 1}).epochs == 2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("method: grid\ncommand: [${env}, python, ${program}]\n", "line 2: YAML cannot read ${...} between [ and ]."),
        ("method: grid\nmethod: random\n", "line 2: method is there twice."),
        ("parameters:\n  lr:\n    min: 1\n    max: 2\n    min: 3\n", "line 5: min is there twice."),
        ("method: grid\n\tname: x\n", "line 2: found character '\\t' that cannot start any token. Indent with spaces"),
        ("method: [grid\nname: x\n", "line 2: expected ',' or ']'"),
        ("name: 2024-13-45\n", "invalid YAML: month must be in 1..12."),
        ("a: !!python/object:os.system x\n", "line 1: could not determine a constructor"),
        ("# nothing\n", "the file is empty."),
        ("- a\n- b\n", "a sweep file must be a mapping at its top level"),
        ("a: " + "[" * 5000 + "]" * 5000, "the YAML is nested too deeply"),
    ],
)
def test_invalid_yaml(tmp_path: Path, text: str, sentence: str) -> None:
    problems = problems_of(write(tmp_path, text))
    assert len(problems) == 1
    assert sentence in problems[0]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for file, problem in {
        tmp_path / "none.yaml": "There is no sweep file",
        tmp_path: "cannot be read: it is a folder, not a file",
        tmp_path / "pipe.yaml": "cannot be read: it is a named pipe, not a file",
        Path("/dev/zero"): "cannot be read: it is a device, not a file",
    }.items():
        with pytest.raises(ConfigError, match=problem) as error:
            read_sweep(file)
        assert error.value.exit_code == 1
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9\n")
    with pytest.raises(ConfigError, match="not text in UTF-8"):
        read_sweep(tmp_path / "latin.yaml")


def test_all_problems_at_once(tmp_path: Path) -> None:
    parameters = {"lr": {"values": ["1e-4"]}, "agument": {"value": "none"}, "mixup": {"min": 1, "max": 0}}
    path = write(tmp_path, program="x.py", parameters=parameters, metric={"name": "test/f1"}, run_cap=-1, job="j")
    problems = " ".join(problems_of(path))
    for part in ("program is", "1e-4 is text", "agument", "min is 1 and max is 0", "test/f1", "run_cap", "`job`"):
        assert part in problems


@pytest.mark.parametrize("text", ["1e-4", "5E5", "1e5", "1.5e3", "-2e-3", ".5e3", "1.e-4", "3", "0.5"])
def test_yaml_reads_the_suggested_number(text: str) -> None:
    advice = number_in_text(text)
    assert advice is not None
    number = yaml.safe_load(advice.removesuffix(", without quotes"))
    assert number == float(text)
    assert type(number) is (int if text == "3" else float)


@pytest.mark.parametrize("value", ["none", "1e", "e5", "standard", "1e-4x", 3, None, True, "", "0x10"])
def test_other_text_gets_no_suggestion(value: Any) -> None:
    assert number_in_text(value) is None


@pytest.mark.parametrize("macro", ["${args}", "${args_no_equals}", "${args_no_boolean_flags}"])
def test_macros_expand_as_in_the_real_agent(macro: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGES", "my images")
    point = {"augment": "none", "ema": True, "compile": False, "lr": 1e-05, "batch_size": 16, "mixup": 0.2}
    command = ["${env}", "python", "${program}", "--data=${envvar:IMAGES}/${envvar:IMAGES}", "--epochs", 3, macro]
    theirs = create_sweep_command_args({"args": {name: {"value": value} for name, value in point.items()}})
    words = [str(word) for word in create_sweep_command(list(command))]
    start, end = words.index("${program}") + 1, words.index(macro)
    ours = run_words(read_command(command), point)
    assert ours == words[start:end] + theirs[macro[2:-1]]
    assert ours[0] == "--data=my images/my images"
    config = Sweep(Path("x"), "", "x", "grid", Metric("val/f1", "maximize"), (), read_command(command)).config(point)
    assert (config.ema, config.compile, config.lr, config.mixup) == (True, False, 1e-05, 0.2)


def test_the_launcher_is_before_the_program() -> None:
    assert launcher_words(DEFAULT) == []
    command = read_command(["${env}", "accelerate", "launch", "--mixed_precision=fp16", "${program}", "${args}"])
    assert launcher_words(command) == ["accelerate", "launch", "--mixed_precision=fp16"]


def test_settings_of_a_command_line() -> None:
    words = ["--data", "my_images", "--batch-size=16", "-h", "--mixup", "-1", "x=3", "--_wandb={}"]
    assert named_settings(words) == {"data", "batch_size", "h", "mixup"}
