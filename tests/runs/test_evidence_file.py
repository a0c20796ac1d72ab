"""`evidence.json` as other programs and damage leave it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.runs.evidence_file import Claim, read_claims, read_map_scores
from harness.runs.reading import UnreadableError
from harness.runs.resampling import Interval

CLAIM = {
    "key": "uses_positions",
    "statement": "The model uses its position embedding.",
    "number": "accuracy lost",
    "measured": {"value": 0.5, "low": 0.4, "high": 0.6},
    "n": 100,
    "verdict": "holds",
    "rule": "The rule.",
}


def test_claims_are_read_as_they_were_written(tmp_path: Path) -> None:
    (tmp_path / "evidence.json").write_text(json.dumps({"claims": [CLAIM]}))
    expected = Claim(
        "uses_positions",
        "The model uses its position embedding.",
        "accuracy lost",
        Interval(0.5, 0.4, 0.6),
        100,
        "holds",
        "The rule.",
    )
    assert read_claims(tmp_path) == [expected]


def test_a_run_that_was_not_verified_has_none(tmp_path: Path) -> None:
    assert read_claims(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([], "it holds a list instead of an object"),
        ({}, "claims is null instead of a list"),
        ({"claims": [1]}, "a claim is a number instead of an object"),
        ({"claims": [CLAIM | {"statement": 5}]}, "statement of a claim is a number instead of text"),
        ({"claims": [CLAIM | {"verdict": "perhaps"}]}, "a verdict is 'perhaps' instead of one of holds"),
        ({"claims": [CLAIM | {"n": "many"}]}, "n of a claim is text instead of a number"),
        ({"claims": [CLAIM | {"measured": None}]}, "measured of a claim is null instead of an object"),
        ({"claims": [CLAIM | {"measured": {"value": 1, "low": "x", "high": 2}}]}, "are not three numbers"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(tmp_path: Path, content: Any, problem: str) -> None:
    (tmp_path / "evidence.json").write_text(json.dumps(content))
    with pytest.raises(UnreadableError) as error:
        read_claims(tmp_path)
    assert problem in str(error.value)
    assert str(error.value).endswith("Run `harness verify` to make it again.")


GAIN = {"gain": {"value": 0.149, "low": 0.126, "high": 0.17}}
CENTRE = {"gain": {"value": 0.045, "low": 0.02, "high": 0.07}}


def faithfulness(run_folder: Path, maps: object, n: object = 34) -> None:
    content = {"claims": [], "results": {"faithfulness": {"n": n, "maps": maps}}}
    (run_folder / "evidence.json").write_text(json.dumps(content))


def test_a_map_has_its_measured_faithfulness_beside_that_of_a_centre_prior(tmp_path: Path) -> None:
    assert read_map_scores(tmp_path) == {}
    faithfulness(tmp_path, {"relevance": GAIN, "centre": CENTRE})
    assert read_map_scores(tmp_path) == {
        "relevance": "faithfulness 0.149 (0.126 to 0.170) against 0.045 for a centre prior, n = 34"
    }


@pytest.mark.parametrize("content", ["{}", '{"results": []}', '{"results": {"faithfulness": {"maps": 3}}}'])
def test_where_nothing_was_measured_no_map_has_a_score(tmp_path: Path, content: str) -> None:
    (tmp_path / "evidence.json").write_text(content)
    assert read_map_scores(tmp_path) == {}


def test_a_gain_that_is_not_a_number_is_damage(tmp_path: Path) -> None:
    faithfulness(tmp_path, {"relevance": {"gain": {"value": "high"}}, "centre": CENTRE})
    with pytest.raises(UnreadableError, match="the gain of the map 'relevance' is not three numbers"):
        read_map_scores(tmp_path)
