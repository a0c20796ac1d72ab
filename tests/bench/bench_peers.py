"""What whole jobs cost on a CPU, from the first import to the last file: ours, and the scripts of other projects.

    python -m tests.bench.bench_peers [--epochs 2] [--images 4] [--image-size 224] [--rounds 3] [--threads 1]
        [--data DIR] [--weights FILE] [--model vit_ti_16] [--methods none explained tracked timm hf]
        [--timm FOLDER] [--hf SCRIPT --hf-model FOLDER] [--peer-python PYTHON]

Data and weights are those of HARNESS_REAL_DATA and HARNESS_REAL_WEIGHTS unless given; the scripts are those of
tests/bench/peers.py, and one that is not there is skipped with a sentence. All jobs start from the same weights and
train on the same images, a batch of 16 at a time, with AdamW and crops, flips and (but Hugging Face's) colour jitter:
the settings of our recipe `study` with `--augment standard`. All score equally many images. Ours validates each epoch
and tests the best one; timm's train.py validates each epoch, on one and a half as many images; Hugging Face's script
evaluates once, at the end, on three times as many. Ours also checks the data for near-copies, computes intervals and
draws figures, and nothing is cached: `none` has --explain none, `explained` draws attention as a run does by default,
`tracked` is `explained` with W&B's offline record. Methods take turns round by round. Other programs on the machine
change the wall clock more than the CPU clock.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import peers
from tests.bench.jobs import Cost, run_job
from tests.bench.table import at_most, ratios, show, spread

OURS = ("none", "explained", "tracked")
PEERS = ("timm", "hf")
TIMM_SCRIPTS = ("train.py",)
TARGETS = {"none": 0.9, "explained": 1.05}  # CPU seconds against those of the fastest other project


@dataclass(frozen=True)
class Settings(peers.Common):
    """What all jobs share."""

    image_size: int
    epochs: int
    images: int  # for training, of each class


def write_subsets(settings: Settings, folder: Path) -> dict[str, Path]:
    """Data folders by method: the same training images, and in all (epochs + 1) images of each class to score."""
    classes = peers.class_names(settings.data)
    scored = (settings.epochs + 1) * len(classes)
    counts = {
        "ours": {"val": len(classes), "test": len(classes)},
        "timm": {"val": scored // settings.epochs},
        "hf": {"test": scored},
    }
    for name, of_split in counts.items():
        _copy(peers.split_folder(settings.data, "train"), folder / name / "train", settings.images * len(classes))
        for split, count in of_split.items():
            source = peers.split_folder(settings.data, "val" if name == "ours" and split == "val" else "test")
            _copy(source, folder / name / {"val": "valid"}.get(split, split), count)
    return {method: folder / (method if method in PEERS else "ours") for method in (*OURS, *PEERS)}


def _copy(source: Path, target: Path, count: int) -> None:
    """The first image of each class, then the second of each, and so on. ValueError if there are too few."""
    by_class = [sorted(path for path in one.iterdir() if path.is_file()) for one in sorted(source.iterdir())]
    chosen = [files[turn] for turn in range(max(map(len, by_class))) for files in by_class if turn < len(files)][:count]
    if len(chosen) < count:
        raise ValueError(f"{source} has {len(chosen)} images, not {count}.")
    for path in chosen:
        (target / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / path.parent.name / path.name)


def commands_of(method: str, data: Path, folder: Path, settings: Settings) -> list[list[str]]:
    """The commands of one job, which writes to `folder` only."""
    shared = {"data": data, "epochs": settings.epochs, "seed": 0, "out": folder / "out"}
    if method == "timm":
        assert settings.timm
        weights = {"weights": settings.weights, "model": settings.model, "image_size": settings.image_size}
        return peers.timm_commands(settings.timm, settings.peer_python, **weights, **shared)[:1]  # no inference.py
    if method == "hf":
        assert settings.hf and settings.hf_model
        model = peers.hf_model_of_size(settings.hf_model, settings.image_size, folder / "model")
        return peers.hf_commands(settings.hf, settings.peer_python, model=model, **shared)
    train = [sys.executable, "-m", "harness.cli", "train", "--recipe=study", "--augment=standard", "--lr=1e-4"]
    train += [f"--data={data}", f"--model={settings.model}", f"--weights={settings.weights}", "--precision=fp32"]
    train += [f"--image-size={settings.image_size}", f"--epochs={settings.epochs}", f"--threads={settings.threads}"]
    train += [f"--cache-dir={folder / 'cache'}", f"--runs-dir={folder / 'runs'}"]
    return [[*train, *(["--explain=none"] if method == "none" else [])]]


def measure(method: str, data: Path, folder: Path, settings: Settings) -> Cost | None:
    """The cost of one job from a cold cache, in a new folder."""
    folder.mkdir()
    environment = {
        "OMP_NUM_THREADS": str(settings.threads),
        "WANDB_MODE": "offline" if method == "tracked" else "disabled",
        "HF_DATASETS_CACHE": str(folder / "datasets"),
    }
    return run_job(method, commands_of(method, data, folder, settings), folder, environment)


def compare(methods: Sequence[str], rounds: int, settings: Settings, folder: Path) -> None:
    """Measure everything and print one table."""
    skipped = {method: reason for method in methods if (reason := peers.why_skipped(method, settings, TIMM_SCRIPTS))}
    data = write_subsets(settings, folder)
    costs: dict[str, list[Cost]] = {method: [] for method in methods if method not in skipped}
    for turn in range(rounds):
        for method, measured in costs.items():
            cost = measure(method, data[method], folder / f"{method}-{turn}", settings)
            shutil.rmtree(folder / f"{method}-{turn}" / "cache", ignore_errors=True)
            if cost:
                measured.append(cost)
                print(f"round {turn + 1}, {method}: {cost.cpu_seconds:.1f} CPU seconds", file=sys.stderr, flush=True)
    rows, notes = rows_of({method: costs for method, costs in costs.items() if len(costs) == rounds})
    title = (
        f"{settings.images * len(peers.class_names(settings.data))} images, {settings.epochs} passes, {settings.model} "
        f"at {settings.image_size} px, threads: {settings.threads}; median (min..max) of {rounds}"
    )
    show(title, ("", "seconds", "CPU seconds", "MiB", "CPU, to the fastest other"), rows, [*skipped.values(), *notes])


def rows_of(costs: dict[str, list[Cost]]) -> tuple[list[list[str]], list[str]]:
    """A row for each method, and the goals if another project was measured."""
    cpu = {method: [cost.cpu_seconds for cost in measured] for method, measured in costs.items()}
    others = [method for method in costs if method in PEERS]
    fastest = min(others, key=lambda method: statistics.median(cpu[method]), default=None)
    rows, notes = [], []
    for method, measured in costs.items():
        against = ratios(cpu[method], cpu[fastest]) if fastest else []
        seconds, mebibytes = ([getattr(cost, name) for cost in measured] for name in ("seconds", "mebibytes"))
        numbers = [spread(seconds, 1), spread(cpu[method], 1), f"{max(mebibytes):.0f}"]
        rows.append([method, *numbers, spread(against) if against else ""])
        if against and method in TARGETS:
            goal = at_most(statistics.median(against), TARGETS[method])
            notes.append(f"{method}: CPU seconds to those of {fastest} {goal}")
    return rows, notes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=("none", "explained", *PEERS), choices=(*OURS, *PEERS))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--images", type=int, default=4, help="training images of each class")
    parser.add_argument("--image-size", type=int, default=224)
    peers.add_common_options(parser, TIMM_SCRIPTS)
    if (options := peers.parsed(parser)) is None:
        return
    methods, rounds = options.pop("methods"), options.pop("rounds")
    with tempfile.TemporaryDirectory() as scratch:
        compare(methods, rounds, Settings(**options), Path(scratch))


if __name__ == "__main__":
    main()
