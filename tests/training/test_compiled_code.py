"""Where compiled code is kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.config import RunConfig
from harness.training.compiled_code import keep_compiled_code

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setenv(VARIABLE, "earlier")  # so that what a test sets is undone
    monkeypatch.delenv(VARIABLE)
    return tmp_path / "user" / "vit-harness"


def test_it_is_the_users_own_whatever_the_cache_of_images_is(cache: Path, tmp_path: Path) -> None:
    keep_compiled_code(RunConfig(data="images", compile=True, cache_dir=str(tmp_path / "shared")))
    assert Path(os.environ[VARIABLE]) == cache / "compiled"
    assert (cache / "compiled").stat().st_mode & 0o777 == 0o700
    assert not (tmp_path / "shared").exists()


def test_a_run_that_compiles_nothing_makes_no_folder(cache: Path) -> None:
    keep_compiled_code(RunConfig(data="images"))
    assert VARIABLE not in os.environ and not cache.exists()


def test_where_it_cannot_be_made_torch_chooses(cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text("a file in the place of the folder")
    keep_compiled_code(RunConfig(data="images", compile=True))
    assert VARIABLE not in os.environ
