"""Commands that cannot work: one sentence and an exit code each, and nothing is written."""

from __future__ import annotations

import builtins
import errno
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from harness.cli import __main__ as program
from harness.cli.main import main
from harness.errors import errors_in_words
from tests.conftest import write_folder

NO_GPU = {"CUDA_VISIBLE_DEVICES": "", "WANDB_MODE": "disabled"}
SWEEP = """
program: harness/run.py
method: grid
metric: {name: best/val_f1, goal: maximize}
parameters: {lr: {values: [1.0e-4, 1.0e-3]}, data: {value: data}, model: {value: vit_demo}, weights: {value: none}}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data, a file, a folder without content, a named pipe and a sweep file; commands start in it."""
    write_folder(tmp_path / "data", classes=2, train=4, valid=2, test=2)
    (tmp_path / "afile").write_text("mine")
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def invoke(*words: str) -> Result:
    return CliRunner().invoke(main, words, env=NO_GPU)


# By exit code: 2 if the command has to be corrected, 1 if it may work once a file is there.
REFUSED: dict[int, dict[str, str]] = {
    2: {
        "train data": "Missing option '--data'. Did you mean --data data?",
        "train data --lr 1": "Missing option '--data'. Did you mean --data data?",
        "train --data data --num-processes 17": "--num-processes 17 is more than --batch-size 16",
        "train --data data --num-processes 100 --batch-size 16": "Give --num-processes 16 or less.",
        "train --data data --weights imagnet": "--weights imagnet is neither a file nor one of imagenet, ",
        "train --data data --lr 0": "--lr is 0.0",
        "train --data data --model vit": "--model is 'vit'",
        "explain": "Name a run",
        "predict afile": "Missing argument 'PATH...'",
        "report empty --gallery few": "--gallery is 'few'",
        "sweep run sweep.yaml --gpus-per-run 5": "--gpus-per-run is 5, but no GPU can be used here",
        "sweep run sweep.yaml --workers 0": "'--workers'",
        "sweep plan sweep.yaml -- --lr 1": "--lr cannot be given for all trials",
        "sweep run sweep.yaml --data data": "--data is an option of the runs: give it at the end, after `--`.",
        "sweep add sweep.yaml --lr 1": "--lr is an option of the runs",
        "slurm script sweep.yaml --time 1:00:00 --lr=1": "--lr is an option of the runs",
        "sweep plan sweep.yaml --dataa data": "No such option",
        "data cache --cache-dir ~nobody.here": "no home folder ~nobody.here on this machine; give the whole path.",
        "sweep status sweep.yaml --runs-dir ~nobody.here": "there is no home folder ~nobody.here on this machine",
        "data fetch sports100 ~nobody.here": "there is no home folder ~nobody.here on this machine",
        "data check data --cache-dir ~nobody.here": "there is no home folder ~nobody.here on this machine",
        "sweep run sweep.yaml --storage ~nobody.here/log": "there is no home folder ~nobody.here on this machine",
    },
    1: {
        "train --data nowhere": "nowhere: no such folder",
        "train --data afile": "afile is not a folder",
        "train --data data --weights nofile.pth": "--weights nofile.pth is neither a file nor one of",
        "train --data data --weights pipe": "--weights pipe is not a file",
        "train --data data --weights /dev/zero": "--weights /dev/zero is not a file",
        "probe --data nowhere --model vit_demo --weights demo": "nowhere: no such folder",
        "probe --data data --model vit_demo --weights no.pth": "--weights no.pth is neither a file nor one of",
        "data demo data": "data exists and does not hold the built-in data",
        "evaluate afile": "afile is not a folder; give a run folder.",
        "evaluate nowhere": "nowhere does not exist; give a run folder.",
        "evaluate empty": "empty holds no best checkpoint",
        "predict afile data": "afile is not a folder; give a run folder.",
        "explain afile": "afile is not a folder",
        "explain empty data/test --output afile": "afile is not a folder",
        "explain empty data/test --output afile/deeper": "afile/deeper cannot be written (Not a directory)",
        "explain empty data/test --output /proc/x": "/proc/x cannot be written (No such file or directory)",
        "explain --weights pipe --model vit_demo data --output maps": "--weights pipe is not a file",
        "explain --weights demo --model vit_demo pipe --output maps": "pipe cannot be used: it is a named pipe",
        "report afile": "afile is not a folder",
        "report empty": "empty",
        "sync afile": "afile holds no W&B files",
        "data cache --cache-dir nowhere": "--cache-dir nowhere is not a folder",
        "data cache --cache-dir afile --prune --yes": "--cache-dir afile is not a folder",
        "sweep plan nowhere.yaml": "There is no sweep file nowhere.yaml",
        "sweep plan pipe": "pipe cannot be read: it is a named pipe, not a file",
        "sweep run /dev/zero": "/dev/zero cannot be read: it is a device, not a file",
        "sweep status pipe": "pipe cannot be read: it is a named pipe, not a file",
        "sweep stop nowhere.yaml": "There is no sweep file nowhere.yaml",
        "sweep run sweep.yaml -- --weights nofile.pth": "--weights nofile.pth is neither a file nor one of",
    },
}


