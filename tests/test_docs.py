"""The documentation is true: commands run, links lead somewhere, lists are complete, generated pages are current."""

from __future__ import annotations

import functools
import inspect
import itertools
import json
import multiprocessing
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import yaml

from harness import errors
from harness.cli import main
from harness.demo import scenes
from harness.doctor import software
from harness.settings.model import NAMED_WEIGHTS
from harness.sweep.spec.sweep_file import read_sweep
from tests import ROOT
from tests.helpers import reference
from tests.helpers.forked import fork_runs, run_captured
from tests.helpers.programs import ACCELERATE

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
FEW = {"train": 4, "valid": 2, "test": 2}  # images of a class that `harness data demo` draws for a page
DRAW_FEW = f"""
import functools
from harness.cli.__main__ import main
from harness.demo import scenes
scenes.write = functools.partial(scenes.write, **{FEW})
main()
"""


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


@dataclass(frozen=True)
class Starts:
    """A working folder that all pages share, and copies of it as the first commands of a page left it.

    Pages that begin with the same commands run these once. Paths and cached images stay the same from page to page.
    """

    folder: Path  # the working folder
    copies: Path
    left: dict[tuple[str, ...], Path]

    def restore(self, lines: tuple[str, ...]) -> int:
        """Start a page from the longest beginning that another page has left; how many of its commands that is."""
        known = max((number for number in range(len(lines) + 1) if lines[:number] in self.left), default=0)
        shutil.rmtree(self.folder, ignore_errors=True)
        if known:
            shutil.copytree(self.left[lines[:known]], self.folder, symlinks=True)
        else:
            self.folder.mkdir()
        return known

    def keep(self, lines: tuple[str, ...]) -> None:
        """Copy the folder if another page begins with these commands, too."""
        if lines not in self.left and sum(commands_of(page)[: len(lines)] == lines for page in RUN) > 1:
            self.left[lines] = shutil.copytree(self.folder, self.copies / str(len(self.left)), symlinks=True)


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> Starts:
    base = tmp_path_factory.mktemp("pages")
    return Starts(base / "page", base, {})


@pytest.fixture
def shell(tmp_path: Path, starts: Starts) -> dict[str, str]:
    """An environment in which `harness` and `accelerate` are this checkout's, every training small and the data few."""
    programs = tmp_path / ".bin"
    programs.mkdir()
    tail = f'case "$*" in *--help*) set -- "$@" ;; train\\ *|launch\\ *) set -- "$@" {SMALL} ;; esac'
    draw = f'[ "$1 $2" = "data demo" ] && exec "{sys.executable}" -c {shlex.quote(DRAW_FEW)} "$@"'
    harness = f'{draw}\nexec "{sys.executable}" -m harness.cli "$@"\n'
    for name, program in (("harness", harness), ("accelerate", ACCELERATE)):
        (programs / name).write_text(f"#!/bin/sh\n{tail}\n{program}")
        (programs / name).chmod(0o755)
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(programs), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "HARNESS_CACHE_DIR": str(starts.copies / "cache"),
        "HARNESS_SWEEP_ARGS": SMALL_TRIAL,
        "CUDA_VISIBLE_DEVICES": "",
    }


def commands_of(page: Path) -> tuple[str, ...]:
    """The commands of a page that a test can run, in order."""
    return tuple(line for block in BLOCKS if block.page == page and block.needs is None for line in block.commands)


def import_all() -> None:
    """Import what commands import, so that no forked child has to."""
    import reports.page.build
    from harness.sweep.execution import preload

    assert preload and reports.page.build


