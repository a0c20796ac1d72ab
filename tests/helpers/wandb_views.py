"""Saved workspaces and reports at the stand-in server: both are views of a project, distinguished by their type."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from tests.helpers.wandb_objects import NOW, opaque_id, project_node

if TYPE_CHECKING:
    from tests.helpers.wandb_server import Operation, WandbServer


@dataclasses.dataclass
class View:
    id: str
    type: str  # project-view: a workspace; runs: a report
    name: str
    entity: str
    project: str
    display_name: str
    description: str
    spec: dict[str, Any]
    saves: int = 0


def upsert(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    """A view with an id is changed; one without is that of its name and type in the project, or a new one."""
    entity, project = variables["entityName"], variables["projectName"]
    if project in server.read_only:
        raise PermissionError(f"permission denied to write to {entity}/{project}")
    if not _project_exists(server, entity, project):
        raise LookupError(f"{entity}/{project}")
    if given := variables.get("id"):
        view = server.views[given]
    else:
        known = (entity, project, variables["type"], variables["name"])
        found = [one for one in server.views.values() if (one.entity, one.project, one.type, one.name) == known]
        number = opaque_id("View", str(len(server.views)))
        view = found[0] if found else View(number, variables["type"], variables["name"], entity, project, "", "", {})
    inserted = view.id not in server.views
    server.views[view.id] = view
    view.display_name, view.description = variables["displayName"], variables["description"]
    view.spec = json.loads(variables["spec"])
    view.saves += 1
    return {"upsertView": {"view": _node(view), "inserted": inserted}}


def by_id(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    return {"view": _node(server.views[variables["reportId"]])}


def of_project(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    """Views of a type, as `Workspace.from_url` and `wandb.Api().reports` ask for them; of one name, if it is given."""
    entity = variables.get("entity") or variables["entityName"]
    name = variables.get("project") or variables["name"]
    kind = variables.get("viewType", "runs")
    if not _project_exists(server, entity, name):
        return {"project": None}
    wanted = variables.get("viewName")
    found = [
        view
        for view in server.views.values()
        if (view.entity, view.project, view.type) == (entity, name, kind) and wanted in (None, view.name)
    ]
    edges = [{"node": _node(view), "cursor": view.id} for view in found]
    return {"project": {"allViews": {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}}}


def internal_id(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    if not _project_exists(server, variables["entityName"], variables["projectName"]):
        return {"project": None}
    return {"project": project_node(variables["entityName"], variables["projectName"])}


def projects(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    """Projects of an entity: those that have runs."""
    names = dict.fromkeys(run.project for run in server.runs.values() if run.entity == variables["entity"])
    nodes = [
        {
            "__typename": "Project",
            "id": opaque_id("Project", name),
            "name": name,
            "entityName": variables["entity"],
            "createdAt": NOW,
            "isBenchmark": False,
            "user": None,
        }
        for name in names
    ]
    page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
    return {"models": {"pageInfo": page, "edges": [{"node": node} for node in nodes]}}


def _project_exists(server: WandbServer, entity: str, project: str) -> bool:
    return any((run.entity, run.project) == (entity, project) for run in server.runs.values())


def _node(view: View) -> dict[str, Any]:
    return {
        "id": view.id,
        "type": view.type,
        "name": view.name,
        "displayName": view.display_name,
        "description": view.description,
        "project": project_node(view.entity, view.project),
        "user": {"username": "someone", "photoUrl": None, "email": None},
        "spec": json.dumps(view.spec),
        "createdAt": NOW,
        "updatedAt": NOW,
    }


OPERATIONS: dict[str, Operation] = {
    "UpsertView2": upsert,
    "upsertView": upsert,
    "View": of_project,
    "ProjectViews": of_project,
    "SpecificReport": by_id,
    "ProjectInternalId": internal_id,
    "GetProjects": projects,
}
