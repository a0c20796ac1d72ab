"""What a run gets wrong, the winner's mistakes first."""

from __future__ import annotations

from reports.collection import Collection
from reports.page.charts import chart
from reports.page.section import Section
from reports.page.site import Site
from reports.runs import shown
from reports.stats.mistakes import mistakes


def section(collection: Collection, site: Site) -> Section | None:
    there: list[dict[str, str]] = []
    without: dict[str, list[str]] = {}
    for row in collection.rows:
        run, key, label = row.run, collection.key(row.run), collection.label(row.run)
        if not run.predictions.problem:
            site.data(f"mistakes-{key}", mistakes(run.predictions))
            there.append({"key": key, "label": label})
        elif run.finished:
            without.setdefault(shown(run.predictions.problem), []).append(label)
    alt = (
        "Confusion matrix of the chosen run. Its largest entries are in the list of pairs above it, and every class is "
        "in the table below."
    )
    matrix = chart(site, "confusion", [], {}, alt=alt, height=400)
    return Section(
        "mistakes",
        "Mistakes",
        "mistakes.html.j2",
        {"runs": there, "without": without, "matrix": matrix},
        scripts=("pictures.js", "picture.js", "gallery.js", "mistakes.js"),
        styles=("gallery.css", "mistakes.css"),
    )
