"""Test scores with equal images, weights and passes over train: our default, probe and study, and other projects.

    python -m tests.bench.bench_quality [--epochs 1 3] [--seeds 0 1 2] [--methods probe default study timm hf]
        [--data DIR] [--weights FILE] [--model vit_ti_16] [--threads 1] [--out FOLDER]
        [--timm FOLDER] [--hf SCRIPT --hf-model FOLDER] [--peer-python PYTHON]

Data and weights are those of HARNESS_REAL_DATA and HARNESS_REAL_WEIGHTS unless given. Ours are plain `harness train`
and `harness probe` commands. The others are published scripts outside this repository (tests/bench/peers.py names them
and their settings); one whose scripts are not there is skipped, and the table says so. AutoGluon MultiModal is not
measured: it downloads its weights by name, so it cannot start from the same file.

Every method reads train, selects on validation if it selects at all, and scores test once. Seconds are those of the
whole command, imports, decoding and the test included, on the wall clock and on the CPU clock (all threads), which
other work on the machine disturbs less; memory is the largest resident size of any of its processes. With --out,
results are kept and a repeated command measures only what is missing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.bench import peers
from tests.bench.jobs import run_job
from tests.bench.peers import FinalScores
from tests.bench.table import show

METHODS = ("probe", "default", "study", "timm", "hf")
TIMM_SCRIPTS = ("train.py", "inference.py")
COLUMNS = (
    *("passes, method", "seeds", "validation accuracy", "test accuracy", "95 % interval"),
    *("test F1", "95 % interval", "seconds", "CPU seconds", "MiB"),
)


@dataclasses.dataclass(frozen=True)
class Result:
    """One run of one method, scored on test, and its cost."""

    scores: FinalScores
    seconds: float
    cpu_seconds: float
    mebibytes: float


@dataclasses.dataclass(frozen=True)
class Settings(peers.Common):
    """What all methods share."""

    out: Path


def commands_of(method: str, epochs: int, seed: int, folder: Path, settings: Settings) -> list[list[str]]:
    """The commands of a method, to be run one after another."""
    shared = {"data": settings.data, "epochs": epochs, "seed": seed, "out": folder}
    if method == "timm":
        assert settings.timm
        return peers.timm_commands(
            settings.timm, settings.peer_python, weights=settings.weights, model=settings.model, **shared
        )
    if method == "hf":
        assert settings.hf and settings.hf_model
        return peers.hf_commands(settings.hf, settings.peer_python, model=settings.hf_model, **shared)
    harness = [sys.executable, "-m", "harness.cli"]
    source = [f"--data={settings.data}", f"--model={settings.model}", f"--weights={settings.weights}"]
    source += [f"--cache-dir={folder / 'cache'}"]
    if method == "probe":
        return [[*harness, "probe", *source, "--json"]]
    run = [f"--epochs={epochs}", f"--seed={seed}", f"--threads={settings.threads}", "--explain=none"]
    run += [f"--runs-dir={folder / 'runs'}", "--name=run"]
    return [[*harness, "train", *source, *run, *(("--recipe=study",) if method == "study" else ())]]


def scores_of(method: str, folder: Path, settings: Settings) -> FinalScores:
    """Scores from the files that the commands of a method wrote into its folder."""
    if method == "timm":
        return peers.timm_scores(folder, settings.data)
    if method == "hf":
        return peers.hf_scores(folder, settings.data)
    if method == "probe":
        numbers = json.loads((folder / "output.txt").read_text().strip().splitlines()[-1])
        hits = round(numbers["test/accuracy"] * numbers["test/n"])
        numbers["test/accuracy_low"], numbers["test/accuracy_high"] = peers.wilson(hits, numbers["test/n"])
        val_accuracy = numbers["val/accuracy"]
    else:
        (summary,) = (folder / "runs").glob("run-*/summary.json")
        numbers = json.loads(summary.read_text())
        val_accuracy = numbers["best/val_accuracy"]
    keys = ("accuracy", "accuracy_low", "accuracy_high", "f1", "f1_low", "f1_high")
    return FinalScores(**{key: numbers[f"test/{key}"] for key in keys}, val_accuracy=val_accuracy)


def measure(method: str, epochs: int, seed: int, settings: Settings) -> Result | None:
    """Run one method, or read the result that an earlier call kept; None if one of its commands failed."""
    folder = settings.out / f"{method}-epochs{epochs}-seed{seed}"
    kept = folder / "result.json"
    if kept.is_file():
        values = json.loads(kept.read_text())
        return Result(**{**values, "scores": FinalScores(**values["scores"])})
    folder.mkdir(parents=True, exist_ok=True)
    environment = {"OMP_NUM_THREADS": str(settings.threads), "WANDB_MODE": "disabled"}
    cost = run_job(method, commands_of(method, epochs, seed, folder, settings), folder, environment)
    if cost is None:
        return None
    result = Result(scores_of(method, folder, settings), **dataclasses.asdict(cost))
    kept.write_text(json.dumps(dataclasses.asdict(result)))
    return result


def row_of(title: str, results: Sequence[Result]) -> list[str]:
    """Means over seeds; an interval is the mean of the runs' intervals, which are over test images."""

    def mean(name: str, of_scores: bool = True) -> float:
        return statistics.mean(getattr(one.scores if of_scores else one, name) for one in results)

    def number(name: str) -> str:
        value = mean(name)
        return "" if value != value else f"{value:.4f}"

    def interval(name: str) -> str:
        return f"{number(name + '_low')} to {number(name + '_high')}" if number(name) else ""

    cells = [title, str(len(results)), number("val_accuracy"), number("accuracy"), interval("accuracy")]
    cells += [number("f1"), interval("f1")]
    return cells + [f"{mean(name, of_scores=False):.0f}" for name in ("seconds", "cpu_seconds", "mebibytes")]


