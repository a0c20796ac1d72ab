from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.example import EXAMPLES, example
from harness.cli.main import main
from tests import ROOT


def test_every_sweep_file_of_the_repository_can_be_written(tmp_path: Path) -> None:
    names = sorted(file.stem for file in (ROOT / "sweeps").glob("*.yaml"))
    assert sorted(example.params[0].type.choices) == names == sorted(file.stem for file in EXAMPLES.iterdir())
    for name in names:
        result = CliRunner().invoke(main, ["sweep", "example", name, str(tmp_path / "new")])
        file = tmp_path / "new" / f"{name}.yaml"
        assert (result.exit_code, result.output) == (0, f"{file}\n")
        assert file.read_text() == (ROOT / "sweeps" / file.name).read_text()


def test_the_default_folder_is_the_one_the_files_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(main, ["sweep", "example", "demo"]).output == "sweeps/demo.yaml\n"


def test_an_existing_file_is_not_changed(tmp_path: Path) -> None:
    file = tmp_path / "demo.yaml"
    file.write_text("mine")
    result = CliRunner().invoke(main, ["sweep", "example", "demo", str(tmp_path)])
    assert (result.exit_code, file.read_text()) == (1, "mine")
    assert f"Error: {file} already exists. Use it, or give another folder." in result.output


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(main, ["sweep", "example", "demo", str(tmp_path / "file")])
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert "file/demo.yaml cannot be written: File exists. Give another folder." in result.output
