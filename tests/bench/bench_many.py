"""Many images in many classes: time and memory until a run has its data, the first time and later.

    python -m tests.bench.bench_many [--images 40000] [--classes 2000] [--side 32]

Every start is a process of its own, which lists the folder, knows the digest of each file and opens the cache: what a
run does before its first step, without imports and model. The first start also reads and decodes all images. Half as
many images show whether time grows with their number. CPU time is that of all threads together; on a busy machine it is
the better measure. Small images make this a measure of what each image costs beside its pixels.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from tests.bench.table import at_most, show

TARGET = 3.0  # seconds until a later run has its data
LINEAR = 2.4  # times the CPU time for twice as many images

CHILD = """
import json, sys, time
from harness.config import RunConfig
from harness.data.dataset import open_dataset
from harness.data.image_folder import load_image_folder
from harness.model.vit import Preprocessing
def resident():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
root, caches, side = sys.argv[1], sys.argv[2], int(sys.argv[3])
config = RunConfig(data=root, cache_dir=caches)
before, start, cpu = resident(), time.perf_counter(), time.process_time()
folder = load_image_folder(config)
listed = time.perf_counter()
data = open_dataset(folder, Preprocessing(side, side, "bilinear", (0.5,) * 3, (0.5,) * 3), config)
opened, cpu = time.perf_counter(), time.process_time() - cpu
print(json.dumps([listed - start, opened - listed, cpu, resident() - before, len(data.pixels.shards)]))
"""


def write_many(root: Path, images: int, classes: int, side: int) -> None:
    """Small JPEGs, no two alike: of each class one in valid, one in test and the rest in train."""
    cv2.setNumThreads(0)
    random = np.random.default_rng(0)
    for label in range(classes):
        folders = [root / split / f"class {label:05}" for split in ("valid", "test", "train")]
        for folder in folders:
            folder.mkdir(parents=True)
        for number in range(images // classes):
            grain = random.integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8)
            pixels = cv2.resize(grain, (side, side), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(folders[min(number, 2)] / f"{number:05}.jpg"), pixels)


def start(root: Path, caches: Path, side: int) -> list[float]:
    """Seconds to list and to open, CPU seconds of both, bytes of memory above the imports, and shards."""
    command = [sys.executable, "-c", CHILD, str(root), str(caches), str(side)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--classes", type=int, default=2_000)
    parser.add_argument("--side", type=int, default=32, help="pixels along each side")
    parser.add_argument("--rounds", type=int, default=3, help="starts; the table shows the smallest values")
    arguments = parser.parse_args()

    rows, seconds = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        counts = (arguments.images // 2, arguments.images)
        roots = {}
        for count in counts:
            roots[count] = Path(scratch) / str(count)
            write_many(roots[count], count, arguments.classes, arguments.side)
        os.sync()  # what is still to be written would slow down the starts
        for kind in ("first", "later"):
            # Each number of images in turn, so that other work on the machine costs both alike.
            results: dict[int, list[list[float]]] = {count: [] for count in counts}
            for number in range(arguments.rounds):
                for count in counts:
                    caches = Path(scratch) / f"caches {count}" / str(number if kind == "first" else 0)
                    results[count].append(start(roots[count], caches, arguments.side))
            for count in counts:
                listing, opening, cpu, memory, shards = np.min(results[count], axis=0).tolist()
                seconds[kind, count] = cpu
                target = at_most(listing + opening, TARGET, " s") if (kind, count) == ("later", counts[1]) else ""
                times = [f"{value:.2f}" for value in (listing, opening, cpu)]
                per_image = f"{cpu / count * 1e6:.0f}"
                rows.append([f"{kind}, {count:,}", *times, per_image, f"{memory / 2**20:.0f}", f"{shards:.0f}", target])
    columns = ["start, images", "list s", "open s", "CPU s", "CPU us/image", "MiB above imports", "shards", "target"]
    growth = [seconds[kind, counts[1]] / seconds[kind, counts[0]] for kind in ("first", "later")]
    show(
        f"until a run has its data, {arguments.classes:,} classes, smallest of {arguments.rounds}",
        columns,
        rows,
        notes=[
            f"twice the images: {kind} start takes {ratio:.2f} times the CPU time, {at_most(ratio, LINEAR)}"
            for kind, ratio in zip(("first", "later"), growth, strict=True)
        ],
    )


if __name__ == "__main__":
    main()
