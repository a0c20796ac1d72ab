"""What `harness verify` found: claims about models and their attention maps, with numbers and verdicts."""

from __future__ import annotations

from typing import Any

from harness.runs.evidence_file import FAILS, HOLDS, Claim, read_claims
from harness.runs.reading import UnreadableError
from harness.runs.rules import printable
from reports.collection import Collection
from reports.page.section import Section
from reports.page.site import Site

SHOWN = 6  # runs side by side, the best first
# Classes of the tag that shows a verdict, in report.css.
TAGS = {HOLDS: "good", FAILS: "warn"}


def section(collection: Collection, site: Site) -> Section | None:
    """A row for each claim and a column for each run; None if no run was verified."""
    claims_of: dict[str, dict[str, Claim]] = {}
    problems = []
    for row in collection.rows:
        try:
            claims = read_claims(row.run.path)
        except UnreadableError as error:
            problems.append(f"{collection.label(row.run)}: {printable(error.reason)}")
            continue
        if claims:
            claims_of[collection.label(row.run)] = {claim.key: claim for claim in claims}
    if not claims_of and not problems:
        return None
    shown = list(claims_of)[:SHOWN]
    keys = dict.fromkeys(key for name in shown for key in claims_of[name])
    rows = [_row(key, [claims_of[name].get(key) for name in shown]) for key in keys]
    context = {"runs": shown, "rows": rows, "more": len(claims_of) - len(shown), "problems": problems}
    return Section("evidence", "evidence.html.j2", context)


def _row(key: str, claims: list[Claim | None]) -> dict[str, Any]:
    first = next(claim for claim in claims if claim)
    return {
        "statement": _statement(key, first),
        "rule": printable(first.rule),
        "cells": [None if claim is None else _cell(claim) for claim in claims],
    }


def _statement(key: str, claim: Claim) -> str:
    """What is claimed of all runs; their best maps may differ, so the cells name them."""
    general = {
        "maps_depend_on_weights": "The map shown first depends on what the upper half of the model learned.",
        "maps_point_at_objects": "The map shown first points at the object.",
    }
    return general.get(key, printable(claim.statement))


def _cell(claim: Claim) -> dict[str, str]:
    return {
        "verdict": claim.verdict,
        "tag": TAGS.get(claim.verdict, ""),
        "numbers": claim.numbers,
        "about": printable(claim.number),
    }
