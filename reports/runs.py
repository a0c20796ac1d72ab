"""Run folders for reports: finished or not, complete or damaged, of this version or an earlier one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.runs.predictions import PredictionTable, read_predictions
from harness.runs.reading import UnreadableError, read_object, read_rows, run_folders, wrong_entries
from harness.runs.rules import finite_number, printable


@dataclass(frozen=True, eq=False)
class Run:
    """One run folder. Missing and damaged files are empty here and listed in `problems`."""

    path: Path
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    manifest: Mapping[str, Any]
    file_problems: tuple[str, ...] = ()  # of config.json, manifest.json and summary.json

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def state(self) -> str:
        """running, finished, failed, preempted, stopped, infeasible; "unknown" if summary.json has none."""
        state = self.summary.get("state")
        return state if isinstance(state, str) and state else "unknown"

    @property
    def finished(self) -> bool:
        return self.state == "finished"

    @property
    def tags(self) -> tuple[str, ...]:
        """Its W&B tags, `tags` of config.json, in their order."""
        tags = self.config.get("tags")
        return tuple(dict.fromkeys(filter(None, map(str.strip, tags.split(","))))) if isinstance(tags, str) else ()

    def metric(self, key: str) -> float | None:
        """A metric by its key: of the summary, such as `best/val_f1`, else the newest in `rows`, such as `val/f1`.

        None unless it is a finite number.
        """
        value = self.summary.get(key)
        if value is None:
            value = next((row[key] for row in reversed(self.rows) if key in row), None)
        return finite_number(value)

    @property
    def learning_rate(self) -> float | None:
        """Of the config; None unless it is a finite number."""
        return finite_number(self.config.get("lr"))

    def part(self, name: str) -> Mapping[str, Any]:
        """An object of the manifest; empty if it is missing."""
        value = self.manifest.get(name)
        return value if isinstance(value, Mapping) else {}

    @property
    def images(self) -> Mapping[str, Any]:
        """How many images each split has; empty if the manifest does not say."""
        images = self.part("data").get("images")
        return images if isinstance(images, Mapping) else {}

    @property
    def best_epoch(self) -> str:
        """The best epoch and all epochs: "2/3"; empty if it is unknown."""
        best, epochs = self.metric("best/epoch"), self.config.get("epochs")
        of = f"/{epochs}" if isinstance(epochs, int) else ""
        return "" if best is None else f"{best:.0f}{of}"

    @property
    def progress(self) -> str:
        """Progress of an unfinished run: "epoch 2.7 of 5, step 40"."""
        row = next((row for row in reversed(self.rows) if finite_number(row.get("epoch")) is not None), None)
        if row is None:
            return "no step logged"
        epochs = self.config.get("epochs")
        of = f" of {epochs}" if isinstance(epochs, int) else ""
        return f"epoch {row['epoch']:.3g}{of}, step {printable(row.get('step', '?'))}"

    @cached_property
    def _rows_and_problem(self) -> tuple[list[dict[str, Any]], str]:
        return read_rows(self.path / "metrics.jsonl")

    @cached_property
    def rows(self) -> tuple[Mapping[str, Any], ...]:
        """Rows of `metrics.jsonl`, read on first use; damaged ones and one cut off by a crash are left out."""
        return tuple(self._rows_and_problem[0])

    @property
    def problems(self) -> tuple[str, ...]:
        """What is missing or damaged, predictions excepted: a sentence each, without the full stop."""
        problem = self._rows_and_problem[1]
        return (*self.file_problems, f"metrics.jsonl {problem}") if problem else self.file_problems

    @cached_property
    def predictions(self) -> PredictionTable:
        """`predictions.csv`, with the classes of `per_class.csv`; read on first use."""
        return read_predictions(self.path)


def read_run(path: str | Path) -> Run:
    """The run of a folder, whatever state it is in. Raises nothing: problems are listed in the run."""
    path = Path(path)
    problems: list[str] = []

    def read(name: str) -> dict[str, Any]:
        try:
            values = read_object(path / name)
        except FileNotFoundError:
            problems.append(f"{name} is missing")
            return {}
        except UnreadableError as error:
            problems.append(error.reason)
            return {}
        wrong = wrong_entries(name, values)
        problems.extend(f"{name} {what}" for what in wrong.values())
        return {key: value for key, value in values.items() if key not in wrong}

    config, manifest, summary = (read(name) for name in ("config.json", "manifest.json", "summary.json"))
    return Run(path, config, summary, manifest, tuple(problems))


def read_runs(folder: str | Path) -> list[Run]:
    """Every run in a folder or below it, by path, without runs that were set aside."""
    return [read_run(path) for path in sorted(run_folders(Path(folder)))]
