"""Training speed on a GPU, as a share of the card's own speed at multiplying matrices.

    python -m tests.bench.bench_gpu [--batch-sizes 16 64 256] [--dry]

The training part of `fit` in bf16, images resident on the device. The card's rate is that of large bf16 matrix
products, measured before and after each case; the model's need is counted, not measured: two operations for every
multiplication and addition, three times the forward pass. "data" is an epoch of drawing batches and doing nothing with
them, over an epoch of training. --dry goes the same way on a CPU with a small model, to see that it can be gone.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import statistics
import tempfile
from pathlib import Path

import torch

from harness.model.architectures import ARCHITECTURES, Architecture
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


GPU = Plan("vit_b_16", 2048, 256, (16, 64, 256), 3, "bf16", 8192, {16: 0.35, 64: 0.45, 256: 0.45})
DRY = Plan("vit_demo", 32, 73, (8, 16), 1, "fp32", 256, {8: 0.35, 16: 0.45})

# (augment, compile): augmentation is no part of the model, so one of them is enough to see what compiling does.
VARIANTS = (("none", False), ("standard", False), ("standard", True))


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-sizes", type=int, nargs="+", help="images per step")
    parser.add_argument("--rounds", type=int, help="epochs that count")
    parser.add_argument("--no-compile", action="store_true", help="leave out the runs with --compile true")
    parser.add_argument("--dry", action="store_true", help="a small model on the CPU")
    arguments = parser.parse_args()

    plan = DRY if arguments.dry else GPU
    given = {"batch_sizes": tuple(arguments.batch_sizes or ()), "rounds": arguments.rounds}
    plan = dataclasses.replace(plan, **{name: value for name, value in given.items() if value})
    if not arguments.dry and not torch.cuda.is_available():
        print("No GPU here: nothing measured.")
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    operations = training_operations(ARCHITECTURES[plan.model])
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    columns = ["augment", "compile", "batch", "images/s", "of matmul", "target", "data", "matmul TFLOP/s", "peak MiB"]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        write_splits(scratch / "pictures", train=plan.pictures, size=plan.picture_size)
        variants = [variant for variant in VARIANTS if not (variant[1] and arguments.no_compile)]
        for (augment, compiled), batch_size in itertools.product(variants, plan.batch_sizes):
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
    show(
        f"{name}: {plan.model} in {plan.precision}, {operations / 1e9:.1f} GFLOP per image; "
        f"median (min..max) of {plan.rounds} epochs of {plan.pictures} images; torch {torch.__version__}",
        columns,
        rows,
        notes=["Dry: the numbers mean nothing."] if arguments.dry else [],
    )


if __name__ == "__main__":
    main()
