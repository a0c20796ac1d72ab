"""The most memory that one small run takes, by model: training, validation, test and the files it leaves.

    python -m tests.bench.bench_memory [--models vit_demo vit_ti_16] [--batch-size 16]

Each run is a process of its own. Resident memory holds the libraries, which the first row shows alone, and on a CPU the
pages of the pixel cache that were read, which the system can take back.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.images import write_splits
from tests.bench.table import show

# The settings come as JSON in the first argument; without them nothing but the imports is measured.
# VmHWM, not getrusage's ru_maxrss: that one starts at the size of the process that started this one.
CHILD = """
import json, sys
import torch
from harness.config import RunConfig
from harness.train import fit
if len(sys.argv) > 1:
    fit(RunConfig.from_dict(json.loads(sys.argv[1])))
resident = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
on_gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
print("\\n" + json.dumps([int(resident.split()[1]) * 1024, on_gpu]))
"""


def peak(settings: dict | None = None) -> tuple[int, int | None]:
    """Most bytes resident and allocated on the GPU, if there is one, in a child that makes one run."""
    command = [sys.executable, "-c", CHILD, *([json.dumps(settings)] if settings else [])]
    environment = os.environ | {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    resident, on_gpu = json.loads(done.stdout.splitlines()[-1])
    return resident, on_gpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", help="[default: vit_demo and vit_ti_16; on a GPU vit_b_16 as well]")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=3, help="the optimiser has all its state after two")
    arguments = parser.parse_args()

    baseline, on_gpu = peak()
    models = arguments.models or ["vit_demo", "vit_ti_16", *(["vit_b_16"] if on_gpu is not None else [])]
    peaks = {"(imports alone)": (baseline, on_gpu)}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        data = write_splits(scratch / "pictures", train=arguments.steps * arguments.batch_size, size=256)
        for model in models:
            values = {"model": model, "batch_size": arguments.batch_size, "epochs": 1, "weights": "none"}
            folders = {"data": str(data), "cache_dir": str(scratch / "cache"), "runs_dir": str(scratch / "runs")}
            peaks[model] = peak(values | folders)

    rows = []
    for model, (resident, allocated) in peaks.items():
        numbers = [resident, resident - baseline, *([] if allocated is None else [allocated])]
        rows.append([model, *(f"{number / 2**20:.0f}" for number in numbers)])
    columns = ["model", "resident MiB", "above imports", *([] if on_gpu is None else ["on the GPU MiB"])]
    show(f"peak memory, batch {arguments.batch_size}, one epoch of {arguments.steps} steps", columns, rows)


if __name__ == "__main__":
    main()
