"""The documentation is true: commands run, links lead somewhere, lists are complete, generated pages are current."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import yaml

from harness import errors
from harness.cli import main
from harness.settings.model import NAMED_WEIGHTS
from harness.sweep.spec.sweep_file import read_sweep
from tests import ROOT
from tests.helpers import reference

README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
# Their commands are run, block after block in one folder.
RUN = [README, *sorted((DOCS / "guides").glob("*.md"))]

NEEDS = ("gpu", "account", "network", "cluster")
OTHER_PROGRAMS = ("wandb", "pip", "python3", "git")

# Last words of every training command, so that a page takes seconds: click takes the last of two values.
SMALL = "--epochs=1 --explain=4 --threads=1 --log-every=5"
SMALL_TRIAL = "--epochs=1 --explain=none --threads=1 --log-every=5"


@dataclass(frozen=True)
class Block:
    """A console block: its commands, and why a test cannot run it."""

    page: Path
    commands: tuple[str, ...]
    needs: str | None


def blocks(page: Path) -> list[Block]:
    found = re.finditer(
        r"(?:^<!-- needs: (\S+) -->\n)?^```console\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE
    )
    return [
        Block(page, tuple(line[2:].strip() for line in match[2].splitlines() if line.startswith("$ ")), match[1])
        for match in found
    ]


BLOCKS = [block for page in PAGES for block in blocks(page)]
COMMANDS = sorted({(block.page.relative_to(ROOT).as_posix(), line) for block in BLOCKS for line in block.commands})


def parse(command: click.Command, arguments: list[str], parent: click.Context | None = None) -> None:
    """As Click would before it calls the command; descends into groups."""
    context = command.make_context("harness", list(arguments), parent=parent)
    if isinstance(command, click.Group):
        name, sub, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert name is not None
        assert sub is not None
        parse(sub, rest, context)


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_the_program_accepts_every_command(page: str, line: str) -> None:
    for part in line.split(" && "):
        words = shlex.split(part)
        while re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        program, *arguments = words
        if program == "make":
            assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        elif program == "harness":
            parse(main.main, arguments)
        elif program == "accelerate":
            script = arguments.index("harness/run.py")
            assert (ROOT / arguments[script]).is_file()
            for name in re.findall(r"--config_file (\S+)", line):
                assert (ROOT / name).is_file()
            parse(main.run, arguments[script + 1 :])
        else:
            assert program in (*OTHER_PROGRAMS, "source", "cd"), line


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page.name}-{block.commands[:1]}")
def test_every_console_block_has_commands_and_a_known_mark(block: Block) -> None:
    assert block.commands
    assert block.needs in (None, *NEEDS)
    if block.needs == "account":
        assert any(word in line for line in block.commands for word in ("wandb", "sync"))
    if block.needs is None:
        assert all(shlex.split(line)[0] in ("harness", "accelerate") or "HARNESS" in line for line in block.commands)


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """An environment in which `harness` and `accelerate` are this checkout's, and every training is small."""
    programs = tmp_path / ".bin"
    programs.mkdir()
    tail = f'case "$*" in *--help*) set -- "$@" ;; train\\ *|launch\\ *) set -- "$@" {SMALL} ;; esac'
    for name, module in (("harness", "harness.cli"), ("accelerate", "accelerate.commands.accelerate_cli")):
        (programs / name).write_text(f'#!/bin/sh\n{tail}\nexec "{sys.executable}" -m {module} "$@"\n')
        (programs / name).chmod(0o755)
    for name in ("harness", "reports", "sweeps", "accelerate_config.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    return {
        **os.environ,
        "PATH": path,
        "PYTHONPATH": str(ROOT),
        "HARNESS_SWEEP_ARGS": SMALL_TRIAL,
        "CUDA_VISIBLE_DEVICES": "",
    }


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_commands_run_in_the_order_of_the_page(page: Path, shell: dict[str, str], tmp_path: Path) -> None:
    for number, example in enumerate(re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)):
        assert number == 0
        (tmp_path / "sweep.yaml").write_text(example)
    for line in (line for block in blocks(page) if block.needs is None for line in block.commands):
        ended = subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, env=shell, capture_output=True, text=True, timeout=300
        )
        # A check that fails on this machine is an answer of `doctor`, and not a wrong command.
        allowed = (0, 1) if line.startswith("harness doctor") else (0,)
        assert ended.returncode in allowed, f"{line}\n{ended.stdout}\n{ended.stderr}"
        assert "Traceback" not in ended.stderr, line
    described = (DOCS / "reference" / "metrics.md").read_text()
    for summary in tmp_path.rglob("summary.json"):
        assert {key for key in json.loads(summary.read_text()) if f"`{key}`" not in described} == set()


def test_a_run_would_notice_a_wrong_command(shell: dict[str, str], tmp_path: Path) -> None:
    """The test above must be able to fail."""
    ended = subprocess.run(["bash", "-c", "harness train --data nowhere"], cwd=tmp_path, env=shell, capture_output=True)
    assert ended.returncode == 1


