"""What a W&B server keeps: runs, artifacts and sweeps as plain objects, and the ids that stand for them."""

from __future__ import annotations

import base64
import dataclasses
import json
from typing import Any

ENTITY = "team"
NOW = "2026-01-01T00:00:00Z"


@dataclasses.dataclass
class Run:
    """One run, as its page in W&B would show it."""

    name: str  # the id; `displayName` is what people see
    entity: str
    project: str
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)  # every argument of UpsertBucket, newest wins
    lines: dict[str, list[str]] = dataclasses.field(default_factory=dict)  # streamed files, by name
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)  # uploaded files, by path
    used: list[Artifact] = dataclasses.field(default_factory=list)
    exit_code: int | None = None
    preempting: bool = False

    @property
    def history(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines.get("wandb-history.jsonl", [])]

    @property
    def summary(self) -> dict[str, Any]:
        lines = self.lines.get("wandb-summary.json", [])
        return json.loads(lines[-1]) if lines else json.loads(self.fields.get("summaryMetrics") or "{}")

    @property
    def config(self) -> dict[str, Any]:
        """Settings without W&B's own bookkeeping."""
        config = json.loads(self.fields.get("config") or "{}")
        return {key: entry["value"] for key, entry in config.items() if key != "_wandb"}

    @property
    def sweep(self) -> str | None:
        return self.fields.get("sweep")

    @property
    def state(self) -> str:
        if self.exit_code is None:
            return "preempting" if self.preempting else "running"
        if self.exit_code == 0:
            return "finished"
        return "preempted" if self.preempting else "failed"


@dataclasses.dataclass
class Artifact:
    """One version of an artifact, with the content that was uploaded for it."""

    id: str
    type: str
    collection: str
    digest: str
    entity: str
    project: str
    creator: str | None  # the run that made it; None for one that runs only use
    version: int | None = None  # numbered when committed
    aliases: set[str] = dataclasses.field(default_factory=set)
    description: str | None = None
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    manifest: dict[str, Any] = dataclasses.field(default_factory=dict)
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)
    client_id: str = ""


def opaque_id(kind: str, name: str) -> str:
    """GraphQL ids are opaque to the client; ours can be read back by `name_in`."""
    return base64.b64encode(f"{kind}:{name}".encode()).decode()


def name_in(identifier: str) -> str:
    return base64.b64decode(identifier).decode().split(":", 1)[1]


def project_node(entity: str, name: str) -> dict[str, Any]:
    owner = {"id": opaque_id("Entity", entity), "name": entity}
    return {"id": opaque_id("Project", name), "internalId": "1", "name": name, "entity": owner, "entityName": entity}
