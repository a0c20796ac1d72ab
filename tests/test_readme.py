"""The README tells the truth: its commands parse, its files exist, its map of the code is complete."""

from __future__ import annotations

import re
import shlex

import click
import pytest

from harness.cli import main
from harness.config import NAMED_WEIGHTS
from tests import ROOT

README = (ROOT / "README.md").read_text()
SWEEPS_AND_TRACKER = ("wandb", "pip", "cd")  # other people's programs


def commands() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def parse(command: click.Command, arguments: list[str]) -> None:
    """As Click would before it calls the command; descends into groups."""
    context = command.make_context("harness", list(arguments), resilient_parsing=False)
    if isinstance(command, click.Group):
        name, sub, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert name is not None
        assert sub is not None
        parse(sub, rest)


@pytest.mark.parametrize("line", commands())
def test_commands_are_what_the_program_takes(line: str) -> None:
    program, *arguments = shlex.split(line)
    if program == "make":
        assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif program == "harness":
        with_help = [] if "--help" in arguments else arguments
        if with_help:
            parse(main.main, with_help)
    elif program == "accelerate":
        script = arguments.index("harness/run.py")
        assert (ROOT / arguments[script]).is_file()
        for name in re.findall(r"--config_file (\S+)", line):
            assert (ROOT / name).is_file()
        parse(main.run, arguments[script + 1 :])
    else:
        assert program in SWEEPS_AND_TRACKER, line


def test_there_are_commands_at_all() -> None:
    assert len(commands()) >= 10


def test_the_map_of_the_code_names_every_file() -> None:
    architecture = README.split("## Architecture")[1].split("## Results")[0]
    parts = {path.name for path in (ROOT / "harness").glob("*.py")} - {"__init__.py"}
    parts |= {f"{path.parent.name}/" for path in (ROOT / "harness").glob("*/__init__.py")}
    assert {part for part in parts if part not in architecture} == set()


def test_pictures_and_files_it_shows_exist() -> None:
    for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (ROOT / path).is_file(), path


def test_every_kind_of_weights_is_explained() -> None:
    for name in NAMED_WEIGHTS:
        assert f"`{name}`" in README, name
