"""From a command line to a batch script: a sweep as a job array, or one run over nodes. Checks all of it first."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from harness.errors import ConfigError, HarnessError, collected, joined, printable
from harness.files import expanded
from harness.options import SWEEP_ARGS, parse, sweep_words
from harness.slurm.batch_script import Places, run_script, sweep_script
from harness.slurm.job import Job
from harness.slurm.site import read_site
from harness.sweep.search.grid import points_of, probe_points, valid_points
from harness.sweep.search.settings import Search
from harness.sweep.search.storage import JOURNAL
from harness.sweep.session import sweep_folder
from harness.sweep.spec.sweep_file import read_sweep


def comment_of(folder: Path) -> str:
    """The comment by which the jobs of a sweep are found in the queue."""
    return f"harness sweep {folder}"


def logs_of(folder: Path) -> Path:
    """Where the jobs of a sweep write their output."""
    return folder / "slurm"


def sweep_submission(
    job: Job, file: Path, runs_dir: str, storage: str | None, search: Search, options: list[str], words: list[str]
) -> tuple[str, Path]:
    """The batch script of workers of a sweep, and the folder of their output.

    Each task runs `harness sweep run` with these `options` and, for its runs, these `words`. Raises HarnessError with
    all problems of job, site file, sweep and storage.
    """
    problems: list[HarnessError] = [ConfigError(problem) for problem in job.problems()]
    if job.nodes != 1:
        problems.append(ConfigError("--nodes is for one run (--train). Give --tasks for more workers of a sweep."))
    with collected(problems):
        site = read_site()
    with collected(problems):
        sweep = read_sweep(file, (*sweep_words(), *words))
        valid_points(sweep, points_of(sweep, search) or probe_points(sweep))
        folder = sweep_folder(sweep, runs_dir)
        storage = _shared_storage(storage, folder)
    if problems:
        raise joined(problems)
    # The file as the user gave it: the script runs in the same folder, and messages of the tasks name the file.
    common = (str(file), f"--runs-dir={folder.parent}", f"--storage={storage}")
    if text := os.environ.get(SWEEP_ARGS):
        site = dataclasses.replace(site, lines=(*site.lines, f"export {SWEEP_ARGS}={shlex.quote(text)}"))
    places = Places(sweep.name, Path.cwd(), logs_of(folder), comment_of(folder))
    return sweep_script(job, site, places, common, [*options, *(["--", *words] if words else [])]), places.logs


def run_submission(job: Job, words: Sequence[str]) -> tuple[str, Path]:
    """The batch script of one run over nodes, and the folder of its output.

    Raises HarnessError with all problems of job, site file and settings.
    """
    problems: list[HarnessError] = [ConfigError(problem) for problem in job.problems()]
    if job.tasks != 1 or job.array_limit is not None:
        problems.append(ConfigError("--tasks and --array-limit are for a sweep. Give --nodes for one run over nodes."))
    with collected(problems):
        site = read_site()
    with collected(problems):
        if words and not words[0].startswith("-"):
            raise ConfigError(f"--train submits one run; {printable(words[0])} is not an option of a run.")
        config = parse(words).resolved()
    if problems:
        raise joined(problems)
    logs = Path(config.runs_dir) / "slurm"
    places = Places(config.run_name, Path.cwd(), logs, f"harness run {logs.parent / config.run_name}")
    return run_script(job, site, places, words), logs


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
    return storage if "://" in storage else str(expanded(storage).resolve())
