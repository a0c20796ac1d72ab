from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from harness.demo import scenes
from harness.sweep.spec.sweep_file import read_sweep
from reports.page.build import build
from tests import ROOT
from tests.helpers.pages import Page
from tests.helpers.sweeping import records, sweep_here

DEMO = ROOT / "sweeps" / "demo.yaml"


def test_make_demo_draws_what_the_sweep_reads() -> None:
    recipe = re.search(r"^demo:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    draw, sweep, report = (shlex.split(line) for line in recipe[1].strip().splitlines())
    assert draw[1:3] == ["data", "demo"]
    assert sweep[2:5] == ["sweep", "run", "sweeps/demo.yaml"]
    assert report[1:] == ["report", sweep[-1]]
    points = [{"lr": 3e-4, "augment": "none", "head_init": "zero"}]
    assert read_sweep(DEMO).config(points[0]).data == draw[3]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fine_tuning_on_the_scenes_works_and_a_high_learning_rate_destroys_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The demo as it is, and what it shows."""
    monkeypatch.chdir(tmp_path)
    scenes.write(tmp_path / "demo" / "data")
    assert sweep_here(DEMO, tmp_path / "runs", words=("--threads=1", "--explain=none")) == 0
    found = {}
    for entry in records(DEMO, tmp_path / "runs"):
        assert entry.settings is not None
        [summary] = (tmp_path / "runs" / "demo").glob(f"*-{entry.number}/summary.json")
        found[tuple(entry.settings[name] for name in ("lr", "augment", "head_init"))] = json.loads(summary.read_text())
    assert found[3e-4, "none", "zero"]["test/f1"] >= 0.9
    assert found[3e-4, "standard", "zero"]["test/f1"] >= 0.7
    probed, destroyed = found[3e-4, "none", "probe"], found[1e-1, "none", "probe"]
    assert probed["probe/test_f1"] == destroyed["probe/test_f1"] >= 0.9
    assert probed["test/f1"] >= 0.9
    assert destroyed["probe/gain_high"] < 0
    for kind in (("none", "zero"), ("none", "probe"), ("standard", "zero")):
        # One class of ten, or two, for everything: 0.018 is what one gives.
        assert found[1e-1, *kind]["test/f1"] < 0.1
        assert found[1e-1, *kind]["test/accuracy"] < 0.2
    printed = capfd.readouterr().out
    assert printed.index("[6/6]") < printed.rindex("0.0003")
    board = printed[printed.rindex("[6/6]") :].splitlines()
    rows = [line.split()[0] for line in board if line.strip()]
    assert rows.index("probe") + 1 == rows.index("1")
    page = Page(build(tmp_path / "runs"))
    assert page.text_of("verdict").startswith("Best by validation F1")
    assert re.search("augment none, head init (zero|probe), lr 0.0003", page.text_of("verdict"))
    assert "linear probe F1" in page.text_of("verdict")
    assert "3 of 6 diverged" in page.text_of("curves")
    assert "probe linear probe of the frozen backbone, the start of 2 runs" in page.text_of("leaderboard")
    assert "240 train, 80 val, 100 test" in page.text_of("provenance")
