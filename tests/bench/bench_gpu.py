"""Training on a GPU, in at most 12 minutes: steps, epochs, loading, attention, scoring, saving, equality, memory.

    python -m tests.bench.bench_gpu [--batch-sizes 16 64 256] [--minutes 12] [--tiny --device cpu]

Steps are ours and those of timm's model in a bare loop, on the same images, which lie on the device. Epochs are the
training part of `fit` in bf16. The card's rate is that of large bf16 matrix products, measured before and after each
case; the model's need is counted, not measured: two operations for every multiplication and addition, three times the
forward pass. "data" is an epoch of drawing batches and doing nothing with them, over an epoch of training. A part that
fails is named, and the others are measured. --tiny shrinks everything, so that a CPU runs all of it: its numbers mean
nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from harness.model.architectures import ARCHITECTURES, Architecture
from tests.bench.gpu_loading import loading_rows
from tests.bench.gpu_steps import (
    STEP_COLUMNS,
    Row,
    Setup,
    attention_rows,
    equality_rows,
    memory_rows,
    scoring_and_saving_rows,
    step_rows,
)
from tests.bench.images import write_splits
from tests.bench.real_run import Epoch, Lap, lap, settings, timed_epochs
from tests.bench.table import at_least, show, spread


@dataclasses.dataclass(frozen=True)
class Plan:
    model: str
    pictures: int  # in an epoch
    picture_size: int  # side in pixels
    batch_sizes: tuple[int, ...]
    rounds: int  # epochs that count, after one that warms up
    precision: str
    matrix_size: int  # side of the matrices whose product gives the card's rate
    targets: dict[int, float]  # least share of the card's rate, by batch size
    setup: Setup


GPU = Plan(
    "vit_b_16",
    2048,
    256,
    (16, 64, 256),
    3,
    "bf16",
    8192,
    {16: 0.35, 64: 0.45, 256: 0.45},
    Setup("vit_b_16", "vit_base_patch16_224", 224, (16, 64, 256), "bf16", 20, (12, 197, 64)),
)
TINY = Plan(
    "vit_demo",
    32,
    73,
    (8,),
    1,
    "fp32",
    256,
    {8: 0.35, 16: 0.45},
    Setup("vit_demo", "test_vit", 64, (2,), "fp32", 2, (2, 17, 8)),
)

# (augment, compile)
VARIANTS = (("none", False), ("standard", False), ("none", True), ("standard", True))


def training_operations(shape: Architecture) -> float:
    """Floating-point operations to train on one image: 105.4e9 for vit_b_16, the head left out."""
    patches = (shape.image_size // shape.patch_size) ** 2
    tokens, width = patches + 1, shape.hidden_dim
    projections = tokens * (4 * width**2 + 2 * width * shape.mlp_dim)
    attention = 2 * tokens**2 * width
    embedding = patches * 3 * shape.patch_size**2 * width
    # Two operations each; the backward pass has two products for every one of the forward pass.
    return 3 * 2 * (shape.num_layers * (projections + attention) + embedding)


def matmul_rate(size: int, precision: str, device: torch.device) -> float:
    """Operations per second of a large matrix product: the median of several bursts."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    one, other = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    burst = 10  # products between two waits, so that starting them costs nothing

    def multiply() -> None:
        for _ in range(burst):
            one @ other

    multiply()
    seconds = statistics.median(lap(multiply).wall for _ in range(7))
    return burst * 2 * size**3 / seconds


@dataclasses.dataclass(frozen=True)
class Case:
    """One setting, measured."""

    images_per_second: list[float]  # of every round
    data_share: float
    rate: float  # of the card, operations per second
    memory: int  # peak bytes on the device


def measure(plan: Plan, scratch: Path, device: torch.device, *, augment: str, compiled: bool, batch_size: int) -> Case:
    config = settings(
        scratch,
        scratch / "pictures",
        model=plan.model,
        batch_size=batch_size,
        epochs=plan.rounds + 1,
        augment=augment,
        compile=compiled,
        precision=plan.precision,
        threads=1,  # of a CPU
    )
    data: list[Lap] = []

    def only_draw(epoch: Epoch) -> None:
        data.append(lap(lambda: [None for _ in epoch()]))

    torch.compiler.reset()  # or a second batch size would be compiled for all sizes at once
    before = matmul_rate(plan.matrix_size, plan.precision, device)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    laps = timed_epochs(config, only_draw)[1:]
    memory = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    after = matmul_rate(plan.matrix_size, plan.precision, device)
    share = statistics.median(one.wall for one in data[1:]) / statistics.median(one.wall for one in laps)
    return Case([plan.pictures / one.wall for one in laps], share, (before + after) / 2, memory)


