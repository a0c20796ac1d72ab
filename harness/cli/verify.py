"""`harness verify`: tests whether the attention maps of a run can be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.errors import HarnessError
from harness.options import SETTINGS
from harness.runs.rules import EVIDENCE_FILE, Goal

if TYPE_CHECKING:
    from harness.runs.evidence_file import Claim

IMAGES = 500


@click.command(context_settings=SETTINGS, short_help="Test whether the attention maps of a run can be trusted.")
@click.argument("run", metavar="RUN|RUNS_DIR", type=click.Path(path_type=Path))
@click.option(
    "--images", type=click.IntRange(2), default=IMAGES, show_default=True, help="Test images to use, evenly spaced."
)
@click.option("--data", help="Data folder with the test images. [default: the run's]")
@click.option("--cache-dir", type=click.Path(), help="Folder for decoded images.")
@click.option("--threads", type=click.IntRange(1), help="CPU compute threads. [default: all cores]")
def verify(run: Path, images: int, data: str | None, cache_dir: str | None, threads: int | None) -> None:
    """Test whether the attention maps of RUN, or of the best run in RUNS_DIR, can be trusted.

    Measures how many layers are enough, which heads matter, whether positions are used, whether maps show what the
    prediction rests on, whether they depend on the trained weights, and, with masks, whether they point at objects.
    The numbers, with intervals, and the verdicts are written to evidence.json in RUN. Repeat the command to resume.

    \b
    Examples:
      harness verify runs/lr1e-05_bs16_none_s0-1a2b3c4d --images 200
      harness verify runs/grid
    """
    from harness.runs.reading import run_folders

    is_folder_of_runs = not (run / "config.json").is_file() and any(run_folders(run))
    if is_folder_of_runs:
        run = best_run(run)
        click.echo(f"Verifying the best run: {run}")
    _verify(run, images, data, cache_dir, threads)


def verify_best_run(folder: Path, metric: str, goal: Goal) -> None:
    """Verify the best run in a folder, unless it has been verified. Raises HarnessError."""
    best = best_run(folder, metric, goal)
    if (best / EVIDENCE_FILE).is_file():
        click.echo(f"The best run has been verified: {best / EVIDENCE_FILE}")
    else:
        click.echo(f"Verifying the best run: {best}")
        _verify(best, IMAGES, None, None, None)


def best_run(folder: Path, metric: str = "best/val_f1", goal: Goal = "maximize") -> Path:
    """The best seed of the best setting, as on the leaderboard. Raises HarnessError if no run has finished."""
    from reports.runs import read_runs
    from reports.stats.leaderboard import leaderboard, nothing_ranked

    board = leaderboard(read_runs(folder), metric=metric, goal=goal)
    if not board.ranked:
        raise HarnessError(f"There is no best run in {folder} to verify. {nothing_ranked(board)}")
    return board.ranked[0].setting.best.path


def _verify(run: Path, images: int, data: str | None, cache_dir: str | None, threads: int | None) -> None:
    from harness.evidence.verify import verify as measure

    claims = measure(run, images, data, cache_dir, threads, click.echo)
    click.echo()
    for claim in claims:
        click.echo(_text(claim))
    click.echo(f"\nNumbers and rules: {run / EVIDENCE_FILE}")


def _text(claim: Claim) -> str:
    return f"{claim.verdict:>14}  {claim.statement}\n{'':16}{claim.number}: {claim.numbers}"
