"""The study's claims, decided from the claims of verified runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from harness.runs.evidence_file import FAILS, HOLDS, OPEN, Claim
from harness.runs.resampling import Interval
from reports.runs import Run
from reports.stats.study_claims import POSITIONS, TESTED_IN_A_RUN, study_claims

CLAIM = Claim("uses_positions", "It uses positions.", "accuracy lost", Interval(0.5, 0.4, 0.6), 100, HOLDS, "The rule.")


def run(lr: float, verdict: str, key: str = "uses_positions") -> tuple[Run, list[Claim]]:
    return Run(Path(f"lr{lr}"), {"lr": lr}, {}, {}), [dataclasses.replace(CLAIM, key=key, verdict=verdict)]


@pytest.mark.parametrize(
    ("lowest", "highest", "verdict"),
    [(HOLDS, FAILS, HOLDS), (HOLDS, HOLDS, FAILS), (HOLDS, OPEN, OPEN), (OPEN, FAILS, OPEN), (FAILS, FAILS, OPEN)],
)
def test_positions_are_decided_by_the_lowest_and_the_highest_rate(lowest: str, highest: str, verdict: str) -> None:
    [claim] = study_claims([run(1e-3, HOLDS), run(1e-1, highest), run(1e-5, lowest)])
    assert claim.statement == POSITIONS and claim.verdict == verdict
    assert [number.split(":")[0] for number in claim.numbers] == ["lr 1e-05", "lr 0.1"]
    assert "0.500 (0.400 to 0.600), n = 100" in claim.numbers[0]


def test_one_learning_rate_says_nothing_about_rates() -> None:
    assert study_claims([run(1e-3, HOLDS), run(1e-3, FAILS)]) == []


def test_other_claims_are_those_of_the_best_run() -> None:
    verdicts = {1e-3: FAILS, 1e-2: HOLDS, 1e-1: FAILS}
    [claim] = study_claims([run(rate, verdict, "heads_differ") for rate, verdict in verdicts.items()])
    assert claim.verdict == FAILS
    assert claim.numbers[1] == f"the best verified run; of 2 others: {HOLDS} (1), {FAILS} (1)"


def test_of_runs_that_predict_one_class_nothing_can_be_told_in_any_row() -> None:
    keys = (*TESTED_IN_A_RUN.values(), "uses_positions")
    runs = [
        (run(rate, OPEN)[0], [dataclasses.replace(CLAIM, key=key, verdict=OPEN) for key in keys])
        for rate in (1e-5, 1e-1)
    ]
    found = study_claims(runs)
    assert [claim.verdict for claim in found] == [OPEN] * 4
    assert found[0].numbers[1] == f"the best verified run; of 1 other: {OPEN} (1)"


@pytest.mark.parametrize(("highest", "verdict"), [(HOLDS, FAILS), (FAILS, HOLDS)])
def test_rates_that_are_close_decide_nothing(highest: str, verdict: str) -> None:
    [close], [apart] = (study_claims([run(1e-5, HOLDS), run(high, highest)]) for high in (3e-4, 1e-3))
    assert (close.verdict, apart.verdict) == (OPEN, verdict)
    assert "rates less than 100 times apart" in close.rule


@pytest.mark.parametrize("frozen", [{"freeze": "backbone"}, {"lora_rank": 8}])
def test_a_run_that_does_not_train_its_positions_says_nothing_about_its_rate(frozen: dict[str, object]) -> None:
    of_frozen, claims = run(1.0, HOLDS)
    runs = [run(1e-5, HOLDS), run(1e-1, FAILS), (dataclasses.replace(of_frozen, config={"lr": 1.0, **frozen}), claims)]
    [claim] = study_claims(runs)
    assert claim.verdict == HOLDS and claim.numbers[1].startswith("lr 0.1:")