@pytest.mark.parametrize(
    ("command", "code", "sentence"),
    [(command, code, sentence) for code, commands in REFUSED.items() for command, sentence in commands.items()],
)
def test_a_command_that_cannot_work_is_one_sentence(place: Path, command: str, code: int, sentence: str) -> None:
    before = contents(place)
    result = invoke(*command.split())
    assert isinstance(result.exception, SystemExit), result.exception
    assert (result.exit_code, "Traceback" in result.output) == (code, False), result.output
    [error] = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert sentence in error
    assert contents(place) == before


def test_a_current_folder_that_was_deleted_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for command in ("train --data data", "report runs", "sweep status sweep.yaml"):
        result = invoke(*command.split())
        assert (result.exit_code, result.stderr) == (
            1,
            "Error: The current folder no longer exists. Change to another one.\n",
        )


def test_all_problems_of_a_command_are_printed_together(place: Path) -> None:
    result = invoke("train", "--data", "nowhere", "--weights", "nofile.pth")
    assert result.exit_code == 1
    assert [line.split()[1] for line in result.stderr.splitlines()] == ["--weights", f"{place}/nowhere:"]
    assert invoke("train", "--data", "nowhere", "--weights", "imagnet").exit_code == 2


def test_errors_show_no_control_characters(place: Path) -> None:
    hostile = "x\x1b[31m\r"
    for words in (
        ["train", hostile],
        ["train", "--data", hostile],
        ["train", "--data", "data", "--weights", hostile],
        ["train", "--data", "data", "--weights", f"{hostile}.pth"],
        ["evaluate", hostile],
        ["predict", hostile, "x"],
        ["explain", hostile],
        ["report", hostile],
        ["sync", hostile],
        ["sweep", "plan", hostile],
    ):
        result = invoke(*words)
        assert result.exit_code in (1, 2)
        assert "x\\x1b[31m\\r" in result.output
        assert not {letter for letter in result.output if not letter.isprintable()} - {"\n"}


@pytest.mark.parametrize("command", ["evaluate", "verify", "report", "sync", "data check", "sweep plan"])
def test_a_folder_that_may_not_be_entered_is_one_sentence(
    place: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """The system refuses even the question whether a file is there."""
    closed, stat = place / "closed" / "run", os.stat

    def refused(path: os.PathLike[str], **options: bool) -> os.stat_result:
        if str(path).startswith(str(closed)):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", refused)
    result = invoke(*command.split(), str(closed))
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit), result.exception
    [line] = result.stderr.splitlines()
    assert line.startswith(f"Error: {closed}") and "permission denied. Give another path" in line


def test_an_error_of_permissions_that_names_no_path_is_not_the_users() -> None:
    with pytest.raises(PermissionError), errors_in_words():
        raise PermissionError(errno.EPERM, "Operation not permitted")


def test_a_folder_of_runs_that_is_missing_is_a_problem_of_the_disk(place: Path) -> None:
    """Exit code 1, as the page on errors says."""
    for words in (["figures", "nowhere", "--study", "-o", "new"], ["report", "nowhere"], ["verify", "nowhere"]):
        assert invoke(*words).exit_code == 1, words


def test_ctrl_c_ends_a_command_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.model.listing.search", interrupted)
    result = invoke("models")
    assert (result.exit_code, result.output) == (130, "\n")


def test_ctrl_c_while_the_program_is_imported_ends_it_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    importing = builtins.__import__

    def interrupted(name: str, *rest: Any) -> Any:
        if name == "harness.cli.main":
            raise KeyboardInterrupt
        return importing(name, *rest)

    monkeypatch.setattr(builtins, "__import__", interrupted)
    with pytest.raises(SystemExit) as end:
        program.main()
    assert end.value.code == 130
