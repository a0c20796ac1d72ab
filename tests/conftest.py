"""Shared by all tests: nothing reaches the network, the user's caches or the user's W&B account."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from harness.config import RunConfig
from harness.runs import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from playwright.sync_api import Browser

    from tests.helpers.browser import Reader

# Before torch is imported: one thread computes the same bits everywhere and lets a test fork safely.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Started by nohup or a shell's `&`, these are ignored, and so they would be in every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

TRACKER_VARIABLES = ("WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_DIR", "WANDB_DATA_DIR", "WANDB_API_KEY", "WANDB_PROJECT")


def pytest_collection_finish() -> None:
    """Exempt the modules and tests of this process, about a million objects, from garbage collection."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Paths for the home folders of the tests. pytest's numbered folders would each cost a scan of all earlier ones."""
    parent = tmp_path_factory.mktemp("homes")
    return (parent / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch, homes: Iterator[Path]) -> Iterator[None]:
    for name in (*TRACKER_VARIABLES, "ACCELERATE_MIXED_PRECISION", "ACCELERATE_USE_CPU", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    home = next(homes)
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(home / "images"))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    # No test cuts the power: what a killed process has written stays in the system's cache, and waiting is expensive.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    yield
    if "accelerate" in sys.modules:
        # What a test left of it would decide how many processes the next one has.
        sys.modules["accelerate.state"].AcceleratorState._reset_state(reset_partial_state=True)


SAVE_FIGURE = figures.save


def save_blank(figure: Figure, path: Path) -> Path:
    from matplotlib.figure import Figure

    return SAVE_FIGURE(Figure(figsize=(1, 1), dpi=10), path)


@pytest.fixture(autouse=True)
def blank_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Save blank figures, except in tests marked `figures`: drawing three of them is half of the work of a tiny run."""
    if request.node.get_closest_marker("figures") is None:
        monkeypatch.setattr(figures, "save", save_blank)


@pytest.fixture
def fitted_configs(monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """The configs that `run` hands to fit, which does nothing."""
    from harness import train  # imports torch

    configs: list[RunConfig] = []

    def fit(config: RunConfig) -> train.Outcome:
        configs.append(config)
        return train.Outcome("finished", Path("runs"), {})

    monkeypatch.setattr(train, "fit", fit)
    return configs


def write_images(folder: Path, count: int, *, hue: int, seed: int, size: int = 32) -> None:
    """Noise around one colour per class: learnable in a few steps, no two files alike."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng([seed, hue])
    for index in range(count):
        pixels = generator.integers(0, 100, (size, size, 3)).astype(np.uint8)
        pixels[..., hue % 3] += 60 + 60 * (hue // 3)
        Image.fromarray(pixels).save(folder / f"{index:03}.png")


def write_folder(root: Path, *, classes: int = 3, train: int = 7, valid: int = 3, test: int = 3) -> Path:
    for number, (split, count) in enumerate({"train": train, "valid": valid, "test": test}.items()):
        for hue in range(classes):
            if count:
                write_images(root / split / f"class {hue}", count, hue=hue, seed=number)
    return root


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """21 training, 9 validation and 9 test images of three classes; not to be written to."""
    return write_folder(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def report_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """index.html of the page of a small sweep; not to be written to."""
    from reports.page.build import build
    from tests.helpers.small_sweep import write_small_sweep

    return build(write_small_sweep(tmp_path_factory.mktemp("reported")))


# Not for the whole session: while Playwright is there, its event loop counts as running in this thread, and nothing
# else may start one.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from tests.helpers.browser import started

    with started() as found:
        yield found


@pytest.fixture
def reader(browser: Browser) -> Iterator[Reader]:
    """Whoever reads a page finds that it makes no errors and asks nobody for anything."""
    from tests.helpers.browser import Reader

    one = Reader(browser)
    yield one
    assert not one.complaints
    for context in browser.contexts:
        context.close()
