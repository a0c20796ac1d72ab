"""The wheel holds every file that an installation without the repository needs, and no test."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests import ROOT

SOURCES = ("harness", "reports", "sweeps", "tests", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("setuptools is not installed")
    # Built from a copy: setuptools writes build/ beside setup.cfg, and would pack files left there earlier.
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source / name)
    output = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])",
            output,
        ],
        cwd=source,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (built,) = output.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_all_source_and_data_files_and_no_tests(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    suffixes = (".py", ".j2", ".js", ".css", ".svg", ".safetensors", ".csv")
    needed = {
        str(path.relative_to(ROOT))
        for package in ("harness", "reports")
        for path in (ROOT / package).rglob("*")
        if path.suffix in suffixes
    }
    assert {"harness/run.py", "harness/model/vit_demo.safetensors", "reports/page/assets/report.css"} <= needed
    assert "harness/model/timm_models.csv" in needed
    needed |= {f"harness/sweep/examples/{file.name}" for file in (ROOT / "sweeps").glob("*.yaml")}
    assert packed == needed


@pytest.mark.slow
def test_an_installed_wheel_writes_the_example_sweeps_and_plans_them(wheel: Path, tmp_path: Path) -> None:
    site, work = tmp_path / "site", tmp_path / "work"
    zipfile.ZipFile(wheel).extractall(site)
    work.mkdir()
    code = f"""
import functools, sys
sys.path.insert(0, {str(site)!r})
import harness
assert harness.__file__.startswith({str(site)!r})
from importlib.metadata import distribution
[command] = distribution("vit-harness").entry_points.select(name="harness")
main = command.load()
assert sys.modules[main.__module__].__file__.startswith({str(site)!r})
from harness.demo import scenes
scenes.write = functools.partial(scenes.write, train=2, valid=1, test=1)  # drawing all takes seconds
for words in ("sweep example demo", "data demo demo/data", "sweep plan sweeps/demo.yaml --no-probe"):
    sys.argv = ["harness", *words.split()]
    try:
        main()
    except SystemExit as end:
        assert not end.code, words
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=work, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "6 trials" in ended.stdout
    assert (work / "sweeps" / "demo.yaml").read_text() == (ROOT / "sweeps" / "demo.yaml").read_text()
