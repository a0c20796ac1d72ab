"""The guide to adding a figure: its code runs, its template renders, its files exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jinja2

from reports.collection import collect
from reports.page.sections import effects
from reports.page.site import Site
from tests import ROOT
from tests.helpers.small_sweep import write_small_sweep

GUIDE = (ROOT / "docs" / "development" / "adding-a-figure.md").read_text()


def test_its_files_exist() -> None:
    files = set(re.findall(r"`((?:reports|tests)/[\w./-]+)`", GUIDE))
    assert {"reports/page/sections/effects.py", "reports/page/build.py", "reports/page/section.py"} <= files
    assert [name for name in files if not (ROOT / name).exists()] == []


def test_its_figure_is_drawn(tmp_path: Path) -> None:
    runs = write_small_sweep(tmp_path)
    errors = {}
    for number, path in enumerate(sorted(runs.rglob("summary.json"))):
        summary = json.loads(path.read_text())
        if isinstance(summary, dict) and summary.get("state") == "finished":
            errors[path.parent.name] = summary["test/ece"] = 0.01 * (number + 1)
            path.write_text(json.dumps(summary))
    collection = collect(runs, None)
    [code] = re.findall(r"^```python\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = dict(vars(effects))
    exec(code, names)
    with Site(tmp_path / "page") as site:
        drawn = names["_calibration"](site, collection.board.ranked)
    count = len(collection.board.ranked)
    assert count > 2
    assert f"of {count} settings; the largest is {max(errors.values()):.2f}" in drawn.alt
    data = next((tmp_path / "page").rglob("*effects-calibration*")).read_text()
    assert all(f"{error:.2f}" in data for error in list(errors.values())[:count])

    [template] = re.findall(r"^```jinja\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
    environment = jinja2.Environment(loader=jinja2.PackageLoader("reports.page"), autoescape=True)
    html = environment.from_string(template).render(context={"calibration": drawn})
    assert "Calibration error" in html and drawn.name in html


def test_without_values_it_draws_nothing() -> None:
    [code] = re.findall(r"^```python\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = dict(vars(effects))
    exec(code, names)
    assert names["_calibration"](None, []) is None
