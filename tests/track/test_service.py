"""What is prepared before runs are forked."""

from __future__ import annotations

import time
from importlib import metadata

from tests.helpers.forked import in_child


def test_the_installed_packages_are_read_once() -> None:
    def look() -> tuple[bool, dict[str, str]]:
        from wandb import util

        from harness.track import preload

        preload()
        packages = util.working_set()
        return packages is util.working_set(), {package.key: package.version for package in packages}

    is_kept, versions = in_child(look)
    assert is_kept
    assert versions["wandb"] == metadata.version("wandb")


def test_the_address_of_the_service_is_looked_for_often() -> None:
    """wandb looks each 0.2 s, and a run waits for it: its service answers after a few hundredths of a second."""

    def longest_pause() -> float:
        from wandb.sdk.lib.service import service_port_file

        from harness.track.service import wait_briefly_for_service

        wait_briefly_for_service()
        began = time.monotonic()
        service_port_file._SLEEP(0.2)
        return time.monotonic() - began

    assert in_child(longest_pause) < 0.15
