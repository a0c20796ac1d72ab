from __future__ import annotations

import json
import subprocess
from pathlib import Path

from harness.runs import provenance


def test_versions_and_hardware_can_be_written_as_json() -> None:
    found = json.loads(json.dumps(provenance.provenance()))
    assert found["versions"]["vit-harness"] == "0.1.0"
    assert set(provenance.PACKAGES) < set(found["versions"])
    assert found["hardware"]["memory_bytes"] > 2**28
    assert found["hardware"]["cores"] >= 1


def test_the_commit_and_what_differs_from_it(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert provenance.git_state(tmp_path) == {}
    git("init", "--quiet")
    (tmp_path / "other.py").touch()
    git("add", ".")
    git("commit", "--quiet", "-m", "one")
    assert provenance.git_state(tmp_path) == {}  # a checkout, but not of this code
    (tmp_path / "config.py").write_text("a = 1\n")
    git("add", ".")
    git("commit", "--quiet", "-m", "two")
    assert provenance.git_state(tmp_path) == {"commit": git("rev-parse", "HEAD"), "changed": False}
    (tmp_path / "config.py").write_text("a = 2\n")
    assert provenance.git_state(tmp_path)["changed"] is True
