"""A stand-in for W&B's server on 127.0.0.1: what the real client asks for, kept in plain objects.

    with WandbServer() as server:
        subprocess.run(..., env={"WANDB_BASE_URL": server.url, "WANDB_API_KEY": API_KEY})
    assert server.refused == [] and server.runs["abc12345"].history[0]["step"] == 10

An operation it does not know is answered with HTTP 400 and listed in `refused`: a test must find that list empty.
To teach it one more, add a function and name it in the OPERATIONS of wandb_runs.py, wandb_artifacts.py,
wandb_sweeps.py or wandb_views.py. Data in an answer is always what was uploaded before.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote

from tests.helpers import wandb_artifacts, wandb_runs, wandb_sweeps, wandb_views
from tests.helpers.wandb_objects import ENTITY, Artifact, Run
from tests.helpers.wandb_sweeps import Sweep
from tests.helpers.wandb_views import View

__all__ = ["API_KEY", "ENTITY", "Artifact", "Run", "Sweep", "View", "WandbServer"]

API_KEY = "0123456789abcdef0123456789abcdef01234567"


class WandbServer:
    """Starts listening on entering the context; everything received is kept after it is left."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.drafts: dict[str, Artifact] = {}  # by artifact id, committed or not
        self.artifacts: list[Artifact] = []  # committed versions, in order
        self.sweeps: dict[str, Sweep] = {}
        self.views: dict[str, View] = {}  # workspaces and reports, by id
        self.read_only: set[str] = set()  # projects that whoever is logged in may not change
        self.refused: list[str] = []
        self.operations: list[str] = []
        self.stop_asked: set[str] = set()  # ids of runs whose stop button was pressed
        self.wrong_keys: set[str] = set()
        self._uploads: dict[str, Callable[[bytes], None]] = {}
        self._downloads: dict[str, bytes] = {}
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

    def add_sweep(self, sweep_id: str) -> None:
        """A sweep that somebody made; runs of other sweeps are refused."""
        self.sweeps[sweep_id] = Sweep(sweep_id, ENTITY, "swept", config={}, points=[])

    # What the handler calls

    def graphql(self, operation: str, variables: dict[str, Any]) -> dict[str, Any] | None:
        """The `data` of the answer; None for an operation that is not known."""
        with self._lock:
            self.operations.append(operation)
            answer = OPERATIONS.get(operation)
            return None if answer is None else answer(self, variables)

    def file_stream(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            return wandb_runs.stream(self, self.runs[name], body)

    def upload(self, path: str, content: bytes) -> bool:
        with self._lock:
            keep = self._uploads.get(path)
            if keep is not None:
                keep(content)
            return keep is not None

    def download(self, path: str) -> bytes | None:
        with self._lock:
            return self._downloads.get(path)

    # What operations call

    def upload_url(self, name: str, keep: Callable[[bytes], None]) -> str:
        path = f"/upload/{len(self._uploads)}/{quote(name)}"
        self._uploads[path] = keep
        return self.url + path

    def download_url(self, name: str, content: bytes) -> str:
        path = f"/download/{len(self._downloads)}/{quote(name)}"
        self._downloads[path] = content
        return self.url + path


Operation = Callable[[WandbServer, dict[str, Any]], dict[str, Any]]

OPERATIONS: dict[str, Operation] = {
    **wandb_runs.OPERATIONS,
    **wandb_artifacts.OPERATIONS,
    **wandb_sweeps.OPERATIONS,
    **wandb_views.OPERATIONS,
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
        content = self.server_state.download(self.path)
        if content is None:
            return self._refuse(f"GET {self.path}")
        return self._write(200, "application/octet-stream", content)

    def _graphql(self, request: dict[str, Any]) -> None:
        name = request.get("operationName") or re.search(r"(?:query|mutation)\s+(\w+)", request["query"])[1]
        try:
            data = self.server_state.graphql(name, request.get("variables") or {})
        except PermissionError as error:
            return self._answer(403, {"data": None, "errors": [{"message": str(error)}]})
        except FileNotFoundError as error:
            return self._answer(404, {"data": None, "errors": [{"message": str(error)}]})
        except (LookupError, TypeError, ValueError) as error:
            return self._refuse(f"operation {name} with {request.get('variables')}: {error!r}")
        if data is None:
            return self._refuse(f"operation {name}: {request}")
        return self._answer(200, {"data": data})

    def _refuse(self, what: str) -> None:
        self.server_state.refused.append(what)
        self._answer(400, {"errors": [{"message": f"the stand-in server does not know {what}"}]})

    def _answer(self, status: int, answer: dict[str, Any]) -> None:
        self._write(status, "application/json", json.dumps(answer).encode())

    def _write(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(content)

    def _key(self) -> str:
        scheme, _, secret = self.headers.get("Authorization", "").partition(" ")
        return base64.b64decode(secret).decode().partition(":")[2] if scheme == "Basic" else secret

    def log_message(self, *_: object) -> None:
        """Silence: a test reads `operations` instead."""
