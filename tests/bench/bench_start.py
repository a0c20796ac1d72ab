"""Time until the command line answers, against Python's own start.

    python -m tests.bench.bench_start [--rounds 15]

Every round starts each program once, in turn, from warm disk caches.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.table import at_most, show, spread

TARGET = 0.3  # seconds
BARE = "python -c pass"

ENTRY = "from harness.cli.main import main; main([{}])"


def programs() -> dict[str, list[str]]:
    """Command lines by name."""
    found = {
        BARE: [sys.executable, "-c", "pass"],
        "import click": [sys.executable, "-c", "import click"],
        "harness --help": [sys.executable, "-c", ENTRY.format("'--help'")],
        "harness train --help": [sys.executable, "-c", ENTRY.format("'train', '--help'")],
    }
    beside = Path(sys.executable).with_name("harness")
    if script := str(beside) if beside.is_file() else shutil.which("harness"):
        found["harness --help (installed)"] = [script, "--help"]
    return found


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def measure(commands: dict[str, list[str]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every command in every round; round 0 warms up and is not kept."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds + 1):
        for name, command in commands.items():
            times[name].append(seconds(command))
    return {name: values[1:] for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="starts of each command")
    parser.add_argument("--import-rounds", type=int, default=3, help="starts of each import that takes seconds")
    arguments = parser.parse_args()

    times = measure(programs(), arguments.rounds)
    rows = []
    for name, values in times.items():
        above = [value - bare for value, bare in zip(values, times[BARE], strict=True)]
        target = at_most(statistics.median(values), TARGET, " s") if "--help" in name else ""
        rows.append([name, spread(values), spread(above), target])
    show(f"seconds, median (min..max) of {arguments.rounds}", ["", "wall", "above bare python", "target"], rows)

    imports = {f"import {name}": [sys.executable, "-c", f"import {name}"] for name in ("torch", "harness.train")}
    imported = measure(imports, arguments.import_rounds)
    rows = [[name, spread(values)] for name, values in imported.items()]
    show(f"seconds, median (min..max) of {arguments.import_rounds}", ["", "wall"], rows)


if __name__ == "__main__":
    main()
