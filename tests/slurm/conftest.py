"""A Slurm cluster for the tests of this folder: started once, where Slurm is installed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.slurm_cluster import Cluster, cluster, why_not


@pytest.fixture(scope="session")
def slurm() -> Iterator[Cluster]:
    if reason := why_not():
        pytest.skip(f"{reason}: on Debian, apt-get install slurm-wlm munge")
    with cluster() as started:
        yield started
