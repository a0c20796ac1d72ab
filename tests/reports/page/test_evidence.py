"""The section of the page about what `harness verify` found."""

from __future__ import annotations

import json
from pathlib import Path

from reports.page.build import build
from tests.helpers.pages import Page
from tests.reports.stats.test_leaderboard import write
from tests.runs.test_evidence_file import CLAIM

EVIL = "<script>alert(1)</script>"


def test_verdicts_of_runs_are_side_by_side_with_their_numbers_and_rule(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for name, wrong, verdict in (("best", 3, "holds"), ("other", 40, "cannot be told")):
        write(runs / name, 0.9 - wrong / 100, wrong, lr=wrong * 1e-5)
        (runs / name / "evidence.json").write_text(json.dumps({"claims": [CLAIM | {"verdict": verdict}]}))
    page = Page(build(runs))
    text = page.text_of("evidence")
    assert "What attention shows, tested" in text
    assert "The model uses its position embedding." in text
    assert text.count("0.500 (0.400 to 0.600), n = 100accuracy lost") == 2
    assert text.index("holds0.500") < text.index("cannot be told0.500")
    assert "The rule." in text


def test_the_claims_of_the_study_get_their_verdicts_and_figures_are_shown(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for name, lr, verdict in (("low", 1e-5, "holds"), ("high", 1e-1, "does not hold")):
        write(runs / name, 0.9 if name == "low" else 0.5, 3, lr=lr)
        (runs / name / "evidence.json").write_text(json.dumps({"claims": [CLAIM | {"verdict": verdict}]}))
    (runs / "low" / "figures").mkdir()
    (runs / "low" / "figures" / "evidence_heads.png").write_bytes(b"PNG")
    page = Page(build(runs))
    text = page.text_of("evidence")
    assert "What the study claimed, and what your runs say" in text
    study = text[text.index("What the study claimed") :]
    assert "A high learning rate destroys the position embedding; a low one keeps it." in study
    assert "Which heads matter" in study
    [copied] = (runs / "report" / "figures").glob("*/evidence_heads.png")
    assert copied.read_bytes() == b"PNG"


def test_without_verified_runs_there_is_no_section(tmp_path: Path) -> None:
    write(tmp_path / "runs" / "best", 0.9, 3, lr=1e-5)
    assert Page(build(tmp_path / "runs")).text_of("evidence") == ""


def test_the_object_test_of_the_best_run_is_shown_also_where_none_was_verified(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    write(runs / "best", 0.9, 3, lr=1e-5)
    (runs / "best" / "figures").mkdir()
    (runs / "best" / "figures" / "attention_object.png").write_bytes(b"PNG")
    text = Page(build(runs)).text_of("evidence")
    assert "No run was verified." in text and "Attention on the object, by layer and by map" in text


def test_a_damaged_file_is_named_and_text_from_files_stays_text(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    write(runs / "best", 0.9, 3, lr=1e-5)
    write(runs / "other", 0.8, 9, lr=1e-4)
    (runs / "best" / "evidence.json").write_text("[]")
    (runs / "other" / "evidence.json").write_text(json.dumps({"claims": [CLAIM | {"statement": EVIL}]}))
    page = Page(build(runs))
    assert "evidence.json is damaged (it holds a list instead of an object)" in page.text_of("evidence")
    assert EVIL in page.text_of("evidence")
    assert EVIL not in page.source
