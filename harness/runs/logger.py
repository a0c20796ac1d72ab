"""Records a run while it trains: in its folder, in W&B and on the console. Only the main rank writes."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness import recipes, track
from harness.config import RunConfig
from harness.data.blank import blank_notes
from harness.data.data_change import folder_change
from harness.data.dataset import Dataset
from harness.data.image_folder import ImageFolder
from harness.errors import ConfigError, HarnessError, TrainingError, printable
from harness.model.lora import counts
from harness.model.vit import Loaded
from harness.options import SWEEP_ARGS, arguments, overridden, words_of
from harness.runs.console import Console
from harness.runs.folder import STATE, STOP, RunFolder
from harness.runs.provenance import provenance
from harness.settings.option import option_name
from harness.training.distributed import Processes
from harness.training.state import Progress


class RunLogger:
    def __init__(self, config: RunConfig, processes: Processes) -> None:
        self.config = config
        self.folder = RunFolder.of(config)
        self.console = Console(enabled=processes.is_main)
        self.tracker: track.Tracker | None = None
        self.device = processes.device
        self.finished = False
        self._open = False  # between begin and end
        self._processes = processes
        self._began = time.perf_counter()

    def begin(self, image_folder: ImageFolder, hold: contextlib.ExitStack) -> bool:
        """Open the run folder, locked until `hold` closes; False when this run has finished before. Main rank only."""
        if self.config.fresh and self.folder.path.exists():
            with self.folder.locked():
                pass  # somebody may be writing to it
            if aside := self.folder.set_aside():
                self.console.say(f"The earlier run was set aside: {aside}")
        hold.enter_context(self.folder.locked())
        summary = self.folder.read("summary.json")
        if summary.get("state") == "finished":
            self.console.say(f"This run has finished before: {self.folder.path} (--fresh starts it over)")
            if change := folder_change(self.folder.read_manifest()[0].get("data") or {}, image_folder):
                self.console.say(f"{change}: its scores and its model are of the earlier data.")
            return False
        self._check_settings()
        self._open = True
        (self.folder.path / STOP).unlink(missing_ok=True)  # that was for an earlier start
        earlier, damage = self.folder.read_manifest()
        if damage:
            lost = "Its earlier starts and the id of its W&B run are lost."
            self.console.say(f"{self.folder.path}/{damage}: it is written again. {lost}")
        notes = [*self._processes.notes, *image_folder.notes, *recipes.notes(self.config.to_dict())]
        # W&B's id lives in the folder, so that the same command resumes the same W&B run.
        run_id = os.environ.get("WANDB_RUN_ID") or earlier.get("wandb_run_id") or secrets.token_hex(4)
        self.folder.write("config.json", self.config.to_dict())
        self.folder.write(
            "manifest.json",
            provenance()
            | {
                # Of this run alone, also where `command` started a whole sweep.
                "arguments": arguments(self.config),
                "wandb_run_id": run_id,
                "processes": self._processes.world,
                "device": str(self._processes.device.type),
                "precision": self._processes.precision,
                "notes": notes,
                "ignored_files": image_folder.ignored,
                "earlier_starts": [*(earlier.get("earlier_starts") or ()), *filter(None, [earlier.get("started")])],
            },
        )
        self.folder.write("summary.json", {"state": "running"})
        for note in notes:
            self.console.say(note)
        # W&B locks what a sweep chose, so what was used instead needs separate keys.
        used = {f"override/{name}": getattr(self.config, name) for name in overridden()}
        self.tracker = track.start(
            self.config, self.folder.path, run_id=run_id, extra_config=used, say=self.console.say
        )
        for name, chosen in overridden().items():
            self.console.say(
                f"{option_name(name)} is {getattr(self.config, name)} by {SWEEP_ARGS}, in place of the sweep's "
                f"{chosen}. W&B keeps showing {chosen}; override/{name} there is the value that was used."
            )
        return True

    def _check_settings(self) -> None:
        """ConfigError if a state is there of other settings: a run of a sweep finds its folder by its id alone."""
        if not (self.folder.checkpoints / STATE).exists():
            return
        try:
            earlier = RunConfig.from_dict(self.folder.read("config.json"))
        except (HarnessError, TypeError):  # damaged; it is written again
            return
        if names := self.config.differences(earlier):
            raise ConfigError(
                f"{self.folder.path} was begun with {' '.join(words_of(earlier, names))}, not with "
                f"{' '.join(words_of(self.config, names))}. Give those settings to resume it, or --fresh to start over."
            )

    def inputs(self, data: Dataset, loaded: Loaded, class_weights: np.ndarray | None = None) -> None:
        """Record the data, the initial weights and the loss weights (C,) of the run."""
        if not self._open:
            return
        if self.config.lora_rank:
            trained, total = counts(loaded.model)
            self.folder.update("summary.json", {"parameters/trained": trained, "parameters/total": total})
        weights = {"source": loaded.source, "digest": loaded.weights_digest, "report": loaded.report}
        facts = {"data": {"root": self.config.data, **data.facts()}, "weights": weights}
        self.folder.update("manifest.json", facts | {"threads": torch.get_num_threads()})
        for sentence in (*loaded.report, *blank_notes(data)):
            self.console.say(sentence)
        if class_weights is not None:
            by_class = dict(zip(data.classes, class_weights.tolist(), strict=True))
            self.folder.update("manifest.json", {"class_weights": by_class})
            low, high = (choose(by_class, key=by_class.__getitem__) for choose in (min, max))
            ends = [f"{by_class[name]:.4g} ({printable(name)})" for name in (low, high)]
            self.console.say(f"Class weights: {' to '.join(ends)}.")
        if data.skipped:
            self.console.say(f"{len(data.skipped)} images cannot be read and are left out; manifest.json names them.")
        if self.tracker:
            self.tracker.dataset(Path(self.config.data).name, data.facts())

    def problem(self, part: str, sentence: str) -> None:
        """Report and record a problem that the run survives, such as a drawing error."""
        self.console.say(f"{sentence} The run continues without {part}.")
        if self._open:
            problems = self.folder.read("manifest.json").get("problems") or {}
            self.folder.update("manifest.json", {"problems": problems | {part: sentence}})

    def resume(self, progress: Progress, total_steps: int) -> None:
        """Start or resume; drops rows of steps that will be repeated."""
        if not self._open:
            return
        if progress.step:
            self.console.say(f"Resuming from step {progress.step} of {total_steps}.")
            self.folder.update("summary.json", progress.best)
        self.folder.keep_metrics_until(progress.step, progress.epochs)
        if self.tracker:
            # W&B's summary of a run is that of its last process, so a process that resumes sends all of it again.
            known = {key: value for row in self.folder.read_metrics() for key, value in row.items()}
            self.tracker.summarize(known | progress.best)
        self.console.begin(total_steps, progress.step)

    def probe(self, metrics: Mapping[str, float]) -> None:
        """Scores of the linear probe that the head starts from; written once, also by a run that resumes."""
        if self._open:
            self.folder.update("summary.json", metrics)
            if self.tracker:
                self.tracker.summarize(metrics)
            loss, accuracy, f1 = (metrics[f"probe/val_{name}"] for name in ("loss", "accuracy", "f1"))
            self.console.say(
                f"linear probe  val loss {loss:.4f}  accuracy {accuracy:.4f}  F1 {f1:.4f}  (the head starts from it)"
            )

    def training(self, row: Mapping[str, float], *, epoch: int, steps: int) -> None:
        if self._open:
            self._row(row)
            self.console.advance(steps, epoch, row)

    def validation(self, row: Mapping[str, float], best: Mapping[str, float], *, is_best: bool) -> None:
        if self._open:
            self._row(row)
            self.folder.update("summary.json", best)
            if self.tracker:
                # Logged too, and not only summarised: a sweep's server and its early termination read the history.
                self.tracker.log({"step": row["step"], **best})
                self.tracker.summarize(best)
            self.console.epoch(self.config.epochs, row, best=is_best)

    def end(
        self, state: str, *, exit_code: int, reason: str | None = None, results: Mapping[str, Any] | None = None
    ) -> None:
        """The last word: in the folder first, for W&B may take its time."""
        self.console.close()
        if not self._open:
            return
        ending = {"state": state, "seconds/total": self.seconds, **(results or {})}
        if reason:
            ending["reason"] = reason
        # A disk without room for one more line must not hide why the run failed.
        try:
            self.folder.update("summary.json", ending)
            if state in ("stopped", "finished"):
                (self.folder.path / STOP).unlink(missing_ok=True)
        except (OSError, TrainingError):
            if state == "finished":
                raise
            with contextlib.suppress(OSError):
                self.folder.mark_failed()
        self._open, self.finished = False, state == "finished"
        if self.tracker:
            if state == "preempted":
                self.tracker.preempting()
            self.tracker.summarize(ending)
            self.tracker.finish(exit_code)

    @property
    def stop_requested(self) -> bool:
        """Whether a stop was requested in W&B or by the file `stop` in the folder."""
        if not self._open:
            return False
        return (self.tracker is not None and self.tracker.stop_requested) or self.folder.is_asked_to_stop

    def prune_reason(self, signum: int) -> str | None:
        """Why a stopped run must not be resumed later; None if it may be resumed.

        An agent sends the same signal if its server stops the run and if the agent itself ends.
        """
        if self._open:
            with contextlib.suppress(OSError):
                reason = (self.folder.path / STOP).read_text(encoding="utf-8", errors="replace")
                return reason.strip().rstrip(".") or "requested by the file `stop` in its folder"
            if self.tracker and self.tracker.asked_to_stop():
                return "stopped in W&B, by hand or by its sweep"
        return None if signum else "stop requested"

    def on_hard_exit(self) -> None:
        """Before a hard exit after a shutdown that timed out: let W&B queue the run again."""
        if self._open and self.tracker:
            self.tracker.preempting()
            time.sleep(1)  # wandb sends from a separate process, which ends with this one

    @property
    def seconds(self) -> float:
        """Seconds since this process began, without earlier starts."""
        return time.perf_counter() - self._began

    def _row(self, row: Mapping[str, float]) -> None:
        self.folder.append_metrics(row)
        if self.tracker:
            self.tracker.log(row)
