"""A journal file that was cut off, filled a disk, was damaged or deleted."""

from __future__ import annotations

import errno
import io
import os
import resource
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.sweep.search import journal as journal_module
from harness.sweep.search.journal import Journal
from tests.helpers.sweeping import fork


def logs(path: Path) -> list[dict[str, Any]]:
    return list(Journal(path).read_logs(0))


def test_lines_are_appended_in_order_by_several_processes(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"

    def write(name: str) -> None:
        journal = Journal(path)
        for number in range(20):
            journal.append_logs([{"name": name, "number": number}, {"name": name, "number": -number}])

    children = [fork.Process(target=write, args=(name,)) for name in "ab"]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    for name in "ab":
        numbers = [log["number"] for log in logs(path) if log["name"] == name]
        assert numbers == [sign * number for number in range(20) for sign in (1, -1)]


@pytest.mark.parametrize("cut", [1, 7, 5000])
def test_a_line_that_a_killed_writer_did_not_finish_is_dropped(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    Journal(path).append_logs([{"number": 1}, {"number": 2, "text": "x" * 6000}])
    os.truncate(path, path.stat().st_size - cut)
    assert [log["number"] for log in logs(path)] == [1]
    Journal(path).append_logs([{"number": 3}])
    assert [log["number"] for log in logs(path)] == [1, 3]


def test_a_full_disk_is_one_sentence_and_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    Journal(path).append_logs([{"number": 1}])
    content = path.read_bytes()

    def write() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) + 10, resource.RLIM_INFINITY))
        try:
            Journal(path).append_logs([{"number": 2}])
        except HarnessError as error:
            os._exit(0 if str(error).startswith("The file-size limit (ulimit -f) is too small to save ") else 1)
        os._exit(2)

    child = fork.Process(target=write)
    child.start()
    child.join(30)
    assert child.exitcode == 0 and path.read_bytes() == content
    Journal(path).append_logs([{"number": 3}])
    assert [log["number"] for log in logs(path)] == [1, 3]


def test_a_damaged_journal_is_one_sentence_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    path.write_bytes(b'{"number": 1}\n\x00\xff damaged\n{"number": 2}\n')
    with pytest.raises(HarnessError, match=r"journal\.log is damaged .* `harness sweep rebuild FILE` makes it again"):
        logs(path)


def test_a_journal_that_was_deleted_is_not_created_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    journal = Journal(path)
    path.unlink()
    for work in (lambda: journal.append_logs([{"number": 1}]), lambda: list(journal.read_logs(0))):
        with pytest.raises(HarnessError, match=r"was deleted: `harness sweep rebuild FILE`"):
            work()
    assert not path.exists()


def test_a_write_that_takes_only_a_part_is_continued() -> None:
    class Partial(io.BytesIO):
        def write(self, content: Any) -> int:
            return super().write(content[:3])

    file = Partial()
    journal_module._write(file, 2, b"0123456789")
    assert file.getvalue() == b"\0\x000123456789"


def test_a_folder_that_may_not_be_written_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "journal.log")

    def refuse(*_: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(journal_module, "_write", refuse)
    with pytest.raises(HarnessError, match=r"cannot be written \(Read-only file system\)"):
        journal.append_logs([{"number": 1}])
