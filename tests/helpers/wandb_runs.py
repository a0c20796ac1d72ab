"""Runs at the stand-in server: what `wandb.init`, the file stream and `wandb.Api().run(...)` ask for."""

from __future__ import annotations

import json
import posixpath
from typing import TYPE_CHECKING, Any

from tests.helpers.wandb_objects import ENTITY, NOW, Run, opaque_id, project_node

if TYPE_CHECKING:
    from tests.helpers.wandb_server import Operation, WandbServer

USER = {"id": opaque_id("User", "1"), "entity": ENTITY, "username": "someone", "email": "someone@example.org"}


def viewer(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    return {"viewer": {**USER, "flags": "{}", "teams": {"edges": [{"node": {"name": ENTITY}}]}}}


def features(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    return {"serverInfo": {"features": []}}


def versions(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    return {"serverInfo": {"cliVersionInfo": {"min_cli_version": "0.31.0", "max_cli_version": "0.31.0"}}}


def organization(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    return {"entity": {"organization": {"coreWeaveOrganizationId": None}}}


def upsert_bucket(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    name = variables["name"]
    inserted = name not in server.runs
    if variables.get("sweep") and variables["sweep"] not in server.sweeps:
        raise FileNotFoundError(f"sweep {variables['sweep']} not found")  # as in wandb/wandb issue 8115
    entity, project = variables.get("entity") or ENTITY, variables.get("project") or "uncategorized"
    run = server.runs.setdefault(name, Run(name, entity, project))
    run.fields.update({key: value for key, value in variables.items() if value is not None})
    bucket = {**_bucket(run), "project": project_node(run.entity, run.project)}
    return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}


def resume_status(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    run = server.runs.get(variables["name"])
    project = project_node(variables.get("entity") or ENTITY, variables["project"])
    return {"model": {**project, "bucket": None if run is None else _bucket(run)}}


def stopped_status(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    run = server.runs[variables["runId"]]
    return {"project": {"run": {"stopped": run.name in server.stop_asked}}}


def create_run_files(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    run = server.runs[variables["run"]]
    files = [
        {"name": name, "uploadUrl": server.upload_url(name, lambda content, name=name: _put(run, name, content))}
        for name in variables["files"]
    ]
    return {"createRunFiles": {"runID": opaque_id("Run", run.name), "uploadHeaders": [], "files": files}}


def run_page(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    """What `wandb.Api().run(path)` shows; no run of that name is null."""
    run = server.runs.get(variables["name"])
    return {"project": None if run is None else {"internalId": "1", "run": _page(run)}}


def history_keys(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    return {"project": {"run": {"historyKeys": _history_keys(server.runs[variables["name"]])}}}


def parquet_history(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    """What `scan_history` asks for first: files of rows, of which there are none here, and what is in none of them."""
    live = [{key: row.get(key) for key in variables["liveKeys"]} for row in server.runs[variables["runName"]].history]
    return {"project": {"run": {"parquetHistory": {"parquetUrls": [], "liveData": live}}}}


def history_page(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    """Rows whose step is at least minStep and below maxStep, as text; at most pageSize."""
    rows = server.runs[variables["run"]].history
    found = [row for row in rows if variables["minStep"] <= row["_step"] < variables["maxStep"]]
    return {"project": {"run": {"history": [json.dumps(row) for row in found[: variables["pageSize"]]]}}}


def runs_of_project(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    """What `wandb.Api().runs(path, filters)` shows, all on one page; no such project is null."""
    if variables["order"] != "+created_at":
        raise ValueError(f"order {variables['order']}")
    own = [run for run in server.runs.values() if (run.entity, run.project) == _owner(variables)]
    if not own:
        return {"project": None}
    found = [run for run in own if _matches(run, json.loads(variables.get("filters") or "{}"))]
    edges = [{"node": _page(run), "cursor": run.name} for run in found]
    page = {"endCursor": None, "hasNextPage": False}
    listed = {"edges": edges, "pageInfo": page}
    return {"project": {"internalId": "1", "runCount": len(found), "readOnly": False, "runs": listed}}


def run_files(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    run = server.runs[variables["name"]]
    wanted = [posixpath.normpath(name) for name in variables.get("fileNames") or run.files]
    nodes = [
        {
            "id": opaque_id("File", f"{run.name}/{name}"),
            "name": name,
            "url": server.download_url(name, run.files[name]),
            "directUrl": server.download_url(name, run.files[name]),
            "sizeBytes": len(run.files[name]),
            "mimetype": "application/octet-stream",
            "updatedAt": NOW,
            "md5": None,
        }
        for name in wanted
        if name in run.files
    ]
    edges = [{"node": node, "cursor": str(index)} for index, node in enumerate(nodes)]
    files = {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}
    return {"project": {"internalId": "1", "run": {"fileCount": len(run.files), "files": files}}}


def project(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    """A run by any name in a project, as a request of great length asks for it; an empty name is of none."""
    run = server.runs.get(variables["runName"])
    return {"project": {"run": None if run is None else {"name": run.name, "summaryMetrics": json.dumps(run.summary)}}}


def stream(server: WandbServer, run: Run, body: dict[str, Any]) -> dict[str, Any]:
    """A post to a run's file stream: lines of its files, its end, or nothing but a sign of life."""
    for file, chunk in (body.get("files") or {}).items():
        lines = run.lines.setdefault(file, [])
        # Like the real one: lines replace what was there from the offset on, they are not appended.
        lines[chunk["offset"] : chunk["offset"] + len(chunk["content"])] = chunk["content"]
    if body.get("complete"):
        run.exit_code = body.get("exitcode")
    run.preempting = run.preempting or bool(body.get("preempting"))
    return {"stopped": run.name in server.stop_asked}


def _owner(variables: dict[str, Any]) -> tuple[str, str]:
    return variables["entity"], variables["project"]


def _matches(run: Run, wanted: dict[str, Any]) -> bool:
    """The part of MongoDB's query language that is asked for: `$or`, and fields that are equal or `$in` a list."""
    fields = {"name": run.name, "sweep": run.sweep, "group": run.fields.get("groupName")}

    def matches(key: str, value: Any) -> bool:
        if key == "$or":
            return any(_matches(run, one) for one in value)
        return fields[key] in value["$in"] if isinstance(value, dict) else fields[key] == value

    return all(matches(key, value) for key, value in wanted.items())


def _put(run: Run, name: str, content: bytes) -> None:
    run.files[name] = content


def _bucket(run: Run) -> dict[str, Any]:
    history, events = run.lines.get("wandb-history.jsonl", []), run.lines.get("wandb-events.jsonl", [])
    return {
        "id": opaque_id("Run", run.name),
        "name": run.name,
        "displayName": run.fields.get("displayName") or run.name,
        "description": None,
        "config": run.fields.get("config") or "{}",
        "sweepName": run.sweep,
        "summaryMetrics": json.dumps(run.summary),
        "logLineCount": len(run.lines.get("output.log", [])),
        "historyLineCount": len(history),
        "eventsLineCount": len(events),
        "historyTail": json.dumps(history[-1:]),
        "eventsTail": json.dumps(events[-1:]),
        "tags": run.fields.get("tags") or [],
        "notes": run.fields.get("notes"),
        "wandbConfig": json.dumps({"t": 1}),
    }


def _page(run: Run) -> dict[str, Any]:
    return {
        **_bucket(run),
        "projectId": "1",
        "state": run.state,
        "group": run.fields.get("groupName"),
        "jobType": run.fields.get("jobType"),
        "commit": run.fields.get("commit"),
        "readOnly": False,
        "createdAt": NOW,
        "heartbeatAt": NOW,
        "systemMetrics": "{}",
        "user": {"name": USER["username"], "username": USER["username"]},
        "historyKeys": _history_keys(run),
    }


def _history_keys(run: Run) -> dict[str, Any]:
    """Every key of the history with its newest value, those of nested values joined by dots."""
    newest: dict[str, Any] = {}
    last_step = -1
    for row in run.history:
        newest |= _flat(row)
        last_step = max(last_step, row["_step"])
    keys = {key: {"typeCounts": [], "previousValue": value} for key, value in newest.items()}
    return {"keys": keys, "lastStep": last_step, "sets": []}


def _flat(row: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in row.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


OPERATIONS: dict[str, Operation] = {
    "Viewer": viewer,
    "GetDefaultEntity": viewer,
    "ServerFeaturesQuery": features,
    "ServerInfo": versions,
    "OrganizationCoreWeaveOrganizationID": organization,
    "UpsertBucket": upsert_bucket,
    "RunResumeStatus": resume_status,
    "RunStoppedStatus": stopped_status,
    "CreateRunFiles": create_run_files,
    "Run": run_page,
    "RunHistoryKeys": history_keys,
    "RunParquetHistory": parquet_history,
    "HistoryPage": history_page,
    "Runs": runs_of_project,
    "RunFiles": run_files,
    "Project": project,
}
