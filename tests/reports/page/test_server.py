"""The page on a server: on this machine alone, and built again while runs change."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from harness.cli.report import make_page
from reports.page import server
from reports.page.build import build
from tests import ROOT
from tests.helpers.browser import Reader
from tests.reports.stats.test_leaderboard import write


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder of runs, and the address where `harness report` serves their page; Ctrl+C ends it."""
    write(tmp_path / "runs" / "a", 0.5, lr=0.1)
    write(tmp_path / "runs" / "b", None, state="running", lr=0.2)
    code = "import sys; from reports.page import server; server.EVERY = 0.2; from harness.cli.main import main; main()"
    command = [sys.executable, "-c", code, "report", str(tmp_path / "runs"), "--serve", "--watch"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield tmp_path / "runs", process.stdout.readline().strip()
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0


def asked(address: str, path: str, host: str | None = None) -> tuple[int, str]:
    """Status and content."""
    name = address.split("/")[2]
    connection = http.client.HTTPConnection(name, timeout=30)
    connection.putrequest("GET", path, skip_host=True)
    connection.putheader("Host", host or name)
    connection.endheaders()
    answer = connection.getresponse()
    content = answer.read().decode(errors="replace")
    connection.close()
    return answer.status, content


def test_it_serves_its_folder_to_this_machine_alone(served: tuple[Path, str], reader: Reader) -> None:
    runs, address = served
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/index\.html", address)
    assert asked(address, "/index.html")[0] == 200
    assert asked(address, "/index.html", "example.org")[0] == 403
    assert asked(address, "/data/")[0] == 404  # no listing
    (runs / "report" / "data" / "link.js").symlink_to(runs / "a" / "config.json")
    for path in ("/data/link.js", "/../a/config.json", "/%2e%2e/a/config.json", "/data/..%2f..%2fa/config.json"):
        assert asked(address, path)[0] == 404, path

    # The page shows what has changed, and keeps what was chosen.
    page = reader.open(f"{address}#filter=lr%3E0", charts=False)
    count = page.locator("#leaderboard [data-count]")
    expect(count).to_have_text("2 runs")
    shutil.rmtree(runs / "b")
    write(runs / "b", 0.9, lr=0.2)
    write(runs / "c", 0.1, lr=0.3)
    expect(count).to_have_text("3 runs")
    expect(page.locator("#verdict .setting")).to_have_text("lr 0.2")
    assert page.url.endswith("#filter=lr%3E0")


def test_it_builds_again_only_if_a_run_changed(tmp_path: Path) -> None:
    run = write(tmp_path / "a", 0.5)
    built: list[int] = []
    look = server.rebuilding(tmp_path, lambda: built.append(1), lambda text: None)
    look()
    assert built == []
    (run.path / "summary.json").write_text(json.dumps(run.summary | {"best/val_f1": 0.625}))
    look()
    look()
    assert built == [1]
    (run.path / "notes.md").write_text("better")
    look()
    assert built == [1, 1]


def test_what_changes_during_the_first_build_is_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write(tmp_path / "a", 0.5)
    built: list[int] = []

    def build_while_a_run_changes(*arguments: object, **options: object) -> Path:
        built.append(1)
        (run.path / "notes.md").write_text("better")
        return tmp_path / "report" / "index.html"

    monkeypatch.setattr("reports.page.build.build", build_while_a_run_changes)
    monkeypatch.setattr(server, "serve", lambda folder, started, *, port, look: look())
    make_page(str(tmp_path), None, None, (), serve=True, watch=True, port=0, open_page=False)
    assert built == [1, 1]


def test_only_a_watched_page_refreshes_itself(tmp_path: Path) -> None:
    write(tmp_path / "a", 0.5)
    index = build(tmp_path)
    assert "data-version" not in index.read_text() and not (index.parent / "data" / "version.js").exists()
    build(tmp_path, watched=True)
    first = (index.parent / "data" / "version.js").read_text()
    build(tmp_path, watched=True)
    assert (index.parent / "data" / "version.js").read_text() == first
    write(tmp_path / "b", 0.75)
    build(tmp_path, watched=True)
    assert (index.parent / "data" / "version.js").read_text() != first
    [version] = re.findall(r'<body data-version="(\w+)">', index.read_text())
    assert version in (index.parent / "data" / "version.js").read_text()
