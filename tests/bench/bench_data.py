"""Training images per second and core: the harness's pipeline against torchvision's, like for like.

    python -m tests.bench.bench_data [--data DIR]

Both deliver normalised float32 (b, 3, 224, 224) batches. Ours starts at the pixel cache, theirs at the JPEG files, as
in every epoch of a run: ImageFolder and PIL in a DataLoader without workers, transforms v1 and v2. One thread computes;
what is counted is the process's CPU time, all threads together. Rounds of all variants alternate, and the table shows
medians: other work on the machine then costs every row alike.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from harness.data.augment import Augment
from harness.data.cache import open_cache
from harness.data.dataset import CachedImages
from harness.data.loader import TrainBatches
from harness.data.prefetch import LoaderProcess
from harness.data.resize import Resize
from harness.model.preprocessing import Preprocessing
from tests.bench.images import write_images
from tests.bench.table import ratios, show, spread

SIZE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

AUGMENTS = {
    "none": Augment("none"),
    "standard, no colour jitter": Augment("standard", color_jitter=0.0),
    "standard": Augment("standard", color_jitter=0.4),
    "randaugment": Augment("randaugment"),
}


def torchvision_transforms(library: Any, name: str, resize: int) -> list[Any]:
    """The same augmentation by torchvision.transforms (v1) or .v2, on PIL images."""
    if name == "none":
        return [library.Resize(resize), library.CenterCrop(SIZE)]
    steps = [library.RandomResizedCrop(SIZE), library.RandomHorizontalFlip()]
    if name == "standard":
        steps.append(library.ColorJitter(0.4, 0.4, 0.4))
    if name == "randaugment":
        steps.append(library.RandAugment())
    return steps


def variants(root: Path, cache_dir: Path, count: int, batch_size: int, resize: int) -> dict[str, dict[str, Callable]]:
    """{augmentation: {pipeline: draw one epoch}}."""
    folder = ImageFolder(str(root))
    samples = sorted(folder.samples)[:: max(1, len(folder.samples) // count)][:count]
    files = [Path(file).relative_to(root).as_posix() for file, _ in samples]
    cache = open_cache(root, files, resize=Resize(resize, "bilinear"), cache_dir=cache_dir, progress=False)

    def ours(settings: Augment) -> Callable[[int], int]:
        batches = TrainBatches(
            CachedImages(cache, np.arange(len(files)), np.array([label for _, label in samples]), tuple(files)),
            Preprocessing(resize, SIZE, "bilinear", MEAN, STD),
            LoaderProcess(),
            num_classes=len(folder.classes),
            batch_size=batch_size,
            augment=settings,
        )
        return lambda epoch: sum(len(batch.images) for batch in batches.epoch(epoch))

    def theirs(steps: list[Any], compose: Any) -> Callable[[int], int]:
        dataset = ImageFolder(str(root), transform=compose(steps))
        dataset.samples = samples
        loader = torch.utils.data.DataLoader(dataset, batch_size, shuffle=True, num_workers=0)
        return lambda epoch: sum(len(images) for images, _ in loader)

    v1_tail = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    v2_tail = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    return {
        name: {
            "ours": ours(settings),
            "v1": theirs(torchvision_transforms(transforms, name, resize) + v1_tail, transforms.Compose),
            "v2": theirs(torchvision_transforms(v2, name, resize) + v2_tail, v2.Compose),
        }
        for name, settings in AUGMENTS.items()
    }


def measure(table: dict[str, dict[str, Callable]], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Images per CPU second of every variant in every round; round 0 warms up and is not kept."""
    speeds: dict[str, dict[str, list[float]]] = {name: {key: [] for key in row} for name, row in table.items()}
    for round_number in range(rounds + 1):
        for name, row in table.items():
            for key, epoch in row.items():
                start = time.process_time()
                pictures = epoch(round_number)
                seconds = time.process_time() - start
                if round_number > 0:
                    speeds[name][key].append(pictures / seconds)
    return speeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of class folders of images [default: generated]")
    parser.add_argument("--pictures", type=int, default=256, help="images per round")
    parser.add_argument("--batch-size", type=int, default=64, help="images per batch")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of all variants")
    parser.add_argument(
        "--resize",
        type=int,
        default=SIZE,
        help="short side that images are resized to before the centre crop, and cached at",
    )
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as scratch:
        root = arguments.data or Path(scratch) / "pictures"
        if not arguments.data:
            write_images(root / "class", arguments.pictures, SIZE)
        cache_dir = Path(scratch) / "cache"
        table = variants(root, cache_dir, arguments.pictures, arguments.batch_size, arguments.resize)
        speeds = measure(table, arguments.rounds)

    rows = []
    for name, row in speeds.items():
        factors = [spread(ratios(row["ours"], row[other]), 1) + "x" for other in ("v1", "v2")]
        rows.append([name, *(spread(row[key], 0) for key in ("ours", "v1", "v2")), *factors])
    show(
        f"images per CPU second and core, median (min..max) of {arguments.rounds} rounds of {arguments.pictures}",
        ["augmentation", "ours", "torchvision v1", "torchvision v2", "ours to v1", "ours to v2"],
        rows,
    )


if __name__ == "__main__":
    main()
