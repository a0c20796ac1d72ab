"""The page: what many runs tell, as a folder of files that opens anywhere, without a server or a network."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from reports.caveats import caveats, part
from reports.collection import Collection, collect
from reports.errors import ReportError
from reports.page.section import Section
from reports.page.sections import curves, effects, gallery, mistakes, positions, provenance, study, use
from reports.page.sections import leaderboard as standings
from reports.page.site import Site
from reports.runs import shown
from reports.stats.leaderboard import nothing_ranked

# In the order in which a person asks: who won, why, what goes wrong, where it looks, what changed, and now what.
SECTIONS = (
    standings.section,
    effects.section,
    curves.section,
    study.section,
    mistakes.section,
    gallery.section,
    positions.section,
    use.section,
    provenance.section,
)

HERE = resources.files("reports.page")


def build(runs_dir: str | Path, out: str | Path | None = None, *, gallery: int | None = 24) -> Path:
    """Write the page of the runs in a folder, by default to its `report/`; returns the path of index.html.

    Images are shown of up to `gallery` runs, the best and the worst ones; None: of all. Runs may be unfinished,
    failed or damaged. Where a page is there already, only what changed is written. Raises
    ReportError when there is nothing to report, or no place to write it to.
    """
    if not Path(runs_dir).is_dir():
        raise ReportError(
            f"{shown(runs_dir)} is not a folder. Give the folder that run folders are in; runs in W&B are reported "
            "with --wandb."
        )
    collection = collect(runs_dir, gallery)
    try:
        with Site(Path(out) if out else collection.folder / "report") as site:
            sections = [found for make in SECTIONS if (found := make(collection, site)) is not None]
            _ship(site, sections)
            site.file("index.html", _rendered(collection, sections).encode(errors="backslashreplace"))
            return site.root / "index.html"
    except FileNotFoundError as error:  # every folder of the page is made: it is one of a run
        raise ReportError(
            f"A run was moved or removed while it was read ({shown(error.filename)}). Give the same command again."
        ) from error
    except OSError as error:
        raise ReportError(f"The page cannot be written: {error.strerror} ({shown(error.filename)}).") from error


def _ship(site: Site, sections: list[Section]) -> None:
    """Styles, scripts and the charting library, beside the page: it asks nobody for anything."""
    names = {"report.css", "report.js"}
    names.update(name for section in sections for name in (*section.scripts, *section.styles))
    for name in sorted(names):
        site.file(f"assets/{name}", (HERE / "assets" / name).read_bytes())
    plotly = resources.files("plotly") / "package_data" / "plotly.min.js"
    site.file("assets/plotly.min.js", plotly.read_bytes())


def _rendered(collection: Collection, sections: list[Section]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reports.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        title=collection.name,
        states=_states(collection),
        facts=_facts(collection),
        verdict=standings.verdict(collection),
        no_verdict=nothing_ranked(collection.board),
        caveats=caveats(collection),
        sections=sections,
    )


def _states(collection: Collection) -> list[tuple[str, int]]:
    """How many runs are in each state, the finished ones first."""
    counts = Counter(shown(row.run.state) for row in collection.rows)
    return sorted(counts.items(), key=lambda item: (item[0] != "finished", item[0]))


def _facts(collection: Collection) -> list[str]:
    """In a few words each, what was trained on what; only where all runs agree."""

    def agreed(values: Iterable[Any]) -> Any:
        found = {json.dumps(value): value for value in values}
        return next(iter(found.values())) if len(found) == 1 else None

    runs = [row.run for row in collection.rows]
    model = agreed(run.config.get("model") for run in runs)
    data = agreed(run.config.get("data") for run in runs)
    images = agreed(part(run, "data").get("images") for run in runs if part(run, "data"))
    classes = agreed(part(run, "data").get("classes") for run in runs if part(run, "data"))
    starts = sorted(start for run in runs if isinstance(start := run.manifest.get("started"), str))
    facts = []
    if model:
        facts.append(shown(model))
    if data:
        facts.append(f"{shown(Path(str(data)).name or data)}{f', {classes} classes' if classes else ''}")
    if isinstance(images, dict):
        facts.append(" + ".join(f"{shown(count)} {shown(split)}" for split, count in images.items()) + " images")
    if starts:
        facts.append(
            shown(starts[0][:10] if starts[0][:10] == starts[-1][:10] else f"{starts[0][:10]} to {starts[-1][:10]}")
        )
    return facts
