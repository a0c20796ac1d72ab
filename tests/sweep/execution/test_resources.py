from __future__ import annotations

import os

import pytest

from harness.errors import ConfigError
from harness.launch.gpus import gpu_share
from harness.sweep.execution import resources as resources_module
from harness.sweep.execution.resources import Slot, share_machine, smallest_memory

CORES = set(range(8))


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four GPUs and eight cores."""
    monkeypatch.setattr(resources_module, "count_gpus", lambda environment: 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: CORES)


@pytest.fixture
def no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources_module, "count_gpus", lambda environment: 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: CORES)


def test_each_trial_has_separate_gpus_and_cores(gpus: None) -> None:
    assert (
        share_machine(None, 2, 1, {})
        == share_machine(2, 2, 1, {})
        == [
            Slot(0, ("0", "1"), (0, 1, 2, 3), 2),
            Slot(1, ("2", "3"), (4, 5, 6, 7), 2),
        ]
    )
    assert [slot.gpus for slot in share_machine(None, None, 1, {})] == [("0",), ("1",), ("2",), ("3",)]
    assert [slot.gpus for slot in share_machine(1, 3, 1, {})] == [("0", "1", "2")]
    assert share_machine(2, 1, 1, {})[1].environment() == {"CUDA_VISIBLE_DEVICES": "1"}


def test_several_trials_can_share_a_gpu(gpus: None) -> None:
    assert [slot.gpus for slot in share_machine(None, 0.5, 1, {})] == [(name,) for name in "01230123"]
    assert [slot.gpus for slot in share_machine(3, 0.25, 1, {})] == [("0",), ("1",), ("2",)]


def test_more_workers_than_gpus_share_gpus_and_their_memory(gpus: None) -> None:
    slots = share_machine(6, None, 1, {})
    assert [slot.gpus for slot in slots] == [(name,) for name in "012301"]
    assert [slot.gpu_share for slot in slots] == [0.5, 0.5, 1, 1, 0.5, 0.5]
    assert slots[5].environment() == {"CUDA_VISIBLE_DEVICES": "1", "HARNESS_GPU_SHARE": "0.5"}
    assert "HARNESS_GPU_SHARE" not in slots[3].environment()


def test_three_workers_share_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources_module, "count_gpus", lambda environment: 1)
    for slots in (share_machine(3, None, 1, {}), share_machine(None, 0.33, 1, {})):
        assert [slot.gpus for slot in slots] == [("0",)] * 3
        assert [slot.processes for slot in slots] == [1] * 3
        assert [gpu_share(slot.environment()) for slot in slots] == pytest.approx([1 / 3] * 3, abs=1e-5)
    assert [gpu_share(slot.environment()) for slot in share_machine(None, None, 1, {})] == [1]


def test_trials_divide_the_gpu_share_of_the_sweep(gpus: None) -> None:
    slots = share_machine(5, None, 1, {"HARNESS_GPU_SHARE": "0.5"})
    assert [gpu_share(slot.environment()) for slot in slots] == [0.25, 0.5, 0.5, 0.5, 0.25]


@pytest.mark.parametrize("share", ["half", "0", "-0.5", "1.5", "nan"])
def test_a_gpu_share_is_above_0_and_at_most_1(share: str) -> None:
    assert gpu_share({}) == gpu_share({"HARNESS_GPU_SHARE": ""}) == gpu_share({"HARNESS_GPU_SHARE": "1"}) == 1
    with pytest.raises(ConfigError, match=f"HARNESS_GPU_SHARE is '{share}'; give the share"):
        gpu_share({"HARNESS_GPU_SHARE": share})


def test_gpus_keep_their_names(gpus: None) -> None:
    visible = {"CUDA_VISIBLE_DEVICES": "7,GPU-5f,3,1"}
    assert [slot.gpus for slot in share_machine(None, 2, 1, visible)] == [("7", "GPU-5f"), ("3", "1")]


def test_without_gpus_workers_share_the_cores(no_gpus: None) -> None:
    assert share_machine(None, None, 1, {}) == [Slot(0, (), tuple(range(8)), 1)]
    assert [slot.cores for slot in share_machine(3, None, 1, {})] == [(0, 1), (2, 3, 4), (5, 6, 7)]
    assert [slot.processes for slot in share_machine(2, None, 2, {})] == [2, 2]
    assert {slot.cores for slot in share_machine(16, None, 1, {})} == {(core,) for core in range(8)}
    assert share_machine(1, None, 1, {})[0].environment() == {}


@pytest.mark.parametrize("gpus_per_run", [0.5, 1, 5])
def test_gpus_cannot_be_asked_for_without_one(no_gpus: None, gpus_per_run: float) -> None:
    with pytest.raises(ConfigError, match=rf"^--gpus-per-run is {gpus_per_run}, but no GPU can be used here\. Leave"):
        share_machine(None, gpus_per_run, 1, {})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, 0, 1), "--gpus-per-run is 0"),
        ((None, 1.5, 1), "--gpus-per-run is 1.5"),
        ((None, 5, 1), "more than the 4 usable GPU"),
        ((3, 2, 1), "Give at most --workers 2"),
        ((None, 1, 2), "--processes-per-run is for machines without GPUs"),
    ],
)
def test_more_than_the_machine_has_is_an_error(
    arguments: tuple[int | None, float, int], message: str, gpus: None
) -> None:
    with pytest.raises(ConfigError, match=message):
        share_machine(*arguments, {})


def test_the_least_memory_of_a_slot(gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources_module, "gpu_memory", {"0": 80, "1": 24, "2": 80, "3": 80}.get)
    assert smallest_memory(share_machine(1, None, 1, {})) == 80
    assert smallest_memory(share_machine(4, None, 1, {})) == 24
    assert smallest_memory(share_machine(8, 0.5, 1, {})) == 12
    assert smallest_memory([Slot(0, ("GPU-af3c",), (0,), 1)]) is None  # a name that the driver does not count by
    assert smallest_memory([Slot(0, (), (0,), 1)]) == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
