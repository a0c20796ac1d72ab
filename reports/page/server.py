"""Serves the page on this machine alone, and builds it again while the runs change."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from harness.runs.reading import run_folders
from harness.runs.rules import printable
from reports.errors import ReportError

HOST = "127.0.0.1"  # never another one: the page names folders of this machine
EVERY = 5.0  # seconds between looks at the runs

# Files of a run whose change is shown on the page.
WATCHED = ("config.json", "manifest.json", "metrics.jsonl", "summary.json", "predictions.csv", "notes.md")
WATCHED_BELOW = ("attention/attention.npz", "attention/positions.npz", "evidence.json")


class PageHandler(SimpleHTTPRequestHandler):
    """Files of one folder; no listings, no links that lead out of it."""

    def send_head(self) -> Any:
        # A page of another site could ask through a host name that resolves to this machine (DNS rebinding).
        host = (self.headers.get("Host") or "").partition(":")[0]
        if host not in (HOST, "localhost"):
            self.send_error(403, "This page is served to 127.0.0.1 only")
            return None
        path = Path(self.translate_path(self.path))
        if not path.resolve().is_relative_to(Path(self.directory).resolve()):
            self.send_error(404)
            return None
        return super().send_head()

    def list_directory(self, path: Any) -> None:
        self.send_error(404)

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def log_message(self, format: str, *words: Any) -> None:
        """Print nothing: a page makes hundreds of requests."""


def serve(
    folder: Path,
    started: Callable[[str], None],
    *,
    port: int = 0,
    look: Callable[[], None] | None = None,
) -> None:
    """Serve a folder until Ctrl+C; `started` gets the address, `look` is called again and again.

    Port 0 is any free one. Raises ReportError if the port is in use.
    """
    try:
        server = ThreadingHTTPServer((HOST, port), functools.partial(PageHandler, directory=str(folder)))
    except OSError as error:
        raise ReportError(f"Port {port} cannot be used: {error.strerror}. Choose another one with --port.") from error
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            started(f"http://{HOST}:{server.server_port}/index.html")
            while True:
                time.sleep(EVERY)
                if look is not None:
                    look()
        except KeyboardInterrupt:
            pass
        finally:
            server.shutdown()


def rebuilding(runs_dir: Path, build: Callable[[], object], say: Callable[[str], None]) -> Callable[[], None]:
    """A function that builds the page again if a file of a run has changed since its last call; it prints problems."""
    seen = _stamps(runs_dir)

    def look() -> None:
        nonlocal seen
        now = _stamps(runs_dir)
        if now == seen:
            return
        try:
            build()
            seen = now
        except ReportError as error:  # such as a run that was moved meanwhile: the next look tries again
            say(str(error))

    return look


def _stamps(runs_dir: Path) -> dict[str, tuple[int, int]]:
    """Time and size of the watched files."""
    stamps = {}
    for folder in run_folders(runs_dir):
        for name in (*WATCHED, *WATCHED_BELOW):
            try:
                about = (folder / name).stat()
            except OSError:
                continue
            stamps[printable(folder / name)] = (about.st_mtime_ns, about.st_size)
    return stamps
