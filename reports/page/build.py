"""The report page of many runs: a folder of files that opens in a browser without a server or a network."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from harness.runs.rules import printable
from reports.caveats import caveats
from reports.collection import Collection, collect
from reports.errors import ReportError
from reports.page.run_data import write_run_data
from reports.page.run_table import run_table
from reports.page.section import Section
from reports.page.sections import curves, effects, evidence, leaderboard, mistakes, positions, provenance, study, use
from reports.page.sections import gallery as attention_gallery
from reports.page.site import Site
from reports.page.tables import write_tables
from reports.page.verdict import verdict
from reports.stats.leaderboard import nothing_ranked

# In the order of the page.
SECTIONS = (
    leaderboard.section,
    effects.section,
    curves.section,
    study.section,
    mistakes.section,
    attention_gallery.section,
    positions.section,
    evidence.section,
    use.section,
    provenance.section,
)

# In the order of the cascade: later ones change what earlier ones say.
STYLES = ("colours.css", "report.css", "tables.css", "narrow.css", "print.css", "panel.css")

# Loaded before the page is read, in this order; and after it, before or behind the scripts of the sections.
SCRIPTS = (
    *("report.js", "near.js", "state.js", "fields.js", "words.js", "run_table.js"),
    *("chart_selection.js", "charts.js"),
)
BEFORE_SECTIONS = ("sort.js", "class_scores.js", "confusion_matrix.js")
AFTER_SECTIONS = (
    *("runs_bar.js", "take_along.js", "differences.js", "panel.js", "run_view.js", "compare_view.js"),
    "refresh.js",
)

HERE = resources.files("reports.page")


def build(
    runs_dir: str | Path,
    out: str | Path | None = None,
    *,
    gallery: int | None = 24,
    tables: Sequence[str] = (),
    watched: bool = False,
) -> Path:
    """Write the page of the runs in a folder to `out`, by default its `report/`; returns the path of index.html.

    The gallery shows images of up to `gallery` runs, the best and the worst; None: of all runs. `tables` are formats of
    tables.py. A `watched` page loads itself again when it was built again. Runs may be unfinished, failed or damaged.
    Of an existing page only what changed is written. Raises ReportError if there are no runs, or if the page cannot be
    written.
    """
    if not Path(runs_dir).is_dir():
        raise ReportError(
            f"{printable(runs_dir)} is not a folder. Give the folder that contains the run folders; for runs in W&B, "
            "add --wandb."
        )
    collection = collect(runs_dir, gallery)
    try:
        with Site(_output(collection, out)) as site:
            sections = [section for make in SECTIONS if (section := make(collection, site)) is not None]
            site.data("runs", run_table(collection))
            write_run_data(collection, site)
            _write_assets(site, sections)
            write_tables(collection, site, tables)
            index = _rendered(collection, sections)
            if watched:  # the page knows its version, and finds that another one is there
                version = site.version_with(index)
                index = _rendered(collection, sections, version)
            site.file("index.html", index.encode(errors="backslashreplace"))
            if watched:
                site.data("version", version)  # the last file: the others are there when it changes
            return site.root / "index.html"
    except FileNotFoundError as error:  # a file of a run: the folder of the page was made before
        raise ReportError(
            f"A run was moved or deleted while it was read ({printable(error.filename)}). Repeat the command."
        ) from error
    except OSError as error:
        raise ReportError(f"The page cannot be written: {error.strerror} ({printable(error.filename)}).") from error


def _output(collection: Collection, out: str | Path | None) -> Path:
    """The folder of the page, which exists afterwards. Raises ReportError if it cannot be made."""
    folder = Path(out) if out else collection.folder / "report"
    if not out and folder.is_symlink():  # in a folder from elsewhere, it could lead to other files of the user
        raise ReportError(f"{printable(folder)} is a symbolic link, which is not followed. Name a folder with -o.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise ReportError(f"{printable(folder)} is a file, not a folder. Choose another folder with -o.") from None
    except OSError as error:
        raise ReportError(
            f"The folder {printable(folder)} cannot be made: {error.strerror}. Choose another folder with -o."
        ) from error
    return folder


def _write_assets(site: Site, sections: list[Section]) -> None:
    """Write styles, scripts and the charting library beside the page, which needs no network."""
    names = {*STYLES, *SCRIPTS, *BEFORE_SECTIONS, *AFTER_SECTIONS}
    names.update(name for section in sections for name in (*section.scripts, *section.styles))
    for name in sorted(names):
        site.file(f"assets/{name}", (HERE / "assets" / name).read_bytes())
    plotly = resources.files("plotly") / "package_data" / "plotly.min.js"
    site.file("assets/plotly.min.js", plotly.read_bytes())


def _rendered(collection: Collection, sections: list[Section], version: str = "") -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reports.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    of_sections = [name for section in sections for name in section.scripts]
    return environment.get_template("page.html.j2").render(
        title=collection.name,
        states=_states(collection),
        facts=_facts(collection),
        verdict=verdict(collection),
        no_verdict=nothing_ranked(collection.board),
        caveats=caveats(collection),
        sections=sections,
        version=version,
        styles=STYLES,
        scripts=SCRIPTS,
        deferred=list(dict.fromkeys([*BEFORE_SECTIONS, *of_sections, *AFTER_SECTIONS])),
    )


def _states(collection: Collection) -> list[tuple[str, int]]:
    """How many runs are in each state, the finished ones first."""
    counts = Counter(printable(row.run.state) for row in collection.rows)
    return sorted(counts.items(), key=lambda item: (item[0] != "finished", item[0]))


def _facts(collection: Collection) -> list[str]:
    """Model, data and days of the runs in a few words each; left out where the runs differ."""

    def common(values: Iterable[Any]) -> Any:
        distinct = {json.dumps(value): value for value in values}
        return next(iter(distinct.values())) if len(distinct) == 1 else None

    runs = [row.run for row in collection.rows]
    model = common(run.config.get("model") for run in runs)
    data = common(run.config.get("data") for run in runs)
    images = common(run.images for run in runs if run.part("data"))
    classes = common(run.part("data").get("classes") for run in runs if run.part("data"))
    starts = sorted(start for run in runs if isinstance(start := run.manifest.get("started"), str))
    facts = []
    if model:
        facts.append(printable(model))
    if data:
        facts.append(f"{printable(Path(str(data)).name or data)}{f', {classes} classes' if classes else ''}")
    if images:
        facts.append(
            " + ".join(f"{printable(count)} {printable(split)}" for split, count in images.items()) + " images"
        )
    if starts:
        facts.append(
            printable(starts[0][:10] if starts[0][:10] == starts[-1][:10] else f"{starts[0][:10]} to {starts[-1][:10]}")
        )
    return facts
