"""What the panel of one run shows, in `data/run-<key>.js`: settings, scores, curves, evidence, figures, notes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.runs import metric_table
from harness.runs.evidence_file import read_claims
from harness.runs.reading import UnreadableError, content_of
from harness.runs.rules import printable
from reports import columns
from reports.collection import Collection
from reports.command import reproducing, using
from reports.page.curve_points import points, thinned
from reports.page.gallery_data import best_and_worst
from reports.page.run_figures import copied_figure
from reports.page.sections import evidence
from reports.page.sections.provenance import facts_of
from reports.page.site import Site
from reports.runs import Run
from reports.stats.leaderboard import Row
from reports.stats.setting import NOT_SETTINGS
from reports.values import is_number, rounded

NOTES = "notes.md"  # of a run folder, written by the user
LONGEST_NOTES = 20_000  # characters

CURVES = ("train/loss", "val/loss", "val/f1", "train/lr")
MOST_POINTS = 200  # of a curve

# Captions of figures in figures/ of a run, in the order of the panel.
FIGURES = {
    "attention_heads": "Attention heads",
    "attention_distance": "Attention distance by layer",
    "positions": "Position embeddings before and after",
    "position_maps": "Class token and each patch before and after",
    **evidence.FIGURES,
}

# Figure -> data from which the panel draws the same live: `<name>-<key>`.
LIVE = {
    "attention_heads": "heads",
    "attention_distance": "heads",
    "positions": "positions",
    "position_maps": "positions",
}


def write_run_data(collection: Collection, site: Site) -> None:
    """Of every run; figures are copied of the best and the worst only, as the maps of the gallery are."""
    with_figures = set(best_and_worst([row.run for row in collection.rows], collection.gallery))
    for row in collection.rows:
        key = collection.key(row.run)
        figures = _figures(site, key, row.run) if row.run in with_figures else []
        live = [name for name in dict.fromkeys(LIVE.values()) if site.has_data(f"{name}-{key}")]
        site.data(f"run-{key}", run_data(collection, row) | {"figures": figures, "live": live})


def run_data(collection: Collection, row: Row) -> dict[str, Any]:
    """All of it but the figures and which of them are drawn live."""
    run = row.run
    return {
        "label": collection.label(run),
        "name": printable(run.name),
        "path": printable(run.path),
        "state": printable(run.state),
        "place": row.place,
        "tags": [printable(tag) for tag in run.tags],
        "reason": row.no_place,
        **_settings(run, collection.best),
        "scores": list(_scores(run)),
        "curves": {key: drawn for key in CURVES if (drawn := _curve(run, key))},
        "hasPredictions": not run.predictions.problem,
        "evidence": _evidence(run),
        "pages": _pages(run),
        "provenance": list(facts_of(run).items()),
        "commands": [("Train the same settings again", reproducing(run)), *(using(run) if run.finished else ())],
        "notes": _notes(run),
    }


def _settings(run: Run, best: Run | None) -> dict[str, Any]:
    """`differs`: name, value here, value of the best run; `config`: the other entries."""
    names = [name for name in run.config if name not in NOT_SETTINGS]
    other = best.config if best is not None and best is not run else run.config
    differing = [name for name in names if json.dumps(run.config[name]) != json.dumps(other.get(name))]
    return {
        "differs": [
            (printable(name), columns.value(run.config[name]), columns.value(other[name]) if name in other else "–")
            for name in differing
        ],
        "config": [(printable(name), columns.value(run.config[name])) for name in names if name not in differing],
    }


def _scores(run: Run) -> Iterator[tuple[str, str]]:
    """Every number of the summary, with its interval where it has one."""
    for name, value in run.summary.items():
        if not is_number(value) or name.endswith(("_low", "_high")):
            continue
        known = metric_table.BY_KEY.get(name)
        low, high = run.metric(f"{name}_low"), run.metric(f"{name}_high")
        text = _score_text(name, value)
        interval = f" ({columns.span(low, high)})" if low is not None and high is not None else ""
        yield known.title if known else printable(name), text + interval


def _score_text(name: str, value: float) -> str:
    if name.startswith("seconds/"):
        return columns.duration(value)
    if name.endswith("_bytes"):
        return f"{value / 2**20:,.0f} MiB"
    is_count = isinstance(value, int) or abs(value) >= 1000 or name.endswith(("/n", "images_per_second"))
    return f"{value:,.0f}" if is_count else columns.number(value)


def _curve(run: Run, key: str) -> list[list[float]] | None:
    drawn = thinned(points((run,), key), MOST_POINTS)
    return [[rounded(epoch, 5) for epoch in drawn.epochs], drawn.values] if drawn.epochs else None


def _evidence(run: Run) -> list[tuple[str, str, str]]:
    """Statement, verdict and numbers of each claim; the evidence section has problems."""
    try:
        return [(printable(claim.statement), claim.verdict, claim.numbers) for claim in read_claims(run.path)]
    except UnreadableError:
        return []


def _pages(run: Run) -> dict[str, Any] | None:
    """Where the pages and sheets of attention maps are: they stay in the run folder."""
    attention = run.path / "attention"
    folders: Mapping[str, Path] = {name: attention / name for name in ("pictures", "sheets")}
    counts = {
        name: sum(1 for path in folder.iterdir() if path.suffix in (".jpg", ".png"))
        for name, folder in folders.items()
        if folder.is_dir() and not folder.is_symlink() and not attention.is_symlink()
    }
    if not any(counts.values()):
        return None
    return {
        "images": counts.get("pictures", 0),
        "sheets": counts.get("sheets", 0),
        "path": printable(attention),
    }


def _notes(run: Run) -> str:
    """The user's notes as plain text; a link is not followed."""
    try:
        text = content_of(run.path / NOTES).decode(errors="replace")
    except OSError:
        return ""
    shown = "\n".join(printable(line) for line in text[:LONGEST_NOTES].splitlines())
    return f"{shown}\n… (the rest is in {NOTES})" if len(text) > LONGEST_NOTES else shown


def _figures(site: Site, key: str, run: Run) -> list[tuple[str, str]]:
    """Caption and address of each figure that the panel does not draw live."""
    names = [name for name in FIGURES if name not in LIVE or not site.has_data(f"{LIVE[name]}-{key}")]
    addresses = {FIGURES[name]: copied_figure(site, key, run, name) for name in names}
    return [(caption, address) for caption, address in addresses.items() if address]
