"""A saved W&B workspace and a W&B report of many runs, made with wandb-workspaces and updated in place.

`workspace` and `report` make plain objects; only `publish` talks to W&B.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.runs.rules import printable
from reports.collection import Collection
from reports.errors import ReportError
from reports.page.section import TITLES
from reports.stats.leaderboard import Leaderboard
from reports.wandb_report.findings import findings, warnings
from reports.wandb_report.panels import columns_of, drawn, panels, placed, repeated

if TYPE_CHECKING:
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

# Start of a report's description: a report with the same title but another description was written by a person.
MARK = "Made by `harness report`"


@dataclass(frozen=True)
class Scope:
    """Runs of a W&B project: those of a sweep (by its id or their group), those with the given ids, or all."""

    entity: str
    project: str
    name: str  # of the runs together; the same name means the same workspace and report
    sweep: str | None = None
    ids: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"Report on {printable(self.name)[:100]}"

    @property
    def view(self) -> str:
        """Name of the workspace in its address."""
        return "h" + hashlib.sha256(self.name.encode(errors="surrogateescape")).hexdigest()[:10]

    @property
    def filters(self) -> str:
        """A filter expression of wandb-workspaces."""
        if self.sweep:
            return f"Metric('Sweep') == {self.sweep!r} or Metric('Group') == {self.sweep!r}"
        return f"Metric('ID') in {list(self.ids)!r}" if self.ids else ""


def require() -> None:
    """Raise ReportError if wandb-workspaces is not installed."""
    try:
        import wandb_workspaces.reports.v2
        import wandb_workspaces.workspaces  # noqa: F401
    except ImportError as error:
        raise ReportError(
            f"Reports in W&B need the package wandb-workspaces: pip install 'vit-harness[reports]' ({error})."
        ) from error


def publish(api: Any, scope: Scope, collection: Collection) -> tuple[str, str]:
    """Save the workspace and the report, replacing earlier ones; returns their addresses. `api` is a wandb.Api."""
    from wandb_workspaces.workspaces import internal

    texts = findings(collection)
    space = workspace(scope, collection, texts)
    space._internal_name = f"nw-{scope.view}-v"
    # Not with Workspace.from_url: it fails on views that were changed by hand to something the package cannot read.
    with contextlib.suppress(ValueError):  # the view does not exist yet; the project does, because its runs were read
        space._internal_id = internal.get_view_dict(scope.entity, scope.project, scope.view)["id"]
    space.save()

    new = report(scope, collection, texts)
    for earlier in api.reports(f"{scope.entity}/{scope.project}"):
        if earlier.display_name == scope.title and (earlier.description or "").startswith(MARK):
            new.id = earlier.id
    new.save()
    return space.url, new.url


def workspace(scope: Scope, collection: Collection, texts: Mapping[str, str]) -> ws.Workspace:
    """A saved view of the project: its runs with the best first, and a section of panels per title.

    `texts` is Markdown by the id of the section, as `findings` returns it.
    """
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces import expr

    board = collection.board
    sections = [
        ws.Section(
            name=TITLES[section],
            panels=[*([wr.MarkdownPanel(markdown=texts[section])] if texts[section] else []), *of_section],
            is_open=True,
            layout_settings=ws.SectionLayoutSettings(columns=2, rows=max(1, math.ceil((len(of_section) + 1) / 2))),
        )
        for section, of_section in panels(board).items()
        if of_section or texts[section]
    ]
    best = board.finished[0].run.manifest.get("wandb_run_id") if board.finished else None
    return ws.Workspace(
        entity=scope.entity,
        project=scope.project,
        name=scope.title,
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis="step", max_runs=drawn(board)),
        runset_settings=ws.RunsetSettings(
            filters=scope.filters,
            groupby=[expr.Config(name) for name in repeated(board)],
            order=[expr.Ordering(expr.Summary(board.metric), ascending=board.goal == "minimize")],
            pinned_columns=columns_of(board),
            pinned_runs=[best] if isinstance(best, str) else [],
        ),
    )


def report(scope: Scope, collection: Collection, texts: Mapping[str, str]) -> wr.Report:
    """A report to read from top to bottom: warnings, then the text and the panels of each section."""
    import wandb_workspaces.reports.v2 as wr

    board = collection.board
    blocks: list[Any] = []
    if warning := warnings(collection):
        blocks += [wr.H2("Before you trust the numbers"), wr.MarkdownBlock(warning)]
    for section, of_section in panels(board).items():
        if of_section or texts[section]:
            blocks.append(wr.H2(TITLES[section]))
        if texts[section]:
            blocks.append(wr.MarkdownBlock(texts[section]))
        if of_section:
            blocks.append(wr.PanelGrid(runsets=[_runset(scope, board)], panels=placed(of_section)))
    count = len(collection.rows)
    description = f"{MARK} from {count} run{'s' * (count != 1)}. The next update replaces changes made by hand."
    return wr.Report(
        entity=scope.entity,
        project=scope.project,
        title=scope.title,
        description=description,
        blocks=[wr.TableOfContents(), *blocks],
        width="fluid",
    )


def _runset(scope: Scope, board: Leaderboard) -> wr.Runset:
    import wandb_workspaces.reports.v2 as wr

    return wr.Runset(
        entity=scope.entity,
        project=scope.project,
        name=printable(scope.name),
        filters=scope.filters,
        groupby=[f"config.{name}" for name in repeated(board)],
        order=[wr.OrderBy(wr.SummaryMetric(board.metric), ascending=board.goal == "minimize")],
        pinned_columns=columns_of(board),
    )
