"""Where compiled code is kept between runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.training.compiled_code import keep_compiled_code

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setenv(VARIABLE, "earlier")  # so that what a test sets is undone
    monkeypatch.delenv(VARIABLE)
    return tmp_path / "user" / "vit-harness"


def test_it_is_the_users_own(cache: Path) -> None:
    keep_compiled_code()
    assert Path(os.environ[VARIABLE]) == cache / "compiled"
    assert (cache / "compiled").stat().st_mode & 0o777 == 0o700


def test_where_it_cannot_be_made_torch_chooses(cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text("a file in the place of the folder")
    keep_compiled_code()
    assert VARIABLE not in os.environ


# `exit_code_of` is replaced, so that nothing is trained; all imports take place.
RUN = """
import sys
from harness.cli import main
sys.argv = ["run.py", "--data=images", *sys.argv[1:]]
class Train:
    def exit_code_of(config):
        import torch._dynamo
        from torch._inductor.runtime.cache_dir_utils import cache_dir
        print(cache_dir())
sys.modules["harness.train"] = Train
main.run()
"""
TRIAL = """
import harness.sweep.execution.preload
from torch._inductor.runtime.cache_dir_utils import cache_dir
print(cache_dir())
"""


def folder_of(program: str, *words: str) -> Path:
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    return Path(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("setting", ["true", "auto", "false"])
def test_torch_uses_it_in_a_run_that_may_compile(cache: Path, setting: str) -> None:
    used = folder_of(RUN, f"--compile={setting}")
    assert (used == cache / "compiled") == (setting != "false")
    assert cache.exists() == (setting != "false")


def test_torch_uses_it_in_the_trials_of_a_sweep(cache: Path) -> None:
    assert folder_of(TRIAL) == cache / "compiled"