def epochs(plan: Plan, device: torch.device, out_of_time: Callable[[], bool]) -> None:
    """Whole epochs of `fit`, compiled and not, with and without augmentation."""
    operations = training_operations(ARCHITECTURES[plan.model])
    columns = ["augment", "compile", "batch", "images/s", "of matmul", "target", "data", "matmul TFLOP/s", "peak MiB"]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        write_splits(scratch / "pictures", train=plan.pictures, size=plan.picture_size)
        for (augment, compiled), batch_size in itertools.product(VARIANTS, plan.batch_sizes):
            if out_of_time():
                break
            case = measure(plan, scratch, device, augment=augment, compiled=compiled, batch_size=batch_size)
            shares = [speed * operations / case.rate for speed in case.images_per_second]
            limit = plan.targets.get(batch_size)
            rows.append(
                [
                    augment,
                    "yes" if compiled else "no",
                    str(batch_size),
                    spread(case.images_per_second, 0),
                    spread([100 * share for share in shares], 1) + " %",
                    at_least(100 * statistics.median(shares), 100 * limit, " %") if limit else "",
                    f"{100 * case.data_share:.1f} %",
                    f"{case.rate / 1e12:.3g}",
                    f"{case.memory / 2**20:.0f}" if case.memory else "-",
                ]
            )
            print(f"  measured: {' '.join(rows[-1])}", flush=True)
    show(f"Epochs: median (min..max) of {plan.rounds} epochs of {plan.pictures} images", columns, rows)


def part(title: str, columns: list[str], rows: Iterator[Row], out_of_time: Callable[[], bool]) -> bool:
    """Print one table, as far as it can be measured; whether it was measured whole."""
    measured: list[Row] = []
    failure = ""
    try:
        for row in rows:
            measured.append(row)
            print(f"  measured: {' '.join(row)}", flush=True)
            if out_of_time():
                failure = "the time is over"
                break
    except Exception as error:
        failure = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    show(title, columns, measured, notes=[f"Not complete: {failure}"] if failure else [])
    return not failure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-sizes", type=int, nargs="+", help="images per step")
    parser.add_argument("--rounds", type=int, help="epochs that count")
    parser.add_argument("--minutes", type=float, default=12.0, help="no case is started after this time")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: only with --tiny")
    parser.add_argument("--tiny", action="store_true", help="a small model and few steps")
    options = parser.parse_args()
    if options.device == "cpu" and not options.tiny:
        parser.error("On a CPU, use --tiny: its numbers mean nothing.")
    if options.device == "cuda" and not torch.cuda.is_available():
        print("No GPU here: nothing measured.")
        return

    plan = TINY if options.tiny else GPU
    sizes = tuple(options.batch_sizes or plan.batch_sizes)
    setup = dataclasses.replace(plan.setup, batch_sizes=tuple(options.batch_sizes or plan.setup.batch_sizes))
    plan = dataclasses.replace(plan, batch_sizes=sizes, rounds=options.rounds or plan.rounds, setup=setup)
    device = torch.device(options.device)
    if options.device == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"
    end = time.monotonic() + 60 * options.minutes

    def out_of_time() -> bool:
        return time.monotonic() > end

    operations = training_operations(ARCHITECTURES[plan.model])
    rate = matmul_rate(plan.matrix_size, plan.precision, device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(
        f"{name}: {plan.model} in {plan.precision}, {operations / 1e9:.1f} GFLOP per image, torch {torch.__version__}"
    )
    results = [
        part("Steps", STEP_COLUMNS, step_rows(setup, device, operations, rate), out_of_time),
        part("Attention, both passes", ["backend", "batch", "time"], attention_rows(setup, device), out_of_time),
        part("Batches alone", ["what", "speed"], loading_rows(setup, device), out_of_time),
        part("Scoring and saving", ["what", "result"], scoring_and_saving_rows(setup), out_of_time),
        part("Equality of bits", ["what", "result"], equality_rows(setup), out_of_time),
        part("Memory", ["what", "result"], memory_rows(setup, device), out_of_time),
    ]
    epochs(plan, device, out_of_time)
    if not all(results):
        sys.exit("Not everything was measured.")


if __name__ == "__main__":
    main()
