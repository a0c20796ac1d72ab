"""What many runs tell, in W&B: a saved workspace and a report, made by wandb-workspaces and made again in place.

`workspace` and `report` are plain objects made from runs; only `publish` asks W&B for anything.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reports.collection import Collection
from reports.errors import ReportError
from reports.runs import shown
from reports.stats.leaderboard import Leaderboard
from reports.wandb_report.findings import findings, warnings
from reports.wandb_report.panels import columns_of, drawn, panels, placed, repeated

if TYPE_CHECKING:
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

# Begins a report's description, and so tells ours from one that a person has given the same title.
MARK = "Made by `harness report`"


@dataclass(frozen=True)
class Scope:
    """Which runs of a project in W&B are meant: those of a sweep (its id, or their group), some by id, or all."""

    entity: str
    project: str
    name: str  # what they are called together; the same name is the same workspace and report
    sweep: str | None = None
    ids: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"Report on {shown(self.name)[:100]}"

    @property
    def view(self) -> str:
        """The workspace's name in its address."""
        return "h" + hashlib.sha256(self.name.encode(errors="surrogateescape")).hexdigest()[:10]

    @property
    def filters(self) -> str:
        """The runs, in wandb-workspaces' language of filters."""
        if self.sweep:
            return f"Metric('Sweep') == {self.sweep!r} or Metric('Group') == {self.sweep!r}"
        return f"Metric('ID') in {list(self.ids)!r}" if self.ids else ""


def require() -> None:
    """Raise ReportError where the extra is not installed."""
    try:
        import wandb_workspaces.reports.v2
        import wandb_workspaces.workspaces  # noqa: F401
    except ImportError as error:
        raise ReportError(
            f"Reports in W&B take the package wandb-workspaces: pip install 'vit-harness[reports]' ({error})."
        ) from error


def publish(api: Any, scope: Scope, collection: Collection) -> tuple[str, str]:
    """Save the workspace and the report, over those that there are; returns their addresses. `api` is a wandb.Api."""
    from wandb_workspaces.workspaces import internal

    said = findings(collection)
    space = workspace(scope, collection, said)
    space._internal_name = f"nw-{scope.view}-v"
    # Not by Workspace.from_url: a view that was changed by hand may hold what the package cannot read.
    with contextlib.suppress(ValueError):  # there is none; that the project exists is known from its runs
        space._internal_id = internal.get_view_dict(scope.entity, scope.project, scope.view)["id"]
    space.save()

    written = report(scope, collection, said)
    for one in api.reports(f"{scope.entity}/{scope.project}"):
        if one.display_name == scope.title and (one.description or "").startswith(MARK):
            written.id = one.id
    written.save()
    return space.url, written.url


def workspace(scope: Scope, collection: Collection, said: Mapping[str, str]) -> ws.Workspace:
    """A saved view of the project: its runs with the best first, sections in the order of the questions.

    `said` are its findings, in words.
    """
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces import expr

    board = collection.board
    sections = [
        ws.Section(
            name=title,
            panels=[*([wr.MarkdownPanel(markdown=said[title])] if said[title] else []), *shown_in],
            is_open=True,
            layout_settings=ws.SectionLayoutSettings(columns=2, rows=max(1, math.ceil((len(shown_in) + 1) / 2))),
        )
        for title, shown_in in panels(board).items()
        if shown_in or said[title]
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


def report(scope: Scope, collection: Collection, said: Mapping[str, str]) -> wr.Report:
    """What the runs tell, read from top to bottom: warnings, then each section's words, numbers and panels."""
    import wandb_workspaces.reports.v2 as wr

    board = collection.board
    blocks: list[Any] = []
    if warned := warnings(collection):
        blocks += [wr.H2("Before you read on"), wr.MarkdownBlock(warned)]
    for title, shown_in in panels(board).items():
        if shown_in or said[title]:
            blocks.append(wr.H2(title))
        if said[title]:
            blocks.append(wr.MarkdownBlock(said[title]))
        if shown_in:
            blocks.append(wr.PanelGrid(runsets=[_runset(scope, board)], panels=placed(shown_in)))
    count = len(collection.rows)
    description = f"{MARK} from {count} run{'s' * (count != 1)}. Made again, it replaces what was changed here by hand."
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
        name=shown(scope.name),
        filters=scope.filters,
        groupby=[f"config.{name}" for name in repeated(board)],
        order=[wr.OrderBy(wr.SummaryMetric(board.metric), ascending=board.goal == "minimize")],
        pinned_columns=columns_of(board),
    )
