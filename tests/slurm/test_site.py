"""The site file: what it may contain, and that mistakes in it are reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.slurm.site import Site, read_site


def test_a_site_file_is_optional(tmp_path: Path) -> None:
    assert read_site(tmp_path / "slurm.toml") == Site()


def test_a_site_file(tmp_path: Path) -> None:
    file = tmp_path / "slurm.toml"
    file.write_text('modules = ["cuda/12.4"]\nlines = ["source ~/venv/bin/activate"]\nsbatch = ["--mem=32G"]\n')
    assert read_site(file) == Site(("cuda/12.4",), ("source ~/venv/bin/activate",), ("--mem=32G",))


def test_the_site_file_is_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".config" / "vit-harness").mkdir(parents=True)
    (tmp_path / ".config" / "vit-harness" / "slurm.toml").write_text('modules = ["x"]')
    assert read_site().modules == ("x",)


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("modules = [", ["cannot be read"]),
        ('module = ["x"]\nmodules = "x"\n', ["`module` is not a key", "`modules` must be a list"]),
        ("lines = [1]", ["`lines` must be a list"]),
        ('modules = ["x\\nrm"]', ["contains 'x\\\\nrm'"]),
        ('sbatch = ["mem=3"]', ["'mem=3'; each entry must be an option"]),
    ],
)
def test_mistakes_are_reported_together(tmp_path: Path, text: str, problems: list[str]) -> None:
    file = tmp_path / "slurm.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        read_site(file)
    assert len(raised.value.problems) == len(problems)
    for problem, expected in zip(raised.value.problems, problems, strict=True):
        assert expected in problem
        assert "slurm.toml" in problem
