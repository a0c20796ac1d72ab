"""CPU threads of training, by the size of a step."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from harness.config import RunConfig
from harness.model.vit import build_model
from harness.training.distributed import Processes
from harness.training.threads import limit_threads


@pytest.fixture(autouse=True)
def sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("harness.training.distributed.default_threads", lambda processes: 16 // processes)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("model", "image_size", "images", "expected"),
    [
        # Parameters of a block x tokens x images, divided by 150 million.
        ("vit_demo", 64, 16, 1),  # 132,480 x 65 x 16 = 138 million
        ("vit_demo", 64, 35, 2),  # 301 million
        ("vit_ti_16", 224, 3, 1),  # 444,864 x 197 x 3 = 263 million
        ("vit_ti_16", 224, 4, 2),  # 351 million
        ("vit_ti_16", 224, 16, 9),
        ("vit_ti_16", 224, 32, 16),  # 18 would be of use
    ],
)
def test_each_thread_has_enough_to_do(model: str, image_size: int, images: int, expected: int) -> None:
    config = RunConfig(data="images", weights="none", model=model, image_size=image_size)
    processes = Processes(config)
    assert torch.get_num_threads() == 16
    limit_threads(build_model(config, 5).model, images, config, processes)
    assert torch.get_num_threads() == expected


def test_the_users_number_is_kept() -> None:
    config = RunConfig(data="images", weights="none", model="vit_demo", image_size=64, threads=3)
    processes = Processes(config)
    limit_threads(build_model(config, 5).model, 1, config, processes)
    assert torch.get_num_threads() == 3