def test_the_readme_is_short() -> None:
    assert len(README.read_text().split()) <= 900


def test_there_are_commands_in_the_readme() -> None:
    assert sum(len(block.commands) for block in blocks(README)) >= 10


def prose(page: Path) -> str:
    """The text without fenced code."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors that a hosting site gives the headings."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert file.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(file), target


def test_the_index_lists_every_page() -> None:
    linked = {(DOCS / target).resolve() for target in re.findall(r"\]\(([^)#\s]+)\)", (DOCS / "index.md").read_text())}
    assert {page for page in DOCS.rglob("*.md") if page.name != "index.md"} - linked == set()


@pytest.mark.parametrize("page", [README, DOCS / "development" / "architecture.md"], ids=lambda page: page.name)
def test_the_tree_names_every_package_and_front_door_file(page: Path) -> None:
    [tree] = re.findall(r"^```\nharness/(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    named = re.findall(r"^  (\S+)", tree.split("\nreports/")[0], re.MULTILINE)
    parts = {path.name for path in (ROOT / "harness").glob("*.py")} - {"__init__.py"}
    parts |= {f"{path.parent.name}/" for path in (ROOT / "harness").glob("*/__init__.py")}
    assert sorted(named) == sorted(parts)
    for name in re.findall(r"^(\S+/)", tree, re.MULTILINE):
        assert (ROOT / name).is_dir()


def test_the_walk_names_files_and_functions_that_exist() -> None:
    steps = re.findall(r"`(\w[\w/]*\.py):(\w+)`", (DOCS / "development" / "newcomers-walk.md").read_text())
    assert len(steps) >= 9
    for file, name in steps:
        assert re.search(rf"^\s*(def|class) {name}\b", (ROOT / file).read_text(), re.MULTILINE), f"{file}:{name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_named_in_the_text_exist(page: Path) -> None:
    for path in re.findall(r"`((?:harness|reports|tests|sweeps|docs)/[\w/.-]+)`", prose(page)):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("name", reference.PAGES)
def test_generated_reference_is_current(name: str) -> None:
    assert (reference.FOLDER / name).read_text() == reference.PAGES[name](), "run: python -m tests.helpers.reference"


def test_every_environment_variable_is_documented_and_no_other() -> None:
    code = "\n".join(path.read_text() for folder in ("harness", "reports") for path in (ROOT / folder).rglob("*.py"))
    used = {name.rstrip("_") for name in re.findall(r"\b(?:HARNESS|WANDB)_[A-Z_]+", code)}
    page = (DOCS / "reference" / "environment.md").read_text()
    assert {name.rstrip("_") for name in re.findall(r"`((?:HARNESS|WANDB)_[A-Z_]+)\*?`", page)} == used


def test_every_error_is_documented_with_its_exit_code() -> None:
    page = (DOCS / "reference" / "errors.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d)", page, re.MULTILINE))
    kinds = {
        name: kind
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, errors.HarnessError)
    }
    assert {name: str(kind("message").exit_code) for name, kind in kinds.items()} == rows


def test_every_dependency_has_a_reason() -> None:
    page = (DOCS / "development" / "dependencies.md").read_text()
    text = (ROOT / "setup.cfg").read_text()
    requirements = re.findall(
        r"^    ([a-z][\w-]*)(?:\[\w+\])?(?: [<>=!]|$)", text.split("install_requires")[1], re.MULTILINE | re.I
    )
    listed = [name for name in requirements if name not in ("harness", "reports")]
    assert len(listed) >= 15
    assert {name for name in listed if not re.search(rf"\b{re.escape(name)}\b", page)} == set()


def test_every_kind_of_weights_is_explained() -> None:
    page = (DOCS / "guides" / "your-data.md").read_text()
    assert {name for name in NAMED_WEIGHTS if f"`{name}`" not in page} == set()


def test_the_sweep_of_the_readme_is_a_sweep(tmp_path: Path) -> None:
    [text] = re.findall(r"^```yaml\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    assert len(text.splitlines()) <= 10
    (tmp_path / "sweep.yaml").write_text(text)
    parameters = yaml.safe_load(text)["parameters"]
    first = {name: entry.get("value", entry.get("values", [None])[0]) for name, entry in parameters.items()}
    assert read_sweep(tmp_path / "sweep.yaml").config(first).model == "vit_demo"


def test_continuous_integration_runs_the_projects_own_script() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert "bash .ci/run" in [step.get("run") for step in steps]
    assert shutil.which("bash")


@pytest.mark.parametrize("name", ["bug.yml", "feature.yml"])
def test_issue_templates_ask_for_the_doctor(name: str) -> None:
    template = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / name).read_text())
    assert "harness doctor --json" in json.dumps(template["body"])
