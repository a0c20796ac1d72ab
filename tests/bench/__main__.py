"""Run the benchmarks in turn, each in a separate process: python -m tests.bench [NAME]...

Without a name: all but peers and quality.

Every table shows medians with the smallest and largest of all rounds. What is compared takes turns round by round, so
that other work on the machine costs both sides alike. To set rounds or sizes, start one alone:
python -m tests.bench.bench_loop --help
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

# In the order they run: the quick ones first.
BENCHMARKS = {
    "start": "time to `harness --help` and to import what a run needs",
    "data": "training images per second and core, against torchvision",
    "streaming": "training images per second from disk, if a quarter of the images fits into memory",
    "many": "time and memory until a run has 40,000 images of 2,000 classes, the first time and later",
    "loop": "an epoch of a run, against the barest PyTorch loop",
    "look": "what looking at attention adds to an evaluation, and drawing it, against matplotlib",
    "report": "time to build the page of two hundred runs",
    "sweep": "what a sweep adds to the training and evaluation of its trials",
    "memory": "most memory that one run takes",
    "intervals": "how often the intervals of accuracy and macro F1 hold the truth",
    "export": "ONNX exports of timm's models: the largest difference of their logits",
    "imbalance": "macro F1 on unbalanced classes, with each correction",
    "gpu": "training on a GPU: steps against timm's, epochs, attention, scoring, saving, equality, lack of memory",
    "peers": "cost of whole jobs on a CPU, against the scripts of other projects",
    "quality": "test scores at equal passes over train, against the probe and other projects",
}
LONG = ("peers", "quality")  # up to hours on a CPU, and they need images and weights from outside


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(f"  {name:10}{what}" for name, what in BENCHMARKS.items()),
    )
    shown = f"{', '.join(BENCHMARKS)} [default: all but {', '.join(LONG)}]"
    parser.add_argument("names", nargs="*", metavar="NAME", help=shown)
    names = parser.parse_args().names or [name for name in BENCHMARKS if name not in LONG]
    if unknown := [name for name in names if name not in BENCHMARKS]:
        parser.error(f"There is no benchmark {', '.join(unknown)}; choose from {', '.join(BENCHMARKS)}.")
    failed = []
    for name in names:
        print(f"== {name}: {BENCHMARKS[name]}", flush=True)
        start = time.perf_counter()
        if subprocess.run([sys.executable, "-m", f"tests.bench.bench_{name}"], check=False).returncode:
            failed.append(name)
        print(f"({time.perf_counter() - start:.0f} s)\n", flush=True)
    if failed:
        sys.exit(f"Did not run to the end: {', '.join(failed)}")


if __name__ == "__main__":
    main()
