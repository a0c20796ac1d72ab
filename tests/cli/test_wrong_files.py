"""Every command beside files of a wrong kind: it uses what is left, or ends with one sentence that names the file."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import stat
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from harness.cli.main import main
from tests.cli.conftest import SWEPT
from tests.helpers.forked import fork_runs, in_child

# What may be in the place of a file or a folder.
WRONG: dict[str, Callable[[Path], object]] = {
    "an empty file": Path.touch,
    "a list": lambda path: path.write_text("[]"),
    "an object of other things": lambda path: path.write_text('{"state": [], "classes": 3, "trials": "x", "data": 1}'),
    "bytes": lambda path: path.write_bytes(bytes(range(256)) * 8),
    "a folder": Path.mkdir,
    "a named pipe": os.mkfifo,
    "a link to itself": lambda path: path.symlink_to(path.name),
    "nothing": lambda path: None,
}
CHECKPOINT = "run/checkpoints/best.safetensors"
# Of a run, what a page is made from.
PAGE = (
    *("config.json", "manifest.json", "summary.json", "metrics.jsonl", "predictions.csv", "per_class.csv"),
    *("evidence.json", "attention", "attention/attention.npz", "attention/positions.npz", "attention/object.json"),
    *("attention/sprites", "attention/sprites/sprites.json", "attention/sprites/000.jpg", "figures/positions.png"),
)
TRIAL = ("config.json", "manifest.json", "summary.json", "metrics.jsonl", ".lock")
IMAGES = ("data/train/0/000.png", "data/valid/1", "data/test")

# Commands with the files that they read or replace; {trial} and {cache} are the folders of these.
READS: dict[str, tuple[str, ...]] = {
    "report run -o page": ("page", "page/.report.json", "page/index.html"),
    "figures run --study -o drawn": (
        *("run/config.json", "run/summary.json", "run/metrics.jsonl", "drawn", "drawn/.figures.json"),
        *("run/attention/attention.npz", "run/attention/positions.npz", "run/attention/sprites/sprites.json"),
        "run/attention/sprites/000.jpg",
    ),
    "sync run": ("run/wandb", "run/.lock"),
    "predict run data/test/0": (CHECKPOINT, "run", "data/test/0/000.png"),
    "predict run data/test/0 --csv table.csv": ("table.csv",),
    "evaluate run": (CHECKPOINT, "run/manifest.json", "run/summary.json", *IMAGES, "{digests}", "{shard}"),
    "explain run": (CHECKPOINT, "run/attention", "run/attention/.harness-explain.json"),
    "explain run --redraw": ("run/attention/attention.npz", "run/attention/positions.npz", "data/test/0/000.png"),
    "explain run data/test/0/000.png --output maps": (CHECKPOINT, "maps", "maps/.harness-explain.json"),
    "verify run": (CHECKPOINT, "run/evidence.json"),
    "export run --to timm -o exported": (CHECKPOINT, "exported"),
    "data check data": (*IMAGES, "data", "{digests}", "{near-copies}"),
    "data cache": ("{digests}", "{near-copies}", "{shard}", "cache"),
    "probe --data data --model vit_demo --weights demo": ("data/train/0/000.png", "{shard}"),
    f"sweep status {SWEPT}": ("sweep.yaml", "swept/sweep", "{study}", *(f"{{trial}}/{name}" for name in TRIAL)),
    f"sweep watch {SWEPT}": ("{study}", "{trial}/summary.json"),
    f"sweep stop {SWEPT}": ("sweep.yaml", "{study}", "{trial}/.lock"),
    f"sweep add {SWEPT} -- --lr 3e-4": ("sweep.yaml", "{study}"),
    f"sweep retry {SWEPT} --failed": ("{study}", "{trial}/summary.json"),
    f"sweep skip {SWEPT} 0": ("{study}",),
    f"sweep rebuild {SWEPT}": ("{study}", "{trial}/manifest.json", "{trial}/summary.json"),
    f"sweep sync {SWEPT}": ("sweep.yaml",),
    f"sweep run {SWEPT}": ("sweep.yaml", "{study}", "swept/sweep/logs"),
    f"sweep plan {SWEPT} --no-probe": ("sweep.yaml", "{trial}/summary.json", "{trial}/metrics.jsonl"),
    "slurm script sweep.yaml --time 1:00:00": ("sweep.yaml",),
}


@pytest.fixture
def world(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the template, and commands that leave out what takes seconds and reads nothing."""
    root = shutil.copytree(template, tmp_path / "world")
    monkeypatch.chdir(root)
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(root / "cache"))
    fork_runs(monkeypatch)
    monkeypatch.setattr("harness.explain.output.draw", lambda *_: {})
    monkeypatch.setattr("harness.runs.figures.save_for_print", lambda *_: [])
    nothing = SimpleNamespace(archive=None, subject=())
    monkeypatch.setattr("harness.evidence.verify._material", lambda opened: nothing)
    monkeypatch.setattr("harness.evidence.verify._measures", lambda material: ())
    monkeypatch.setattr("harness.evidence.pairs.pairs_with_figures", lambda *_: {})
    monkeypatch.setattr("harness.evidence.output.evidence_figures", lambda results: {})
    monkeypatch.setattr("harness.export.export.scored", lambda form, folder, reference: reference.run)
    return root


