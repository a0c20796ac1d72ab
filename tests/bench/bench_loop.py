"""An epoch of a run against the barest PyTorch loop: the same model, the same images, the same work.

    python -m tests.bench.bench_loop [--model vit_ti_16] [--steps 4] [--rounds 8] [--threads 1]

Ours is the training part of `fit`: loading from the pixel cache, one optimiser step after another, asking whether to
stop, a row of metrics to the run folder and to W&B (offline). The bare loop is forward, cross entropy, backward and a
fused AdamW step, written here, over batches that lie ready in memory: it has no data to load at all. A second one reads
the same images from the same cache, in the plainest way. All take turns in one process, one epoch each; "bare, once
more" is the bare loop against itself and shows how far the machine can be trusted.

One thread computes: on a shared machine several would wait for one another, and waiting counts as work. The loader's
thread may then use another core, so the wall clock hides its work; the CPU clock counts all threads and hides nothing.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torchvision.models import VisionTransformer

from harness.config import RunConfig
from harness.data.dataset import Dataset, open_dataset
from harness.data.image_folder import load_image_folder
from harness.model.architectures import ARCHITECTURES
from harness.model.preprocessing import Preprocessing, preprocessing_of
from tests.bench.images import write_splits
from tests.bench.real_run import Epoch, Lap, lap, settings, timed_epochs
from tests.bench.table import at_most, ratios, show, spread
from tests.helpers.built_models import config_of

TARGET = 1.03
BARE, AGAIN, READING, OURS = "bare, batches in memory", "bare, once more", "bare, reading the cache", "ours: fit"

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PRECISION = "bf16" if DEVICE.type == "cuda" else "fp32"

Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]  # images (b, 3, S, S) float32, labels (b,) int64


def bare_loop(model: VisionTransformer, optimizer: torch.optim.Optimizer, batches: Batches) -> None:
    for images, labels in batches:
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=PRECISION == "bf16"):
            loss = cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def read_cache(data: Dataset, preprocessing: Preprocessing, order: list[np.ndarray]) -> Iterator:
    """The batches of `order`, samples of the train split, centre-cropped and normalised: what any tutorial would do."""
    size = preprocessing.crop_size
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    for samples in order:
        crops = []
        for picture in map(data.pixels.image, data.train.positions[samples].tolist()):
            top, left = (picture.shape[0] - size) // 2, (picture.shape[1] - size) // 2
            crops.append(torch.from_numpy(picture[top : top + size, left : left + size].transpose(2, 0, 1).copy()))
        images = (torch.stack(crops).float() / 255 - mean) / std
        yield images.to(DEVICE), torch.from_numpy(data.train.labels[samples]).to(DEVICE)


def measure(config: RunConfig) -> dict[str, list[Lap]]:
    """Laps of every variant in every round; round 0 warms up and is not kept."""
    preprocessing = preprocessing_of(config)
    data = open_dataset(load_image_folder(config), preprocessing, config)
    shape = ARCHITECTURES[config.model]
    model = VisionTransformer(
        shape.image_size,
        shape.patch_size,
        shape.num_layers,
        shape.num_heads,
        shape.hidden_dim,
        shape.mlp_dim,
        num_classes=len(data.classes),
    ).to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True)
    laps: dict[str, list[Lap]] = {BARE: [], AGAIN: [], READING: []}

    def take_turns(epoch: Epoch) -> None:
        order, batches = [], []
        for batch in epoch():
            order.append(batch.samples)
            labels = torch.from_numpy(data.train.labels[batch.samples]).to(DEVICE)
            batches.append((batch.images.clone(), labels))
        read = next(read_cache(data, preprocessing, order[:1]))[0]
        assert torch.allclose(read, batches[0][0], atol=1e-5), "both sides must see the same images"
        laps[BARE].append(lap(lambda: bare_loop(model, optimizer, batches)))
        laps[AGAIN].append(lap(lambda: bare_loop(model, optimizer, batches)))
        laps[READING].append(lap(lambda: bare_loop(model, optimizer, read_cache(data, preprocessing, order))))

    laps[OURS] = timed_epochs(config, take_turns)
    return {name: of_all[1:] for name, of_all in laps.items()}


def compare(model: str, *, batch_size: int, steps: int, rounds: int, threads: int, target: float | None = None) -> None:
    """Measure and print one table."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        data = write_splits(
            scratch / "pictures", train=steps * batch_size, size=preprocessing_of(config_of(model)).resize_size
        )
        values = {"model": model, "batch_size": batch_size, "epochs": rounds + 1, "threads": threads}
        laps = measure(settings(scratch, data, **values, precision=PRECISION))

    rows = []
    # On a GPU the CPU only waits, so its time says nothing.
    for clock in ("wall", "cpu") if DEVICE.type == "cpu" else ("wall",):
        times = {name: [1000 * getattr(one, clock) / steps for one in of_all] for name, of_all in laps.items()}
        for name, milliseconds in times.items():
            above = [one - bare for one, bare in zip(milliseconds, times[BARE], strict=True)]
            to_bare, to_reading = (ratios(milliseconds, times[other]) for other in (BARE, READING))
            verdict = at_most(statistics.median(to_bare), target, "x") if target and name == OURS else ""
            cells = [spread(milliseconds, 1), spread(above, 1), spread(to_bare), spread(to_reading), verdict]
            rows.append([name, clock, *cells])
    show(
        f"{model}, batch {batch_size}, {PRECISION}, {DEVICE.type}, computing threads: {threads}; "
        f"median (min..max) of {rounds} rounds of {steps} steps",
        ["loop", "clock", "ms per step", "above bare", "to bare", "to bare reading the cache", "target"],
        rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_ti_16", choices=sorted(ARCHITECTURES))
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=4, help="optimiser steps of an epoch, which is one round")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads for computing; the loader has its own")
    options = vars(parser.parse_args())
    compare(**options, target=TARGET)
    # What a step costs beyond the model's own work shows best where that is next to nothing.
    compare("vit_demo", batch_size=1, steps=104, rounds=options["rounds"], threads=options["threads"])


if __name__ == "__main__":
    main()
