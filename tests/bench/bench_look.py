"""What looking costs: capture beside plain evaluation, drawing beside matplotlib, and memory.

    python -m tests.bench.bench_look [--model vit_ti_16] [--batch-size 8] [--rounds 8] [--pages 2]

Capture: a batch through the model as an evaluation does it, against the same batch with the class token's rows
captured, with every matrix reduced besides, and as `--explain` looks at it, gradients included. "plain, once more" is
plain evaluation against itself and shows how far the machine can be trusted.

Drawing: pages of generated attention on generated images, as a run draws them, against the same panels by matplotlib. A
few pages a round; seconds of 500 are extrapolated from them.

One thread, on the CPU clock: other work on the machine costs both sides alike.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure

from harness.explain.attention.batch import collect_batch
from harness.explain.attention.capture import capture_calls, capture_rows
from harness.explain.attention.head_statistics import head_statistics, patch_distances
from harness.explain.attention.rollout import transition
from harness.explain.drawing.canvas import SEQUENTIAL, as_grid, largest
from harness.explain.drawing.image_page import draw_pages
from harness.model.architectures import ARCHITECTURES
from harness.runs.attention_files import Archive
from tests.bench.images import detailed_image
from tests.bench.real_run import lap
from tests.bench.table import at_most, ratios, show, spread
from tests.helpers.built_models import loaded_model
from tests.helpers.explained import made_up_archive
from tests.helpers.tiny_vits import CLASS_TOKEN

PICTURES = 500  # of the study's test set
CAPTURE, DRAWING, HOPED_FOR = 1.05, 60.0, 20.0  # targets: times plain evaluation; seconds
PLAIN, AGAIN, ROWS, MATRICES, LOOK = "plain", "plain, once more", "rows", "rows and matrices", "a look, with gradients"
PAGES = "pages, as a run draws them"
BY_MATPLOTLIB = "the same panels, by matplotlib"

Work = dict[str, Callable[[], object]]


def captures(model: str, batch_size: int) -> Work:
    """One batch through a model of that size, with more and more captured."""
    vit = loaded_model(model, num_classes=100, weights="none", seed=0).model.eval()
    images = torch.randn(batch_size, 3, vit.image_size, vit.image_size, generator=torch.Generator().manual_seed(0))
    labels, side = torch.zeros(batch_size, dtype=torch.int64), vit.image_size // vit.patch_size
    distances = patch_distances((side, side), vit.patch_size)

    @torch.inference_mode()
    def plain() -> None:
        vit(images)

    @torch.inference_mode()
    def rows() -> None:
        with capture_rows(vit) as latest:
            vit(images)
            latest()

    @torch.inference_mode()
    def matrices() -> None:
        with (
            capture_rows(vit) as latest,
            capture_calls(
                vit,
                lambda call: (
                    transition(call.matrix()),
                    head_statistics(call.matrix(), distances, CLASS_TOKEN),
                ),
            ),
        ):
            vit(images)
            latest()

    def look() -> None:
        collect_batch(vit, images, labels, 1)

    return {PLAIN: plain, AGAIN: plain, ROWS: rows, MATRICES: matrices, LOOK: look}


def drawings(model: str, pages: int, folder: Path) -> Work:
    """That many pages with the panels of that model."""
    shape, random = ARCHITECTURES[model], np.random.default_rng(0)
    archive = made_up_archive(
        n=pages,
        layers=shape.num_layers,
        heads=shape.num_heads,
        grid=shape.image_size // shape.patch_size,
        patch_size=shape.patch_size,
        classes=[f"class {number}" for number in range(100)],
    )
    seen = [detailed_image(random, shape.image_size) for _ in range(pages)]

    def by_matplotlib() -> None:
        for index in range(pages):
            figure = Figure(figsize=(14, 9), dpi=100)
            plot(figure, archive, index, seen[index])
            figure.savefig(folder / f"{index}.jpg")

    return {
        PAGES: lambda: draw_pages(archive, seen.__getitem__, folder / "pages"),
        BY_MATPLOTLIB: by_matplotlib,
    }


def plot(figure: Figure, archive: Archive, index: int, picture: np.ndarray) -> None:
    """The panels of a page: the image, three maps over it and alone, strips of layers and heads on two scales."""
    layers, heads = (np.asarray(maps[index], np.float32) for maps in (archive.layers, archive.heads))
    aggregates = (layers.mean(0), archive.rollout[index], archive.relevance[index])
    columns = max(12, len(layers), len(heads))
    grid = figure.add_gridspec(6, columns, height_ratios=(2, 1, 1, 1, 1, 1))
    wide = columns // 4
    for number in range(4):
        axes = figure.add_subplot(grid[0, number * wide : (number + 1) * wide])
        axes.imshow(picture)
        if number:
            axes.imshow(
                as_grid(aggregates[number - 1]), cmap=SEQUENTIAL, alpha=0.5, extent=(0, len(picture), len(picture), 0)
            )
        axes.set(xticks=[], yticks=[])
    for row, maps, shared in (
        (1, aggregates, False),
        (2, layers, False),
        (3, layers, True),
        (4, heads, False),
        (5, heads, True),
    ):
        for number, cells in enumerate(maps):
            axes = figure.add_subplot(grid[row, number])
            axes.imshow(as_grid(cells), cmap=SEQUENTIAL, vmin=0, vmax=largest(layers if shared else cells))
            axes.set(xticks=[], yticks=[])
            axes.set_title(str(number + 1), fontsize=7)
    figure.suptitle(f"{archive.files[index]}: {archive.probability[index]:.1%}")


def in_turns(work: Work, rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each in every round; one round more warms up."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, one in work.items():
            seconds = lap(one).cpu
            if number:
                times[name].append(seconds)
    return times


def compare_captures(model: str, batch_size: int, rounds: int) -> None:
    times = in_turns(captures(model, batch_size), rounds)
    rows = []
    for name, seconds in times.items():
        to_plain = ratios(seconds, times[PLAIN])
        verdict = at_most(statistics.median(to_plain), CAPTURE, "x") if name == ROWS else ""
        rows.append([name, spread([1000 * one / batch_size for one in seconds], 1), spread(to_plain), verdict])
    title = f"capture: {model}, batch {batch_size}, one thread; median (min..max) of {rounds} rounds"
    show(title, ["what", "CPU ms per image", "to plain", "target"], rows)


def compare_drawings(model: str, pages: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        times = in_turns(drawings(model, pages, Path(name)), rounds)
    rows = []
    for name, seconds in times.items():
        all_of_them = [PICTURES * one / pages for one in seconds]
        targets = [at_most(statistics.median(all_of_them), limit, " s") for limit in (DRAWING, HOPED_FOR)]
        cells = [spread([1000 * one / pages for one in seconds], 1), spread(all_of_them, 1)]
        rows.append(
            [name, *cells, spread(ratios(seconds, times[PAGES]), 1), "; ".join(targets if name == PAGES else [])]
        )
    title = f"drawing: panels of {model}, {pages} pages a round, one thread; median (min..max) of {rounds} rounds"
    columns = ["what", "CPU ms per image", f"s per {PICTURES} (extrapolated)", "to ours", "targets"]
    show(title, columns, rows)


def compare_memory(model: str, batch_size: int, pages: int) -> None:
    """Peak memory of processes that do one thing each."""
    peaks = {}
    for name in ("", PLAIN, ROWS, MATRICES, LOOK, PAGES):
        options = ["--model", model, "--batch-size", str(batch_size), "--pages", str(pages), "--alone", name]
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.bench_look", *options], check=True, stdout=subprocess.PIPE, text=True
        )
        peaks[name] = int(done.stdout.splitlines()[-1])
    rows = [[name or "(imports alone)", f"{peak:.0f}", f"{peak - peaks['']:.0f}"] for name, peak in peaks.items()]
    show(f"peak memory: {model}, batch {batch_size}", ["what", "resident MiB", "above imports"], rows)


def alone(name: str, model: str, batch_size: int, pages: int) -> None:
    """Do one thing three times in this process, and print the most MiB that were resident."""
    with tempfile.TemporaryDirectory() as folder:
        if name:
            work = drawings(model, pages, Path(folder)) if name == PAGES else captures(model, batch_size)
            for _ in range(3):
                work[name]()
    resident = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    print(int(resident.split()[1]) // 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit_ti_16", choices=sorted(ARCHITECTURES))
    parser.add_argument("--batch-size", type=int, default=8, help="8 is what a run looks at a time on a CPU")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--pages", type=int, default=2, help="pages of a round")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if options.alone is not None:
        alone(options.alone, options.model, options.batch_size, options.pages)
        return
    compare_captures(options.model, options.batch_size, options.rounds)
    compare_drawings(options.model, options.pages, options.rounds)
    compare_memory(options.model, options.batch_size, options.pages)


if __name__ == "__main__":
    main()
