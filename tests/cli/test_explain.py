"""`harness explain` writes over nothing that it did not make."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.main import main


@pytest.mark.parametrize("name", ["pictures", "sheets", "sprites", "figures"])
def test_an_output_folder_with_files_of_the_user_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    image = tmp_path / name / "mine.jpg"
    image.write_bytes(b"mine")
    command = ["explain", "--weights", "demo", "--model", "vit_demo", str(image), "--output", str(tmp_path)]
    for words in (command, [*command, "--redraw"]):
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 1, result.output
        assert f"{tmp_path} contains files that this program did not write: {name}/mine.jpg." in result.output
    assert image.read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


def test_a_link_in_the_output_folder_is_refused(tmp_path: Path) -> None:
    elsewhere, output = tmp_path / "elsewhere", tmp_path / "output"
    elsewhere.mkdir()
    output.mkdir()
    (elsewhere / "mine.jpg").write_bytes(b"mine")
    (output / "attention.npz").write_bytes(b"")
    (output / "pictures").symlink_to(elsewhere)
    result = CliRunner().invoke(main, ["explain", "--weights", "demo", "--redraw", "--output", str(output)])
    assert result.exit_code == 1 and f"{output / 'pictures'} is a symbolic link" in result.output
    assert (elsewhere / "mine.jpg").read_bytes() == b"mine"