def verdicts(epochs: int, of_methods: dict[str, list[Result]]) -> list[str]:
    """The two goals at one number of passes: no peer ahead beyond our interval, and never below our own probe."""

    def mean(method: str, name: str) -> float:
        return statistics.mean(getattr(one.scores, name) for one in of_methods[method])

    if not of_methods.get("default"):
        return []
    lines = []
    for peer in ("timm", "hf"):
        if of_methods.get(peer):
            met = mean(peer, "accuracy") <= mean("default", "accuracy_high")
            lines.append(f"{epochs} passes: {peer} not ahead beyond our interval: {'met' if met else 'NOT met'}")
    if of_methods.get("probe"):
        gain = mean("default", "f1") - mean("probe", "f1")
        lines.append(f"{epochs} passes: F1 over our probe {gain:+.4f}, >= 0: {'met' if gain >= 0 else 'NOT met'}")
    return lines


def compare(methods: Sequence[str], budgets: Sequence[int], seeds: Sequence[int], settings: Settings) -> None:
    """Measure everything and print one table."""
    skipped = {method: reason for method in methods if (reason := peers.why_skipped(method, settings, TIMM_SCRIPTS))}
    rows, notes = [], [*skipped.values()]
    probe = [measure("probe", 0, 0, settings)] if "probe" in methods else []
    for epochs in budgets:
        of_methods: dict[str, list[Result]] = {"probe": [one for one in probe if one]}
        for seed in seeds:  # the methods take turns
            for method in methods:
                if method != "probe" and method not in skipped and (one := measure(method, epochs, seed, settings)):
                    of_methods.setdefault(method, []).append(one)
        rows += [row_of(f"{epochs}, {method}", results) for method, results in of_methods.items() if results]
        notes += verdicts(epochs, of_methods)
    title = (
        f"{settings.data.name}, {settings.model}, {settings.weights.name}, threads: {settings.threads}; means of seeds"
    )
    show(title, COLUMNS, rows, notes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 3, 10], help="passes over train with gradients")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--out", type=Path, help="folder for results, kept [default: a temporary one]")
    peers.add_common_options(parser, TIMM_SCRIPTS)
    if (options := peers.parsed(parser)) is None:
        return
    methods, budgets, seeds = (options.pop(name) for name in ("methods", "epochs", "seeds"))
    with tempfile.TemporaryDirectory() as scratch:
        options["out"] = (options["out"] or Path(scratch)).absolute()
        compare(methods, budgets, seeds, Settings(**options))


if __name__ == "__main__":
    main()
