"""The benchmark of a sweep's overhead: the functions that it times exist."""

from __future__ import annotations

from tests.bench import bench_sweep


def test_every_place_of_a_phase_is_a_function() -> None:
    places = [place for phase in bench_sweep.PHASES.values() for place in phase]
    assert len(set(places)) == len(places)
    for place in places:
        owner, attribute = bench_sweep.resolved(place)
        assert callable(getattr(owner, attribute)), place