def run_program(line: str, folder: Path, env: dict[str, str]) -> tuple[int, str]:
    """The exit code and the output of a command in a shell."""
    ended = subprocess.run(["bash", "-c", line], cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    return ended.returncode, ended.stdout + ended.stderr


def run_forked(line: str, folder: Path, env: dict[str, str], seconds: float = 300) -> tuple[int, str]:
    """The same of a `harness` command in a child forked from this process. Its runs are forked; its data are few."""
    from harness.export import export  # imports torch

    def command() -> None:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(env)
        fork_runs(pytest.MonkeyPatch())
        scenes.write = functools.partial(scenes.write, **FEW)
        # Their tests start a new process for each library, and for torch.
        export.scored = lambda form, folder, reference: reference.run
        software.probe_in_subprocess = lambda: {"errors": {}, "devices": [], "torch": "2.15.0", "cuda": None}
        _, *words = shlex.split(line)
        words += SMALL.split() if words[0] == "train" else []
        paths = (sorted(map(str, Path().glob(word))) if "*" in word else [word] for word in words)
        main.main(list(itertools.chain.from_iterable(paths)), prog_name="harness")

    ended = run_captured(line, command, seconds)
    return ended.returncode, ended.stdout + ended.stderr


def is_forked(page: Path, line: str) -> bool:
    """Whether a command needs no program. The README's are started as a reader starts them, but for its images."""
    return page != README and line.startswith("harness ")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_commands_run_in_the_order_of_the_page(page: Path, shell: dict[str, str], starts: Starts) -> None:
    import_all()
    lines, folder = commands_of(page), starts.folder
    known = starts.restore(lines)
    for name in ("harness", "reports", "sweeps", "accelerate_config.yaml"):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(ROOT / name)
    for number, example in enumerate(re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)):
        assert number == 0
        (folder / "sweep.yaml").write_text(example)
    for number, line in enumerate(lines[known:], known + 1):
        run = run_forked if is_forked(page, line) else run_program
        code, output = run(line, folder, shell)
        # A check that fails on this machine is an answer of `doctor`, and not a wrong command.
        assert code in ((0, 1) if line.startswith("harness doctor") else (0,)), f"{line}\n{output}"
        assert "Traceback" not in output, line
        starts.keep(lines[:number])
    described = (DOCS / "reference" / "metrics.md").read_text()
    for summary in folder.rglob("summary.json"):
        assert {key for key in json.loads(summary.read_text()) if f"`{key}`" not in described} == set()


def test_a_run_would_notice_a_wrong_command(shell: dict[str, str], tmp_path: Path) -> None:
    """The test above must be able to fail."""
    folder = tmp_path / "page"
    folder.mkdir()
    for run, line in ((run_program, "harness train --data nowhere"), (run_forked, "harness data check nowhere")):
        code, output = run(line, folder, shell)
        assert code == 1
        assert "nowhere" in output


def test_a_forked_command_that_hangs_is_ended(
    shell: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = multiprocessing.active_children()  # of earlier tests
    monkeypatch.setattr(main, "main", lambda *_, **__: time.sleep(60))
    with pytest.raises(subprocess.TimeoutExpired, match=r"'harness doctor' timed out after 0\.1 seconds"):
        run_forked("harness doctor", tmp_path, shell, seconds=0.1)
    assert set(multiprocessing.active_children()) <= set(others)


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


def test_the_walk_answers_its_questions_with_files_and_functions_that_exist() -> None:
    rows = re.findall(r"^\| (.+\?) \| (.+) \| (.+) \|$", (DOCS / "development" / "newcomers-walk.md").read_text(), re.M)
    assert [question for question, _, _ in rows] == [
        "Where is early termination?",
        "Where is a trial of a sweep started, and its result read?",
        "Where is the learning rate set?",
        "Who writes `summary.json`?",
        "What draws the head maps?",
        "What happens on SIGTERM?",
    ]
    for question, path, openings in rows:
        steps = re.findall(r"`(\w[\w/]*\.py):(\w+)`", path)
        assert steps, question
        for file, name in steps:
            assert re.search(rf"^\s*(def|class) {name}\b", (ROOT / file).read_text(), re.MULTILINE), f"{file}:{name}"
        # The folders that the reader opens on the way are those of the tree, one below the other.
        for folders, file in re.findall(r"((?:`[a-z]+/` → )+)[^`]*`(\w[\w/]*\.py)", path):
            assert "/" + "".join(re.findall(r"`([a-z]+/)`", folders)) in file, question
        assert re.match(r"[1-3]\b", openings), question


def test_the_summary_has_the_writers_that_the_walk_names() -> None:
    writers = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "harness").rglob("*.py")
        if re.search(r"\.(write|update)\(\"summary\.json\"", path.read_text())
    }
    assert writers == {"harness/runs/logger.py", "harness/sweep/redo.py"}


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
