"""What a sweep adds to its trials: seconds per trial with what each phase costs, and the whole against its parts.

    python -m tests.bench.bench_sweep [--trials 6] [--epochs 12]

One `harness sweep run` with one worker, tracked offline as it comes. A trial's own time is training and
evaluation; all else is overhead: starting its process, opening W&B, building the model, checkpoints, figures, goodbye.
The next trial starts while a trial draws its figures, so that the overhead of a later trial is the time between two
ends, less its own time. Looking at attention is left out: it is work that the run was asked for.

The profile is that of a second sweep, whose trials are forked from this process.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import yaml

from tests.bench.images import write_splits
from tests.bench.table import at_most, show, spread

OVERHEAD_TARGET = 0.7  # seconds, after the first trial
RATIO_TARGET = 1.1

# Functions of a trial by phase; the time of a function does not count the functions of this list that it calls.
TRAINING = "training and evaluation"
PHASES = {
    TRAINING: ("harness.train:_train_epoch", "harness.train:evaluate"),
    "checking the data": ("harness.train:preflight.check_inputs",),
    "provenance": ("harness.runs.logger:provenance",),
    "W&B: start": ("harness.track:start",),
    "W&B: figures, tables, model": ("harness.finish:_log",),
    "W&B: end": ("harness.track.tracker:Tracker.finish",),
    "model, data, optimiser": (
        "harness.train:build_model",
        "harness.train:open_dataset",
        "harness.train:TrainState",
        "harness.train:open_batches",
    ),
    # What the run waits for: the files are written by a thread, whose functions may not be listed here.
    "checkpoints": (
        "harness.training.state_writer:StateWriter.save",
        "harness.training.state_writer:StateWriter.__exit__",
    ),
    "files of the run folder": (
        "harness.runs.folder:RunFolder.write",
        "harness.finish:write_predictions",
        "harness.finish:write_csv",
    ),
    "figures (beside the next trial)": (
        "harness.runs.figures:loss_curve",
        "harness.finish:confusion_matrix",
        "harness.finish:reliability_figure",
        "harness.runs.figures:save",
    ),
}
REST = "other work of the process"
BEFORE_AND_AFTER = "fork, trial queue, end of the process"


def write_sweep(path: Path, data: Path, trials: int, epochs: int) -> Path:
    words = [f"--data={data}", "--recipe=study", "--model=vit_demo", "--weights=demo", "--explain=none"]
    words.append(f"--epochs={epochs}")
    sweep = {
        "program": "harness/run.py",
        "method": "grid",
        "metric": {"name": "best/val_f1", "goal": "maximize"},
        "parameters": {"seed": {"values": list(range(trials))}},
        "command": ["${env}", "${interpreter}", "${program}", *words, "${args}"],
    }
    path.write_text(yaml.safe_dump(sweep))
    return path


def trials_of(folder: Path) -> list[tuple[float, float, float]]:
    """Seconds of each trial: from its claim, and from the end of the one before, to its end; and of its work."""
    study = optuna.load_study(storage=f"sqlite:///{folder / 'study.db'}", study_name=folder.name)
    trials, before = [], None
    for trial in study.trials:
        [summary] = folder.glob(f"*-{trial.number}/summary.json")
        values = json.loads(summary.read_text())
        assert trial.datetime_start is not None and trial.datetime_complete is not None
        whole = (trial.datetime_complete - trial.datetime_start).total_seconds()
        since_before = (trial.datetime_complete - before).total_seconds() if before else whole
        trials.append((whole, since_before, values["seconds/train"] + values["seconds/evaluate"]))
        before = trial.datetime_complete
    return trials


def resolved(place: str) -> tuple[Any, str]:
    """The module or class of a place, and the name of the function there. Raises AttributeError for a stale place."""
    module, _, path = place.partition(":")
    *owners, attribute = path.split(".")
    owner = functools.reduce(getattr, owners, importlib.import_module(module))
    getattr(owner, attribute)
    return owner, attribute


class Profile:
    """Seconds of each phase of the trials that are forked from this process, and seconds of processor time.

    Each trial writes a file when it ends.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seconds = {name: [0.0, 0.0] for name in (*PHASES, REST)}
        self._open: list[str] = []
        self._since = (0.0, 0.0)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self._switch()
        self._open.append(name)
        try:
            yield
        finally:
            self._switch()
            self._open.pop()

    def _switch(self) -> None:
        now = (time.perf_counter(), time.process_time())
        if self._open:
            for index in (0, 1):
                self._seconds[self._open[-1]][index] += now[index] - self._since[index]
        self._since = now

    def install(self) -> None:
        for name, places in PHASES.items():
            for place in places:
                self._wrap(place, lambda work, name=name: self._timed(work, name))
        self._wrap("harness.sweep.execution.trial_process:_run", self._recorded)

    def _wrap(self, place: str, change: Callable[[Any], Any]) -> None:
        owner, attribute = resolved(place)
        setattr(owner, attribute, change(getattr(owner, attribute)))

    def _timed(self, work: Callable[..., Any], name: str) -> Callable[..., Any]:
        def timed(*arguments: Any, **keywords: Any) -> Any:
            with self.phase(name):
                return work(*arguments, **keywords)

        return timed

    def _recorded(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(arguments: Any) -> Any:
            try:
                with self.phase(REST):
                    return work(arguments)
            finally:
                (self._folder / f"{time.time_ns()}.json").write_text(json.dumps(self._seconds))

        return recorded

    def later_trials(self) -> list[dict[str, list[float]]]:
        return [json.loads(path.read_text()) for path in sorted(self._folder.glob("*.json"))[1:]]


def profile(file: Path, scratch: Path) -> list[list[str]]:
    """Rows of the profile of later trials: the phase, its seconds, and its seconds of processor time."""
    from tests.helpers.sweeping import sweep_here

    (records := scratch / "profile").mkdir()
    profiled = Profile(records)
    profiled.install()
    with contextlib.redirect_stdout(io.StringIO()):
        sweep_here(file, scratch / "profiled")
    later = profiled.later_trials()
    whole = [seconds for seconds, _, _ in trials_of(scratch / "profiled" / "bench")[1:]]
    for seconds, phases in zip(whole, later, strict=True):
        phases[BEFORE_AND_AFTER] = [max(0.0, seconds - sum(wall for wall, _ in phases.values())), 0.0]
    rows = [[name, *(spread([phases[name][i] for phases in later]) for i in (0, 1))] for name in (*PHASES, REST)]
    return [*rows, [BEFORE_AND_AFTER, spread([phases[BEFORE_AND_AFTER][0] for phases in later]), ""]]


def show_overhead(trials: list[tuple[float, float, float]], wall: float) -> None:
    """`wall`: seconds of the whole sweep."""
    own = sum(own for _, _, own in trials)
    later = [between - own for _, between, own in trials[1:]]
    rows = [
        ["first trial, imports included", f"{trials[0][0] - trials[0][2]:.2f}", ""],
        ["each later trial", spread(later), at_most(statistics.median(later), OVERHEAD_TARGET, " s")],
    ]
    show("seconds of a trial beyond its own training and evaluation, median (min..max)", ["", "", "target"], rows)
    rows = [["wall / training and evaluation", f"{wall / own:.3f}", at_most(wall / own, RATIO_TARGET)]]
    show(f"a sweep of {len(trials)} trials: {wall:.0f} s, of which {own:.0f} s their own", ["", "", "target"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=12, help="of 240 images; about 2 s each on two cores")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        data = write_splits(scratch / "pictures", train=240, size=128, held_out=12)
        file = write_sweep(scratch / "bench.yaml", data, arguments.trials, arguments.epochs)
        command = [sys.executable, "-m", "harness.cli", "sweep", "run", str(file)]
        command += ["--runs-dir", str(scratch / "runs")]
        os.environ |= {"WANDB_MODE": "offline", "HARNESS_CACHE_DIR": str(scratch / "cache")}
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - began
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        trials = trials_of(scratch / "runs" / "bench")
        show_overhead(trials, wall)
        phases = profile(write_sweep(file, data, min(arguments.trials, 4), 2), scratch)
        show("seconds of a later trial of two epochs by phase, median (min..max)", ["", "wall", "processor"], phases)


if __name__ == "__main__":
    main()
