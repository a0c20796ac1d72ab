"""Images that stay in device memory, through whole runs: a CPU's memory stands in for that of a GPU."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torchvision.models import VisionTransformer

from harness.config import RunConfig
from harness.data import eval_loader, gpu_augment
from harness.data.dataset import Dataset
from harness.data.prefetch import CPU
from harness.train import Outcome, fit
from harness.training.dataloaders import keep_on_device
from tests.data.test_eval_loader import SPLIT
from tests.data.test_loader import CACHE
from tests.test_train import losses_of, rows_of, same_bits, settings, weights_of


@pytest.fixture
def resident(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_augment, "fits", lambda cache_bytes, device: True)


def results(outcome: Outcome) -> list[dict[str, float]]:
    """The scores of all epochs and of the test."""
    epochs = [{key: row[key] for key in row if key.startswith("val/")} for row in rows_of(outcome)]
    return [*filter(None, epochs), {key: outcome.summary[key] for key in outcome.summary if key.startswith("test/")}]


def test_training_and_scoring_on_images_that_stay_on_the_device_give_the_same_bits(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fit(settings(data_folder, tmp_path / "host", epochs=1))
    monkeypatch.setattr(gpu_augment, "fits", lambda cache_bytes, device: True)
    for loader in ("Staging", "work_ahead"):  # what reads images from the host to score them
        monkeypatch.delattr(eval_loader, loader)
    outcome = fit(settings(data_folder, tmp_path / "device", epochs=1))
    assert losses_of(outcome) == losses_of(expected)
    assert results(outcome) == results(expected)
    assert len(results(outcome)) == 2
    assert same_bits(weights_of(outcome), weights_of(expected))


@pytest.mark.usefixtures("resident")
@pytest.mark.parametrize("in_training", [True, False])
def test_too_little_memory_takes_the_images_from_the_device_and_the_run_ends_the_same(
    data_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    in_training: bool,
) -> None:
    expected = fit(settings(data_folder, tmp_path / "enough", epochs=1, augment="standard"))
    capfd.readouterr()
    forward, failed = VisionTransformer.forward, list[bool]()
    failures = 1 if in_training else 2  # the scoring batch of 32 images is halved first

    def hungry(self: VisionTransformer, images: torch.Tensor) -> torch.Tensor:
        if self.training == in_training and len(failed) < failures:
            failed.append(True)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more than there is.")
        return forward(self, images)

    monkeypatch.setattr(VisionTransformer, "forward", hungry)
    outcome = fit(settings(data_folder, tmp_path / "little", epochs=1, augment="standard"))
    printed = capfd.readouterr().out
    assert printed.count("Out of memory: images no longer stay on the device; each batch copies its images there.") == 1
    assert "micro-batch" not in printed and len(failed) == failures
    assert outcome.summary["micro_batch"] == 5
    assert losses_of(outcome) == losses_of(expected)
    assert results(outcome) == results(expected)
    assert same_bits(weights_of(outcome), weights_of(expected))


@pytest.mark.usefixtures("resident")
def test_images_stay_on_the_device_of_all_ranks_or_of_none() -> None:
    data: Any = Dataset(Path(), ("a",), CACHE, SPLIT, SPLIT, SPLIT, {}, "")
    config = RunConfig(data="images")
    for lacking in (False, True):
        processes: Any = SimpleNamespace(device=CPU, any=lambda flag, lacking=lacking: flag or lacking)
        kept = keep_on_device(data, config, processes)
        assert (kept.train.on_device is None) == lacking
        assert kept.train.on_device is kept.val.on_device is kept.test.on_device
    assert keep_on_device(data, RunConfig(data="images", augment="augmix"), processes).train.on_device is None
