from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from reports.errors import ReportError
from reports.page.site import Site
from reports.values import finite, script


def times(root: Path) -> dict[str, int]:
    return {str(path.relative_to(root)): path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


def test_only_what_changed_is_written(tmp_path: Path) -> None:
    with Site(tmp_path) as site:
        assert site.file("a b.txt", b"same") == "a%20b.txt"
        site.file("images/1.jpg", b"old")
        site.data("numbers", [1, 2])
        assert site.written == 3
    before = times(tmp_path)
    with Site(tmp_path) as site:
        site.file("a b.txt", b"same")
        site.file("images/1.jpg", b"new")
        site.data("numbers", [1, 2])
        assert site.written == 1
    after = times(tmp_path)
    assert {name for name in after if after[name] != before[name]} == {"images/1.jpg"}
    assert (tmp_path / "images" / "1.jpg").read_bytes() == b"new"


def test_slow_files_are_made_once_per_key(tmp_path: Path) -> None:
    made = []

    def make() -> bytes:
        made.append(1)
        return b"%d" % len(made)

    for key, expected in (("k", b"1"), ("k", b"1"), ("other", b"2"), ("k", b"3")):
        with Site(tmp_path) as site:
            site.made("slow.bin", key, make)
        assert (tmp_path / "slow.bin").read_bytes() == expected
    (tmp_path / "slow.bin").unlink()
    with Site(tmp_path) as site:
        site.made("slow.bin", "k", make)
    assert (tmp_path / "slow.bin").read_bytes() == b"4"


def test_files_of_an_earlier_page_go_and_others_stay(tmp_path: Path) -> None:
    with Site(tmp_path) as site:
        site.file("old/deep/1.txt", b"1")
        site.file("kept.txt", b"2")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RuntimeError), Site(tmp_path) as site:
        raise RuntimeError
    assert (tmp_path / "old" / "deep" / "1.txt").exists()  # a page that was not finished takes nothing away
    with Site(tmp_path) as site:
        site.file("kept.txt", b"2")
    assert {path.name for path in tmp_path.iterdir()} == {"kept.txt", "notes.txt", ".report.json"}


@pytest.mark.parametrize("path", ["/etc/passwd", "../up.txt", "a/../../up.txt"])
def test_a_damaged_ledger_never_reaches_out_of_the_folder(tmp_path: Path, path: str) -> None:
    outside = tmp_path / "up.txt"
    outside.write_text("mine")
    root = tmp_path / "a" / "page"
    root.mkdir(parents=True)
    (root / ".report.json").write_text(json.dumps({"files": {path: None, str(outside): None}}))
    with Site(root) as site:
        site.file("index.html", b"")
    assert outside.read_text() == "mine"
    with pytest.raises(ReportError, match="leads out of"):
        Site(root).file(path, b"")


@pytest.mark.parametrize("content", ["{", "[]", '{"files": 3}', "\xff"])
def test_a_damaged_list_counts_as_none(tmp_path: Path, content: str) -> None:
    """Files beside it may be the user's."""
    (tmp_path / ".report.json").write_text(content, encoding="latin-1")
    with Site(tmp_path) as site:
        site.file("index.html", b"")
    assert json.loads((tmp_path / ".report.json").read_text()) == {"files": {"index.html": None}}
    (tmp_path / ".report.json").write_text(content, encoding="latin-1")
    with pytest.raises(ReportError, match=r"not from a report \(index\.html\)"):
        Site(tmp_path)


def test_a_file_of_the_user_between_those_of_a_page_is_not_replaced(tmp_path: Path) -> None:
    with Site(tmp_path) as site:
        site.file("index.html", b"1")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "runs.js").write_text("mine")
    (tmp_path / "data" / "loss.js").symlink_to(tmp_path / "nowhere")
    writes: tuple[Callable[[Site], str], ...] = (
        lambda site: site.file("data/runs.js", b"2"),
        lambda site: site.made("data/runs.js", "key", lambda: b"2"),
        lambda site: site.data("loss", 2),
    )
    for write in writes:
        with pytest.raises(ReportError, match=r"js is not from a report"), Site(tmp_path) as site:
            write(site)
    assert (tmp_path / "data" / "runs.js").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_an_interrupted_page_is_finished(tmp_path: Path) -> None:
    """Files that it wrote and had not listed yet are its own."""
    stages: tuple[dict[str, bytes], ...] = ({}, {"index.html": b"1"})
    for earlier in stages:
        for name, content in earlier.items():
            with Site(tmp_path) as site:
                site.file(name, content)
        with pytest.raises(RuntimeError), Site(tmp_path) as site:
            site.file("data/runs.js", b"1")
            raise RuntimeError
        with Site(tmp_path) as site:
            site.file("data/runs.js", b"2")
        assert (tmp_path / "data" / "runs.js").read_bytes() == b"2"
        assert json.loads((tmp_path / ".report.json").read_text()) == {"files": {"data/runs.js": None}}


