"""Every command leaves all bytes outside what its user named as they are: beside foreign files, and through links."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from matplotlib.figure import Figure

from harness.cli.main import main
from harness.demo import scenes
from harness.runs import figures
from tests.cli.conftest import SWEPT, TRAIN
from tests.cli.test_main import commands
from tests.helpers.forked import fork_runs

# Every command with what it may write, besides the cache: a file, or a folder and all below it.
WRITES = {
    f"{TRAIN} --runs-dir new": "new",
    "probe --data data --model vit_demo --weights demo": "",
    "evaluate run": "",
    "predict run data/test": "",
    "predict run data/test --csv table.csv": "table.csv",
    "explain run": "run",
    "explain run data/test/0": "run",
    "explain run --redraw": "run",
    "explain run data/test/0 --output maps": "maps",
    "explain --weights run/checkpoints/best.safetensors --model vit_demo data/test/0 --output maps": "maps",
    "report runs": "runs/report",
    "report runs -o page --tables csv,latex,markdown": "page",
    "sync run": "",
    "doctor --runs-dir run --cache-dir run": "",
    "data check data": "",
    "data cache": "",
    "models": "",
    "verify run": "run",
    "data demo scenes": "scenes",
    "sweep example grid files": "files",
    "sweep plan sweep.yaml --runs-dir new --no-probe": "",
    "sweep run sweep.yaml --runs-dir new": "new",
    f"sweep status {SWEPT}": "",
    f"sweep stop {SWEPT}": "swept",
    f"sweep add {SWEPT} -- --lr 3e-4": "swept",
    f"sweep watch {SWEPT}": "",
    "slurm script sweep.yaml --time 1:00:00": "",
    "figures runs --study -o drawn": "drawn",
    "export run --to timm -o exported": "exported",
}
# Commands that need a network or a cluster, or that write nothing but the trial queue.
LEFT_OUT = {
    "data fetch",
    "sweep sync",
    "wandb report",
    "slurm submit",
    "slurm requeue",
    "sweep retry",
    "sweep skip",
    "sweep rebuild",
}
# They refuse a folder with foreign files of the names that they write. The others write to a run's own folder, or to
# the one file that the user named.
OUTPUT_FOLDERS = ("maps", "page", "scenes", "files", "drawn", "exported")


TORCH = {"errors": {}, "devices": [], "torch": "2.15.0", "cuda": None}  # what `harness doctor` asks a new process for
SAVE_FOR_PRINT, WRITE_SCENES = figures.save_for_print, scenes.write


def save_blank_for_print(figure: Figure, stem: Path, caption: str) -> list[Path]:
    """The same files, in a fraction of the time."""
    return SAVE_FOR_PRINT(Figure(figsize=(1, 1), dpi=10), stem, caption)


def invoke(command: str) -> Result:
    return CliRunner().invoke(main, command.split())


def contents(folder: Path) -> dict[str, bytes | str | None]:
    """Every entry with its bytes, the target of a link, or None for a folder."""
    return {
        path.relative_to(folder).as_posix(): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in sorted(folder.rglob("*"))
    }


def stamp(path: Path) -> tuple[int, int]:
    """Changes when a file is written. Times of files are coarser than the clock, so they are not compared with it."""
    status = path.lstat()
    return status.st_ino, status.st_mtime_ns


def outside(folder: Path, named: str) -> dict[str, bytes | str | None]:
    """The contents without what may be written."""
    return {
        name: content
        for name, content in contents(folder).items()
        if not (named and (name == named or name.startswith(f"{named}/"))) and not name.startswith("cache")
    }


@pytest.fixture(scope="module")
def start(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template, with files of the user and links to them."""
    root = shutil.copytree(template, tmp_path_factory.mktemp("start"), symlinks=True, dirs_exist_ok=True)
    (root / "theirs" / "deeper").mkdir(parents=True)
    for name in ("theirs/secret.jpg", "theirs/deeper/secret.npz", "mine.txt", "run/mine.txt", "runs/mine.txt"):
        (root / name).write_text(f"mine: {name}")
    (root / "link").symlink_to("theirs/secret.jpg")
    (root / "folder").symlink_to("theirs")
    return root


@pytest.fixture
def world(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = shutil.copytree(start, tmp_path / "world", symlinks=True)
    monkeypatch.chdir(root)
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(root / "cache"))
    monkeypatch.setattr(figures, "save_for_print", save_blank_for_print)
    monkeypatch.setattr(scenes, "write", functools.partial(WRITE_SCENES, train=1, valid=1, test=1))
    # Its own test checks that it writes nothing, in the folder of the test and at home.
    monkeypatch.setattr("harness.doctor.software.probe_in_subprocess", lambda: TORCH)
    return root


def test_every_command_is_tested() -> None:
    names = {" ".join(path) for path, command in commands(main) if not hasattr(command, "commands")}
    tested = {
        " ".join(command.split()[: 2 if command.split()[0] in ("data", "slurm", "sweep") else 1]) for command in WRITES
    }
    assert names - tested <= LEFT_OUT


def run_again(world: Path, command: str, before: dict[str, bytes | str | None]) -> Result:
    """The command, which may refuse; what its user did not name is as before."""
    result = invoke(command)
    assert isinstance(result.exception, SystemExit) or result.exception is None, result.exception
    assert result.exit_code in (0, 1)
    now = outside(world, WRITES[command])
    assert {name: now.get(name) for name in before} == before
    assert now.keys() == before.keys()
    return result


def start_over(start: Path, world: Path) -> None:
    """The state before the command."""
    for entry in world.iterdir():  # the folder itself is the working directory of a fork server
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    shutil.copytree(start, world, symlinks=True, dirs_exist_ok=True)


@pytest.mark.parametrize("command", WRITES)
def test_a_command_writes_what_its_user_named_and_nothing_else(
    start: Path, world: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First as it is. Then files that it writes are links to files of the user, then their folders, then both."""
    named = WRITES[command]
    first = contents(world)
    stamps = {name: stamp(world / name) for name in first}
    result = run_again(world, command, outside(world, named))
    assert result.exit_code == (1 if command == "sync run" else 0), result.output
    # From here on, the programs that start runs and score exports are not the point.
    fork_runs(monkeypatch)
    monkeypatch.setattr("harness.export.export.scored", lambda form, folder, reference: reference.run)
    after = contents(world)
    assert all(after[name] == content for name, content in first.items() if name.endswith("mine.txt"))
    written = [name for name, content in after.items() if content is not None and named and name.startswith(named)]
    written = [name for name in written if stamps.get(name) != stamp(world / name)]
    assert bool(written) == bool(named)
    if not named:
        return

    theirs = world / "theirs" / "deeper" / "secret.npz"
    for name in written:
        (world / name).unlink()
        (world / name).symlink_to(theirs)
    run_again(world, command, outside(world, named))

    start_over(start, world)
    assert (again := invoke(command)).exit_code == 0, again.output
    folders = {name.parent for name in map(Path, written)} - {Path(), Path(named)}
    for folder in sorted(filter(Path.is_dir, folders), key=lambda folder: -len(folder.parts)):
        target = world / "theirs" / str(folder).replace("/", "-")
        (world / folder).rename(target)
        (world / folder).symlink_to(target)
    run_again(world, command, outside(world, named))

    if named in OUTPUT_FOLDERS:
        start_over(start, world)
        for name in written:
            if not Path(name).name.startswith("."):  # the program's own list
                (world / name).parent.mkdir(parents=True, exist_ok=True)
                (world / name).write_text("mine")
        everything = contents(world)
        assert run_again(world, command, outside(world, named)).exit_code == 1
        assert contents(world) == everything
