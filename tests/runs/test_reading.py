"""Files of a run folder with wrong types: one sentence for harness commands, a problem for reports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.runs.folder import RunFolder
from harness.runs.reading import TYPES
from reports.runs import read_run

WRONG = {
    "null": b"null",
    "list": b"[]",
    "text": b'"text"',
    "number": b"3",
    "not UTF-8": b"\xff\xfe{}",
    "deep": b"[" * 100_000,
    "cut off": b'{"a": ',
}


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("name", TYPES)
def test_a_file_that_is_no_object_is_one_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    for file in TYPES:
        (tmp_path / file).write_bytes(b"{}")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(HarnessError, match=f"{name} is damaged .*--fresh") as caught:
        RunFolder(tmp_path).read(name)
    assert len(caught.value.problems) == 1
    problems = read_run(tmp_path).problems
    assert len(problems) == 1 and problems[0].startswith(f"{name} is damaged")


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, types in TYPES.items() for key in types])
def test_an_entry_of_a_wrong_type_is_named(tmp_path: Path, name: str, key: str) -> None:
    for file in TYPES:
        (tmp_path / file).write_bytes(b"{}")
    (tmp_path / name).write_text(json.dumps({key: 3, "other": 1}))
    with pytest.raises(HarnessError, match=rf"{key} is a number instead of"):
        RunFolder(tmp_path).read(name)
    run = read_run(tmp_path)
    assert len(run.problems) == 1 and f"{key} is a number" in run.problems[0]
    values = run.summary if name == "summary.json" else run.manifest
    assert dict(values) == {"other": 1}


@pytest.mark.parametrize(
    "row",
    [
        b"[]",
        b"null",
        b"3",
        b'"text"',
        b'{"epoch": 1}',
        b'{"step": "1"}',
        b'{"step": null}',
        b'{"step": 1, "val/f1": 1}',
        b'{"step": 1, "train/loss": [1]}',
        b'{"step": true}',
        b"[" * 100_000,
        b'{"step": 1, "a": "\xff"}',
    ],
    ids=range(12),
)
def test_a_damaged_row_is_one_sentence(tmp_path: Path, row: bytes) -> None:
    for file in TYPES:
        (tmp_path / file).write_bytes(b"{}")
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1, "train/loss": 2.0}\n' + row + b"\n")
    with pytest.raises(HarnessError, match=r"metrics\.jsonl is damaged") as caught:
        RunFolder(tmp_path).read_metrics()
    assert len(caught.value.problems) == 1
    run = read_run(tmp_path)
    assert run.rows == ({"step": 1, "train/loss": 2.0},)
    assert len(run.problems) == 1 and run.problems[0].startswith("metrics.jsonl is damaged")
