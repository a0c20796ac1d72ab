"""The page: what many runs tell, as a folder of files that opens anywhere, without a server or a network."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import jinja2

from reports.leaderboard import leaderboard
from reports.runs import read_runs, shown
from reports.section import Collection, Section
from reports.sections import leaderboard as leaderboard_section
from reports.site import ReportError, Site

# In the order in which a person asks: who won, why, what goes wrong, where it looks, what changed, and now what.
SECTIONS = (leaderboard_section.section,)

HERE = resources.files("reports")


def build(runs_dir: str | Path, out: str | Path | None = None) -> Path:
    """Write the page of the runs in a folder, by default to its `report/`; returns the path of index.html.

    Runs may be unfinished, failed or damaged. Where a page is there already, only what changed is written. Raises
    ReportError when there is nothing to report, or no place to write it to.
    """
    folder = Path(runs_dir).resolve()
    if not folder.is_dir():
        raise ReportError(f"{shown(runs_dir)} is not a folder. Give the folder that run folders are in.")
    runs = read_runs(folder)
    if not runs:
        raise ReportError(
            f"There are no runs in {shown(runs_dir)}: no folder in it holds a config.json. Give what --runs-dir was."
        )
    collection = Collection(folder, leaderboard(runs))
    try:
        with Site(Path(out) if out else folder / "report") as site:
            sections = [found for make in SECTIONS if (found := make(collection, site)) is not None]
            _ship(site, sections)
            site.file("index.html", _rendered(collection, sections).encode(errors="backslashreplace"))
            return site.root / "index.html"
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
        loader=jinja2.PackageLoader("reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(collection=collection, sections=sections)
