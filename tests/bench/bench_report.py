"""Seconds to build the page of a large sweep, how much of it the first view loads, and how long a browser works for it.

    python -m tests.bench.bench_report [--runs 200] [--pictures 500] [--rounds 3]

Run folders are written by hand: a hundred classes, settings drawn at random, two hundred rows of metrics each, and no
attention maps. Every round builds the page, then once more with nothing changed, and loads it in Chromium.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser

from reports.page.build import build
from tests.bench.table import at_most, show, spread
from tests.helpers.browser import WIDE, started
from tests.reports.test_runs import write_run

TARGET = 60.0  # seconds
FIRST_VIEW = 1.0  # MB
USABLE = 1.0  # seconds of the browser's main thread
LOADS = 5  # of each page

CLASSES = tuple(f"class {number}" for number in range(100))


def write_runs(folder: Path, runs: int, pictures: int) -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(pictures) % len(CLASSES)
    for number in range(runs):
        lr = 10 ** generator.uniform(-6, -2)
        f1 = float(np.clip(0.9 - 0.15 * (np.log10(lr) + 4.5) ** 2, 0.01, 0.95))
        wrong = generator.random(pictures) > f1
        predicted = np.where(wrong, generator.integers(0, len(CLASSES), pictures), labels)
        config = {
            "lr": float(lr),
            "batch_size": int(generator.choice([16, 32, 64])),
            "augment": str(generator.choice(["none", "standard", "randaugment"])),
            "weight_decay": float(10 ** generator.uniform(-3, -1)),
        }
        run = write_run(
            folder / f"run-{number}",
            labels.tolist(),
            predicted.tolist(),
            classes=CLASSES,
            config=config,
            summary={"best/val_f1": f1, "train/images_per_second": 900.0, "test/accuracy": f1},
        )
        rows = [{"step": step, "epoch": step / 40, "train/loss": 4.6 - f1 * step / 60} for step in range(1, 201)]
        rows += [{"step": 40 * e, "epoch": e, "val/loss": 3.0, "val/f1": f1 * e / 5} for e in range(1, 6)]
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def timed(runs: Path, page: Path) -> float:
    start = time.perf_counter()
    build(runs, page)
    return time.perf_counter() - start


def first_view(page: Path) -> float:
    """MB that a browser reads before anything is scrolled to; the charting library is read with the first chart."""
    files = [page / "index.html", *(page / "assets").glob("*.css"), *(page / "assets").glob("*.js")]
    files += [page / "data" / f"{name}.js" for name in ("runs", "curves-groups")]
    return sum(path.stat().st_size for path in files if path.name != "plotly.min.js") / 1e6


def usable_after(browser: Browser, page: Path) -> float:
    """CPU seconds of the browser's main thread until all that a loaded page does by itself is done: its table sorts and
    filters, and the thread is idle for half a second."""
    tab = browser.new_page(viewport={"width": WIDE, "height": 900})
    session = tab.context.new_cdp_session(tab)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    tab.goto((page / "index.html").as_uri(), wait_until="load")
    tab.wait_for_function("document.querySelector('#leaderboard [data-count]').textContent")
    tab.wait_for_timeout(500)
    metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    tab.close()
    return float(metrics["TaskDuration"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--pictures", type=int, default=500, help="test images of each run")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    first, again, usable = [], [], []
    with tempfile.TemporaryDirectory() as folder, started() as browser:
        runs, page = Path(folder) / "runs", Path(folder) / "page"
        write_runs(runs, arguments.runs, arguments.pictures)
        for _ in range(arguments.rounds):
            shutil.rmtree(page, ignore_errors=True)
            first.append(timed(runs, page))
            again.append(timed(runs, page))
            usable += [usable_after(browser, page) for _ in range(LOADS)]
        size = first_view(page)
    show(
        f"The page of {arguments.runs} runs x {arguments.pictures} test images",
        ("", "measured", "target"),
        [
            ("seconds to build it", spread(first, 1), at_most(float(np.median(first)), TARGET, " s")),
            ("... again, nothing changed", spread(again, 1), ""),
            ("MB of the first view", f"{size:.2f}", at_most(size, FIRST_VIEW, " MB")),
            (
                "seconds of the main thread until usable",
                spread(usable, 2),
                at_most(float(np.median(usable)), USABLE, " s"),
            ),
        ],
    )


if __name__ == "__main__":
    main()
