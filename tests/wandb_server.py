"""A stand-in for W&B's server on 127.0.0.1: what the real client and `wandb sync` ask for, kept in plain objects.

    with WandbServer() as server:
        subprocess.run(..., env={"WANDB_BASE_URL": server.url, "WANDB_API_KEY": API_KEY})
    assert server.refused == [] and server.runs["abc12345"].history[0]["step"] == 10

An operation it does not know is answered with HTTP 400 and listed in `refused`: a test must find that list empty.
To teach it one more operation, add a method and name it in OPERATIONS.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import re
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote

ENTITY = "team"
API_KEY = "0123456789abcdef0123456789abcdef01234567"
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


class WandbServer:
    """Starts listening on entering the context; everything received is kept after it is left."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.drafts: dict[str, Artifact] = {}  # by artifact id, committed or not
        self.artifacts: list[Artifact] = []  # committed versions, in order
        self.refused: list[str] = []
        self.operations: list[str] = []
        self.stop_asked: set[str] = set()  # ids of runs whose stop button was pressed
        self.wrong_keys: set[str] = set()
        self._uploads: dict[str, Callable[[bytes], None]] = {}
        self._lock = threading.RLock()
        self._handler = type("Handler", (_Handler,), {"server_state": self})
        self._http: _Server | None = None
        self._port = 0  # the first start takes any free one, later ones the same

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> WandbServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; once more after `stop`, nothing is forgotten."""
        self._http = http = _Server(("127.0.0.1", self._port), self._handler)
        self._port = http.server_port
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Close the port: connections are refused, as when a server goes down. Kept-alive ones are cut."""
        http, self._http = self._http, None
        if http is not None:
            http.shutdown()
            http.server_close()
            http.cut()

    def versions(self, collection: str) -> list[Artifact]:
        return [artifact for artifact in self.artifacts if artifact.collection == collection]

    # What the handler calls

    def graphql(self, operation: str, variables: dict[str, Any]) -> dict[str, Any] | None:
        """The `data` of the answer; None for an operation that is not known."""
        with self._lock:
            self.operations.append(operation)
            method = OPERATIONS.get(operation)
            return None if method is None else method(self, variables)

    def file_stream(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            run = self.runs[name]
            for file, chunk in (body.get("files") or {}).items():
                lines = run.lines.setdefault(file, [])
                # Like the real one: lines replace what was there from the offset on, they are not appended.
                lines[chunk["offset"] : chunk["offset"] + len(chunk["content"])] = chunk["content"]
            if body.get("complete"):
                run.exit_code = body.get("exitcode")
            run.preempting = run.preempting or bool(body.get("preempting"))
            return {"stopped": name in self.stop_asked}

    def upload(self, path: str, content: bytes) -> bool:
        with self._lock:
            keep = self._uploads.get(path)
            if keep is not None:
                keep(content)
            return keep is not None

    def _upload_url(self, name: str, keep: Callable[[bytes], None]) -> str:
        path = f"/upload/{len(self._uploads)}/{quote(name)}"
        self._uploads[path] = keep
        return self.url + path

    # GraphQL operations

    def viewer(self, variables: dict[str, Any]) -> dict[str, Any]:
        user = {"id": "VXNlcjox", "entity": ENTITY, "username": "someone", "email": "someone@example.org"}
        return {"viewer": {**user, "flags": "{}", "teams": {"edges": [{"node": {"name": ENTITY}}]}}}

    def features(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def organization(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"entity": {"organization": {"coreWeaveOrganizationId": None}}}

    def upsert_bucket(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables["name"]
        inserted = name not in self.runs
        entity, project = variables.get("entity") or ENTITY, variables.get("project") or "uncategorized"
        run = self.runs.setdefault(name, Run(name, entity, project))
        run.fields.update({key: value for key, value in variables.items() if value is not None})
        return {
            "upsertBucket": {
                "bucket": {**_bucket(run), "project": _project(run.entity, run.project)},
                "inserted": inserted,
            }
        }

    def resume_status(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(variables["name"])
        project = _project(variables.get("entity") or ENTITY, variables["project"])
        return {"model": {**project, "bucket": None if run is None else _bucket(run)}}

    def create_run_files(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self.runs[variables["run"]]
        files = [
            {
                "name": name,
                "uploadUrl": self._upload_url(name, lambda content, name=name: _put(run.files, name, content)),
            }
            for name in variables["files"]
        ]
        return {"createRunFiles": {"runID": _id("Run", run.name), "uploadHeaders": [], "files": files}}

    def artifact_type(self, variables: dict[str, Any]) -> dict[str, Any]:
        versions = self.versions(variables["name"].split(":")[0])
        return {"project": {"artifact": {"artifactType": {"name": versions[0].type}} if versions else None}}

    def create_artifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        given = variables["input"]
        collection = given["artifactCollectionName"]
        aliases = {alias["alias"] for alias in given.get("aliases") or []}
        versions = self.versions(collection)
        same = [version for version in versions if version.digest == given["digest"]]
        if same:
            artifact = same[0]
            self._move_aliases(artifact, aliases)
        else:
            artifact = Artifact(
                id=_id("Artifact", str(len(self.drafts))),
                type=given["artifactTypeName"],
                collection=collection,
                digest=given["digest"],
                entity=given["entityName"],
                project=given["projectName"],
                creator=given["runName"],
                aliases=aliases,
                description=given.get("description"),
                metadata=json.loads(given.get("metadata") or "{}"),
                client_id=given.get("clientID") or "",
            )
            self.drafts[artifact.id] = artifact
        answer = {
            "id": artifact.id,
            "state": "COMMITTED" if same else "PENDING",
            "artifactSequence": {"latestArtifact": {"id": versions[-1].id} if versions else None},
        }
        return {"createArtifact": {"artifact": answer}}

    def artifact_manifest(self, variables: dict[str, Any]) -> dict[str, Any]:
        """CreateArtifactManifest and UpdateArtifactManifest: first without, then with a place to put the manifest."""
        manifest_id = variables.get("artifactManifestID") or _id("Manifest", variables["artifactID"])
        artifact = self.drafts[_number(manifest_id)]
        url = self._upload_url("manifest", lambda content: artifact.manifest.update(json.loads(content)))
        file = {"id": _id("File", manifest_id), "uploadUrl": url, "uploadHeaders": []}
        key = "updateArtifactManifest" if "artifactManifestID" in variables else "createArtifactManifest"
        return {key: {"artifactManifest": {"id": manifest_id, "file": file}}}

    def create_artifact_files(self, variables: dict[str, Any]) -> dict[str, Any]:
        edges = []
        for spec in variables["input"]["artifactFiles"]:
            artifact, name = self.drafts[spec["artifactID"]], spec["name"]
            url = self._upload_url(name, lambda content, a=artifact, name=name: _put(a.files, name, content))
            node = {
                "storagePath": f"artifacts/{artifact.id}/{name}",
                "uploadUrl": url,
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": artifact.id},
            }
            edges.append({"node": node})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def commit_artifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        artifact = self.drafts[variables["artifactID"]]
        if artifact.version is None:
            artifact.version = len(self.versions(artifact.collection))
            self.artifacts.append(artifact)
            self._move_aliases(artifact, set(artifact.aliases))
        return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": artifact.digest}}}

    def use_artifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        given = variables["input"]
        artifact = self.drafts[given["artifactID"]]
        self.runs[given["runName"]].used.append(artifact)
        return {"useArtifact": {"artifact": {"id": artifact.id}}}

    def artifact_by_id(self, variables: dict[str, Any]) -> dict[str, Any]:
        artifact = self.drafts[variables["id"]]
        project = {**_project(artifact.entity, artifact.project), "internalId": "1"}
        sequence = {"__typename": "ArtifactSequence", "name": artifact.collection, "project": project}
        aliases = [
            {"__typename": "ArtifactAlias", "id": _id("Alias", alias), "alias": alias, "artifactCollection": sequence}
            for alias in sorted(artifact.aliases)
        ]
        answer = {
            "__typename": "Artifact",
            "id": artifact.id,
            "artifactSequence": sequence,
            "versionIndex": artifact.version,
            "artifactType": {"name": artifact.type},
            "description": artifact.description,
            "metadata": json.dumps(artifact.metadata),
            "ttlDurationSeconds": -2,
            "ttlIsInherited": True,
            "tags": [],
            "historyStep": None,
            "state": "COMMITTED",
            "size": sum(map(len, artifact.files.values())),
            "digest": artifact.digest,
            "digestAlgorithm": "MANIFEST_MD5",
            "commitHash": "",
            "fileCount": len(artifact.files),
            "createdAt": NOW,
            "updatedAt": NOW,
            "aliases": aliases,
        }
        return {"artifact": answer}

    def _move_aliases(self, artifact: Artifact, aliases: set[str]) -> None:
        """An alias points at one version of its collection."""
        for version in self.versions(artifact.collection):
            version.aliases -= aliases
        artifact.aliases |= aliases


OPERATIONS: dict[str, Callable[[WandbServer, dict[str, Any]], dict[str, Any]]] = {
    "Viewer": WandbServer.viewer,
    "ServerFeaturesQuery": WandbServer.features,
    "OrganizationCoreWeaveOrganizationID": WandbServer.organization,
    "UpsertBucket": WandbServer.upsert_bucket,
    "RunResumeStatus": WandbServer.resume_status,
    "CreateRunFiles": WandbServer.create_run_files,
    "ArtifactType": WandbServer.artifact_type,
    "CreateArtifact": WandbServer.create_artifact,
    "CreateArtifactManifest": WandbServer.artifact_manifest,
    "UpdateArtifactManifest": WandbServer.artifact_manifest,
    "CreateArtifactFiles": WandbServer.create_artifact_files,
    "CommitArtifact": WandbServer.commit_artifact,
    "UseArtifact": WandbServer.use_artifact,
    "ArtifactByID": WandbServer.artifact_by_id,
}


def _id(kind: str, name: str) -> str:
    """GraphQL ids are opaque to the client; ours can be read back by `_number`."""
    return base64.b64encode(f"{kind}:{name}".encode()).decode()


def _number(identifier: str) -> str:
    return base64.b64decode(identifier).decode().split(":", 1)[1]


def _put(files: dict[str, bytes], name: str, content: bytes) -> None:
    files[name] = content


def _project(entity: str, name: str) -> dict[str, Any]:
    return {"id": _id("Project", name), "name": name, "entity": {"id": _id("Entity", entity), "name": entity}}


def _bucket(run: Run) -> dict[str, Any]:
    history, events = run.lines.get("wandb-history.jsonl", []), run.lines.get("wandb-events.jsonl", [])
    return {
        "id": _id("Run", run.name),
        "name": run.name,
        "displayName": run.fields.get("displayName") or run.name,
        "description": None,
        "config": run.fields.get("config") or "{}",
        "sweepName": run.fields.get("sweep"),
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


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def cut(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no error here: processes are killed in the tests."""


class _Handler(BaseHTTPRequestHandler):
    """Finds the method of the state for a request, and writes its answer."""

    server_state: WandbServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        state = self.server_state
        if self.path.startswith("/sdk/otel/"):
            return self._answer(200, {})
        if self._key() in state.wrong_keys:
            return self._answer(401, {"errors": [{"message": "user is not logged in"}]})
        if self.path == "/graphql":
            return self._graphql(json.loads(body))
        if stream := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
            return self._answer(200, state.file_stream(unquote(stream[1]), json.loads(body)))
        return self._refuse(f"POST {self.path}")

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server_state.upload(self.path, content):
            return self._answer(200, {})
        return self._refuse(f"PUT {self.path}")

    def do_GET(self) -> None:
        self._refuse(f"GET {self.path}")

    def _graphql(self, request: dict[str, Any]) -> None:
        name = request.get("operationName") or re.search(r"(?:query|mutation)\s+(\w+)", request["query"])[1]
        try:
            data = self.server_state.graphql(name, request.get("variables") or {})
        except (LookupError, TypeError, ValueError) as error:
            return self._refuse(f"operation {name} with {request.get('variables')}: {error!r}")
        if data is None:
            return self._refuse(f"operation {name}: {request}")
        return self._answer(200, {"data": data})

    def _refuse(self, what: str) -> None:
        self.server_state.refused.append(what)
        self._answer(400, {"errors": [{"message": f"the stand-in server does not know {what}"}]})

    def _answer(self, status: int, answer: dict[str, Any]) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(content)

    def _key(self) -> str:
        scheme, _, secret = self.headers.get("Authorization", "").partition(" ")
        return base64.b64decode(secret).decode().partition(":")[2] if scheme == "Basic" else secret

    def log_message(self, *_: object) -> None:
        """Silence: a test reads `operations` instead."""
