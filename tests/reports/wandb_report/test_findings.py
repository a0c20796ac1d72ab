from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from reports.collection import Collection
from reports.columns import Column
from reports.page.section import TITLES
from reports.runs import read_runs
from reports.stats.leaderboard import leaderboard
from reports.wandb_report.findings import findings, warnings
from reports.wandb_report.markdown import MOST_ROWS, escaped, table
from reports.wandb_report.panels import _is_logarithmic, panels
from tests.reports.test_runs import write_run

LABELS = (0, 0, 0, 1, 1, 1, 2, 2, 2)
CLASSES = ("cat", "dog", "<img src=x>|*owl*")


def collection(folder: Path) -> Collection:
    return Collection(folder, leaderboard(read_runs(folder)))


def write(folder: Path, score: float, lr: Any, predicted: tuple[int, ...] = LABELS, **summary: Any) -> None:
    found = {"best/val_f1": score, "best/epoch": 3, **summary}
    config = {"lr": lr, "seed": 0, "data": "images"}
    write_run(folder, LABELS, predicted, classes=CLASSES, config=config, summary=found)


def cells(text: str, header: str) -> list[list[str]]:
    """The rows of the table of Markdown whose header has that cell."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if f"| {header} |" in line)
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write(tmp_path / "a", 0.9, 1e-3, (0, 0, 0, 1, 1, 2, 1, 1, 2), **{"positions/verdict": "altered"})
    write(tmp_path / "b", 0.8, 1e-3, **{"positions/verdict": "retained", "attention/n": 9, "attention/entropy": 2.5})
    write(tmp_path / "c", 0.2, 1e-5, **{"positions/verdict": "retained", "positions/change": 0.125})
    return tmp_path


def test_effects(runs: Path) -> None:
    said = findings(collection(runs))["effects"]
    assert cells(said, "setting") == [
        ["lr", "1e-05", "1", "0.2000", "0.2000"],
        ["lr", "0.001", "2", "0.9000", "0.8500"],
    ]
    assert "From 3 runs, either importance is a rough hint" in said


def test_mistakes_of_the_best(runs: Path) -> None:
    said = findings(collection(runs))["mistakes"]
    assert said.startswith("The best run predicts 3 of 9 test images wrong.")
    owl = r"\<img src=x\>\|\*owl\*"
    assert cells(said, "images")[0] == [owl, "dog", "2 of 3"]
    # owl: 1 of 3 shown is hit and 2 are named; dog: 2 of 3, and 4.
    assert cells(said, "F1")[:2] == [[owl, "0.40", "0.33", "3"], ["dog", "0.57", "0.67", "3"]]
    assert [row[1:3] for row in cells(said, "image")] == [["dog", owl], [owl, "dog"], [owl, "dog"]]


def test_gallery_and_positions(runs: Path) -> None:
    said = findings(collection(runs))
    assert cells(said["gallery"], "lr") == [["0.001", "9", "2.50", "-", "-"]]
    assert [row[:4] for row in cells(said["positions"], "lr")] == [
        ["1e-05", "c", "retained", "0.125"],
        ["0.001", "a", "altered", "-"],
        ["0.001", "b", "retained", "-"],
    ]


def test_the_rest(runs: Path) -> None:
    found = collection(runs)
    said = findings(found)
    sections = ["leaderboard", "effects", "curves", "mistakes", "gallery", "positions", "evidence", "provenance"]
    assert list(said) == sections
    assert set(said) < set(TITLES)
    assert [row[:3] for row in cells(said["leaderboard"], "test F1")] == [
        ["1", "0.001", "0.9000"],
        ["2", "0.001", "0.8000"],
        ["3", "1e-05", "0.2000"],
    ]
    assert "    harness train --recipe=study --lr=0.001" in said["leaderboard"]
    assert "Of 3 finished runs, 3 had the best epoch last" in said["curves"]
    assert ["data", "images"] in cells(said["provenance"], "")
    assert "this page" not in warnings(found) and ":  (" not in warnings(found)
    assert "Each setting was trained with one seed (0)" in warnings(found)


def test_nothing_has_finished(tmp_path: Path) -> None:
    write(tmp_path / "a", 0.0, 1e30, state="infeasible", reason="The loss became nan.")
    said = findings(collection(tmp_path))
    assert said["effects"] == "Fewer than two runs have finished: nothing to compare."
    assert said["mistakes"] == said["gallery"] == said["positions"] == ""
    assert said["curves"] == "Runs whose settings could not be trained:\n\n* a: The loss became nan."


def test_verdicts_of_verified_runs_come_from_their_summaries(tmp_path: Path) -> None:
    verdicts = {"evidence/heads_differ": 0.1485, "evidence/heads_differ_verdict": "holds"}
    write(tmp_path / "a", 0.9, 1e-3, **verdicts, **{"evidence/maps_are_faithful_verdict": "cannot be told"})
    write(tmp_path / "b", 0.8, 1e-4, **verdicts | {"evidence/heads_differ_verdict": "does not hold"})
    write(tmp_path / "c", 0.7, 1e-5)
    found = collection(tmp_path)
    assert cells(findings(found)["evidence"], "heads differ") == [
        ["0.001", "holds (0.148)", "cannot be told"],
        ["0.0001", "does not hold (0.148)", "-"],
    ]
    shown = [panel.media_keys for panel in panels(found.board)["evidence"]]
    assert ["figures/evidence_faithfulness"] in shown and ["figures/attention_object"] not in shown
    write(tmp_path / "d", 0.6, 1e-6, **{"object/n": 20})
    shown = [panel.media_keys for panel in panels(collection(tmp_path).board)["evidence"]]
    assert shown[-1] == ["figures/attention_object"]


def test_without_verified_runs_there_is_no_evidence(runs: Path) -> None:
    found = collection(runs)
    assert findings(found)["evidence"] == "" and panels(found.board)["evidence"] == []


@pytest.mark.parametrize("lr", [10**400, float("nan"), "fast", None])
def test_a_learning_rate_that_is_no_number(tmp_path: Path, lr: Any) -> None:
    for name, rate in (("a", lr), ("b", 1e-3)):
        write(tmp_path / name, 0.5, rate, **{"positions/verdict": "altered"})
    found = collection(tmp_path)
    assert [row[1] for row in cells(findings(found)["positions"], "lr")] == ["a", "b"]
    assert _is_logarithmic(found.board, "lr") is None


def test_text_stays_text_and_tables_end() -> None:
    assert escaped("a_b *c* [d](e) $f$ <g> `h` ~i~ #j \\ | &k;\n") == (
        r"a\_b \*c\* \[d\](e) \$f\$ \<g\> \`h\` \~i\~ \#j \\ \| \&k;\\n"
    )
    long = table(
        [Column("n", tuple(map(str, range(MOST_ROWS + 3)))), Column("t", ("x",) * (MOST_ROWS + 3), is_text=True)]
    )
    assert long.splitlines()[:3] == ["| n | t |", "| ---: | --- |", "| 0 | x |"]
    assert long.endswith("| 49 | x |\n\n... and 3 more.")