def test_links_of_a_page_are_replaced_and_not_followed(tmp_path: Path) -> None:
    root, outside = tmp_path / "page", tmp_path / "outside.html"
    outside.write_text("mine")
    with Site(root) as site:
        site.file("index.html", b"mine")
    (root / "index.html").unlink()
    (root / "index.html").symlink_to(outside)
    (root / f".index.html.{os.getpid()}").symlink_to(outside)
    with Site(root) as site:
        site.file("index.html", b"mine")
    assert not (root / "index.html").is_symlink()
    with Site(root) as site:
        site.file("index.html", b"changed")
    assert outside.read_text() == "mine"


def test_nothing_is_removed_by_way_of_a_link(tmp_path: Path) -> None:
    outside = tmp_path / "mine" / "notes.txt"
    outside.parent.mkdir()
    outside.write_text("mine")
    root = tmp_path / "page"
    with Site(root) as site:
        site.file("index.html", b"")
    (root / "maps").symlink_to(outside.parent)
    listed = dict.fromkeys(("maps/notes.txt", "a\0b", "index.html"))
    (root / ".report.json").write_text(json.dumps({"files": listed}))
    with Site(root) as site:
        site.file("index.html", b"")
    assert outside.read_text() == "mine"


def test_a_page_of_an_earlier_version_is_replaced(tmp_path: Path) -> None:
    old = tmp_path / "pictures" / "f00d" / "000.jpg"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    with pytest.raises(ReportError, match=r"not from a report \(pictures\)"):
        Site(tmp_path)
    (tmp_path / ".report.json").write_text(json.dumps({"files": {"pictures/f00d/000.jpg": "key"}}))
    with Site(tmp_path) as site:
        site.file("index.html", b"")
    assert not (tmp_path / "pictures").exists()


def test_a_first_page_that_was_interrupted_is_built_again(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), Site(tmp_path) as site:
        site.file("index.html", b"half")
        raise RuntimeError
    with Site(tmp_path) as site:
        site.file("index.html", b"whole")
    assert (tmp_path / "index.html").read_bytes() == b"whole"


def test_folders_with_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(ReportError, match="not from a report"):
        Site(tmp_path)
    assert (tmp_path / "index.html").read_text() == "mine"
    figure = tmp_path / "run" / "figures" / "positions.png"
    figure.parent.mkdir(parents=True)
    figure.write_text("mine")
    with pytest.raises(ReportError, match=r"not from a report \(figures\)\. Choose another folder with -o"):
        Site(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["figures"]


HOSTILE = {"</script><script>alert(1)</script>": ["<!--", "&amp;", "\u2028\u2029", "\udcff", 'a"b\\c', float("nan")]}


def test_data_is_json_that_cannot_leave_its_script() -> None:
    text = script(HOSTILE)
    assert text.isascii()
    assert not set("<>&") & set(text)
    assert json.loads(text) == finite(HOSTILE)
    assert finite([float("inf"), {"a": (float("nan"), 1.5)}]) == [None, {"a": [None, 1.5]}]


@pytest.mark.skipif(shutil.which("node") is None, reason="needs a JavaScript engine (node)")
def test_data_is_javascript(tmp_path: Path) -> None:
    with Site(tmp_path) as site:
        site.data("odd", HOSTILE)
    code = (tmp_path / "data" / "odd.js").read_text()
    code = f"const report = {{deliver: (name, value) => console.log(JSON.stringify([name, value]))}};\n{code}"
    done = subprocess.run(["node", "-e", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)[0] == "odd"