def places(root: Path) -> dict[str, str]:
    """Files whose names are not known beforehand, by their names in READS."""
    patterns = {
        "trial": "swept/sweep/lr*",
        "study": "swept/sweep/study.db",
        "digests": "cache/digests/*.npz",
        "near-copies": "cache/near-copies/*.npz",
        "shard": "cache/decoded/*/*.shard",
    }
    return {name: str(next(root.glob(pattern)).relative_to(root)) for name, pattern in patterns.items()}


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def put(path: Path, what: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    remove(path)
    WRONG[what](path)


def entries(root: Path) -> dict[str, tuple[int, ...]]:
    """Everything below a folder, by its path there: its mode, and of a file size and time."""
    found = {}
    for parent, folders, files in os.walk(root):
        for name in (*folders, *files):
            status = os.lstat(path := f"{parent}/{name}")
            of_file = (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else ()
            found[path.removeprefix(f"{root}/")] = (status.st_mode, *of_file)
    return found


def restore(template: Path, originals: dict[str, tuple[int, ...]], world: Path) -> None:
    """Copy back what a command has changed; `originals` are the entries of the template."""
    now = entries(world)
    for name in sorted(now):
        if originals.get(name) != now[name] and os.path.lexists(world / name):
            remove(world / name)
    for name in sorted(originals):
        if not os.path.lexists(world / name):
            if (template / name).is_dir():
                (world / name).mkdir()
            else:
                shutil.copy2(template / name, world / name)


def problem_of(command: str, named: Path | None = None) -> str:
    """What is wrong with how a command ends, "" if it does its work or names the file or its folder in an error."""
    result = CliRunner().invoke(main, command.split())
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return f"{result.exception!r}\n{''.join(traceback.format_tb(result.exception.__traceback__)[-2:])}"
    if "Traceback" in result.output or result.exit_code not in (0, 1, 2):
        return result.output
    if result.exit_code == 0 or named is None or is_named(named, result.output):
        return ""
    return result.output


def is_named(path: Path, text: str) -> bool:
    """Whether a text has the path, or the folder that it is in, as a word."""
    names = {str(path), path.name, *(str(folder) for folder in path.parents if folder.name)}
    return any(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) for name in names)


@pytest.mark.timeout(600, func_only=True)  # reading a named pipe would block
@pytest.mark.parametrize("command", READS)
def test_a_file_of_a_wrong_kind_is_used_or_named(command: str, template: Path, world: Path) -> None:
    problems, originals = [], entries(template)
    for name in READS[command]:
        path = Path(name.format(**places(template)))
        for what in WRONG:
            put(world / path, what)
            if problem := problem_of(command, path):
                problems.append(f"{path} is {what}: {problem}")
            restore(template, originals, world)
    assert problems == []


@pytest.mark.timeout(600)
def test_a_page_is_made_of_runs_with_files_of_a_wrong_kind(world: Path) -> None:
    shutil.rmtree(world / "run" / "checkpoints")
    for name in PAGE:
        for what in WRONG:
            run = shutil.copytree(world / "run", world / "damaged" / f"{name} is {what}".replace("/", " "))
            put(run / name, what)
    assert problem_of("report damaged -o page --gallery all") == ""
    assert (world / "page" / "index.html").stat().st_size > 0


def test_a_path_that_is_too_long_is_named() -> None:
    path = "a" * 5000
    result = CliRunner().invoke(main, ["data", "check", path])
    expected = f"Error: {Path.cwd() / path}: file name too long. Give another path, or ask for access to it.\n"
    assert (result.exit_code, result.output) == (1, expected)


@pytest.mark.parametrize(
    "words", ["data check {}", "predict {} a.jpg", "evaluate {}", "data demo {}", "probe --data {}"]
)
def test_a_folder_of_another_user_is_named(words: str, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0)
    path = tmp_path / "theirs" / "images"

    def refused() -> tuple[int, str]:
        if os.geteuid() == 0:  # root may enter any folder
            os.seteuid(65534)
        result = CliRunner().invoke(main, words.format(path).split())
        return result.exit_code, result.output

    for module in ("cli.data", "cli.probe", "cli.runs", "data.check", "demo.scenes", "predict", "probe.backbones"):
        importlib.import_module(f"harness.{module}")  # a user without rights may not be able to read the libraries
    expected = f"Error: {path}: permission denied. Give another path, or ask for access to it.\n"
    assert in_child(refused) == (1, expected)
