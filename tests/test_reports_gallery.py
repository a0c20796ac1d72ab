"""Mistakes, where it looks and what changed, on the whole page: what stands in its HTML, whatever the runs are like."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness import cli
from reports import page
from reports.sections import positions
from tests.explained import made_up_archive
from tests.looked import look
from tests.test_reports_runs import write_run

HOSTILE = "<img src=x onerror=alert(1)>"


class Sections(HTMLParser):
    """Text of each section, ids, and what elements refer to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text: dict[str, str] = {}
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self._section = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.addresses += [value for name, value in attrs if name in ("src", "href") and value]
        if tag == "section":
            self._section = values.get("id") or ""

    def handle_data(self, data: str) -> None:
        self.text[self._section] = self.text.get(self._section, "") + data


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The figure of the sweep takes a second."""
    monkeypatch.setattr(positions, "_sweep_figure", lambda *_: None)


def test_sections_and_what_they_need(tmp_path: Path) -> None:
    for place in range(2):
        figures = look(tmp_path / "runs" / f"r{place}", config={"lr": 10.0**-place}) / "figures"
        figures.mkdir()
        (figures / "positions.png").write_bytes(b"a picture")
    index = page.build(tmp_path / "runs", tmp_path / "page")
    found = Sections(index.read_text())
    for name in ("mistakes", "gallery", "positions"):
        assert found.text[name].strip()
    assert len(found.ids) == len(set(found.ids))
    # What the scripts look for by its id is there.
    for script in ("gallery.js", "mistakes.js", "positions.js"):
        wanted = re.findall(r'getElementById\("([\w-]+)"\)', (tmp_path / "page" / "assets" / script).read_text())
        assert wanted and set(wanted) <= set(found.ids)
    for address in found.addresses:
        if not address.startswith(("#", "data:")):
            assert (tmp_path / "page" / address).is_file(), address
    options = re.findall(r'<option value="(r[0-9a-f]{10})"[^>]*>([^<]+)</option>', index.read_text())
    assert {label for _, label in options} == {"lr 1", "lr 0.1"}
    for key, _ in options:
        for kind in ("gallery", "mistakes", "heads"):
            assert (tmp_path / "page" / "data" / f"{kind}-{key}.js").is_file()


def test_text_from_runs_stays_text(tmp_path: Path) -> None:
    name = HOSTILE.replace("/", "")
    folder = tmp_path / 'it\'s "quoted"' / name
    look(folder, made_up_archive(classes=(HOSTILE, "b", "c")), config={"augment": HOSTILE})
    look(folder.parent / "other", config={"augment": "'\"><script>alert(2)</script>"})
    shutil.rmtree(folder.parent / "other" / "attention")
    html = page.build(folder.parent, tmp_path / "page").read_text()
    assert HOSTILE not in html and "<script>alert" not in html
    found = Sections(html)
    assert HOSTILE in found.text["mistakes"]
    assert "Not here, attention.npz is missing: augment '\"><script>alert(2)</script>." in " ".join(
        found.text["gallery"].split()
    )


def test_runs_that_have_not_looked(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a")
    write_run(tmp_path / "runs" / "b", config={"lr": 1e-3}, summary={"state": "failed"})
    (tmp_path / "runs" / "b" / "predictions.csv").unlink()
    found = Sections(page.build(tmp_path / "runs", tmp_path / "page").read_text())
    assert "No run has looked at its test pictures" in found.text["gallery"]
    assert "failed: not looked yet: lr 0.001." in " ".join(found.text["gallery"].split())
    assert "No run has position embeddings to compare." in found.text["positions"]
    assert "dialog" not in found.tags and "gallery-controls" not in found.ids and "mistakes-controls" in found.ids


def test_as_many_runs_as_asked_for(tmp_path: Path) -> None:
    for place in range(3):
        look(tmp_path / "runs" / f"r{place}", config={"lr": 10.0**-place})

    def report(*words: str) -> tuple[int, str]:
        out = tmp_path / "page"
        done = CliRunner().invoke(cli.main, ["report", str(tmp_path / "runs"), "-o", str(out), *words])
        text = " ".join(Sections((out / "index.html").read_text()).text["gallery"].split()) if out.exists() else ""
        return done.exit_code, text if not done.exit_code else done.output

    assert "more would be" not in report()[1]
    assert (
        "The best and the worst 2 runs are here. 1 more would be with harness report --gallery all"
        in report("--gallery", "2")[1]
    )
    assert "more would be" not in report("--gallery", "all")[1]
    assert len(list((tmp_path / "page" / "maps").iterdir())) == 3
    code, said = report("--gallery", "some")
    assert code == 2 and "--gallery is 'some'; it must be all, or a number of runs." in said
