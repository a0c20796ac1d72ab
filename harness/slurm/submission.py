"""From a command line to a batch script: a sweep as a job array, or one run over nodes. Checks all of it first."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ConfigError, HarnessError, joined, printable
from harness.options import SWEEP_ARGS, parse, sweep_words
from harness.slurm.batch_script import Places, run_script, sweep_script
from harness.slurm.job import Job
from harness.slurm.site import Site, read_site
from harness.sweep.search.grid import points_of, probe_points, valid_points
from harness.sweep.search.settings import Search
from harness.sweep.search.storage import JOURNAL
from harness.sweep.session import sweep_folder
from harness.sweep.spec.sweep_file import read_sweep


@dataclass(frozen=True)
class Submission:
    """A batch script, and the folder of its output."""

    script: str
    logs: Path


@dataclass(frozen=True)
class Worker:
    """How each task runs its sweep: `harness sweep run` with these."""

    file: Path
    runs_dir: str
    storage: str | None  # None: a journal in the sweep's folder
    search: Search
    options: tuple[str, ...]  # the search and further options, as words
    words: tuple[str, ...]  # options of the runs


def comment_of(folder: Path) -> str:
    """The comment by which the jobs of a sweep are found in the queue."""
    return f"harness sweep {folder}"


def logs_of(folder: Path) -> Path:
    """Where the jobs of a sweep write their output."""
    return folder / "slurm"


def sweep_submission(job: Job, worker: Worker) -> Submission:
    """Workers of a sweep. Raises HarnessError with all problems of job, site file, sweep and storage."""
    problems, site = _read_site(job)
    if job.nodes != 1:
        problems.append(ConfigError("--nodes is for one run (--train). Give --tasks for more workers of a sweep."))
    try:
        sweep = read_sweep(worker.file, (*sweep_words(), *worker.words))
        valid_points(sweep, points_of(sweep, worker.search) or probe_points(sweep))
        folder = sweep_folder(sweep, worker.runs_dir)
        storage = _shared_storage(worker.storage, folder)
    except HarnessError as error:
        problems.append(error)
    if problems:
        raise joined(problems)
    # The file as the user gave it: the script runs in the same folder, and messages of the tasks name the file.
    common = (str(worker.file), f"--runs-dir={folder.parent}", f"--storage={storage}")
    words = (*worker.options, *(("--", *worker.words) if worker.words else ()))
    if text := os.environ.get(SWEEP_ARGS):
        site = dataclasses.replace(site, lines=(*site.lines, f"export {SWEEP_ARGS}={shlex.quote(text)}"))
    places = Places(sweep.name, Path.cwd(), logs_of(folder), comment_of(folder))
    return Submission(sweep_script(job, site, places, common, words), places.logs)


def run_submission(job: Job, words: Sequence[str]) -> Submission:
    """One run over nodes. Raises HarnessError with all problems of job, site file and settings."""
    problems, site = _read_site(job)
    if job.tasks != 1 or job.array_limit is not None:
        problems.append(ConfigError("--tasks and --array-limit are for a sweep. Give --nodes for one run over nodes."))
    try:
        if words and not words[0].startswith("-"):
            raise ConfigError(f"--train submits one run; {printable(words[0])} is not an option of a run.")
        config = parse(words).resolved()
    except HarnessError as error:
        problems.append(error)
    if problems:
        raise joined(problems)
    logs = Path(config.runs_dir) / "slurm"
    places = Places(config.run_name, Path.cwd(), logs, f"harness run {logs.parent / config.run_name}")
    return Submission(run_script(job, site, places, words), logs)


def _read_site(job: Job) -> tuple[list[HarnessError], Site]:
    """The problems of a job and of the site file, and the site."""
    job_problems = list(job.problems())
    problems: list[HarnessError] = [ConfigError(job_problems)] if job_problems else []
    try:
        return problems, read_site()
    except HarnessError as error:
        return [*problems, error], Site()


def _shared_storage(storage: str | None, folder: Path) -> str:
    """The trial queue that tasks on several nodes share. Raises ConfigError if they cannot share it."""
    advice = "Nodes share a journal file (the default) or PostgreSQL."
    if storage is not None and storage.startswith("sqlite"):
        raise ConfigError(f"--storage is SQLite, which is unsafe on a disk that nodes share. {advice}")
    if storage is None and (folder / "study.db").exists() and not (folder / JOURNAL).exists():
        raise ConfigError(
            f"The sweep in {printable(folder)} was begun with SQLite, which is unsafe on a disk that nodes share. "
            "Finish it with harness sweep run, or set another `name` in the file to begin a separate sweep."
        )
    if storage is None:
        return str(folder / JOURNAL)
    return storage if "://" in storage else str(Path(storage).expanduser().resolve())
