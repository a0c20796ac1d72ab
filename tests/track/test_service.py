"""What is prepared before runs are forked."""

from __future__ import annotations

from importlib import metadata

import pytest

from tests.helpers.forked import in_child


def test_the_installed_packages_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")

    def look() -> tuple[bool, dict[str, str]]:
        from wandb import util

        from harness.track import preload

        preload()
        packages = util.working_set()
        return packages is util.working_set(), {package.key: package.version for package in packages}

    is_kept, versions = in_child(look)
    assert is_kept
    assert versions["wandb"] == metadata.version("wandb")
