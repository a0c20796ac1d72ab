"""What `harness verify` found: claims about models and their attention maps, with numbers, verdicts and figures."""

from __future__ import annotations

from typing import Any

from harness.runs.evidence_file import FAILS, HOLDS, Claim, read_claims
from harness.runs.reading import UnreadableError
from harness.runs.rules import printable
from reports.collection import Collection
from reports.page.run_figures import copied_figure
from reports.page.section import Section
from reports.page.site import Site
from reports.runs import Run
from reports.stats.study_claims import study_claims

SHOWN = 6  # runs side by side, the best first
# Classes of the tag that shows a verdict, in tables.css.
TAGS = {HOLDS: "good", FAILS: "warn"}
OBJECT_FIGURE = "attention_object"
FIGURES = {
    "evidence_depth": "What each layer knows",
    "evidence_heads": "Which heads matter",
    "evidence_positions": "When the position embedding is destroyed",
    "evidence_faithfulness": "When patches are kept or dropped in the order of a map",
    "evidence_maps": "Whether maps depend on the weights and point at objects",
    "evidence_before_after": "Attention before and after fine-tuning, on the same images",
    "evidence_mistakes": "Mistakes: relevance for the prediction and for the truth",
    OBJECT_FIGURE: "Attention on the object, by layer and by map",
}


def section(collection: Collection, site: Site) -> Section | None:
    """A row for each claim and a column for each run; None if no run was verified and the best has no object test."""
    verified: list[tuple[Run, list[Claim]]] = []
    problems = []
    for row in collection.rows:
        try:
            claims = read_claims(row.run.path)
        except UnreadableError as error:
            problems.append(f"{collection.label(row.run)}: {printable(error.reason)}")
            continue
        if claims:
            verified.append((row.run, claims))
    drawn = verified[0][0] if verified else collection.best
    figures = _figures(collection, site, drawn) if drawn else {}
    if not verified and not problems and OBJECT_FIGURE not in figures:
        return None
    shown = [{claim.key: claim for claim in claims} for _, claims in verified[:SHOWN]]
    keys = dict.fromkeys(key for claims in shown for key in claims)
    context = {
        "runs": [collection.label(run) for run, _ in verified[:SHOWN]],
        "rows": [_row(key, [claims.get(key) for claims in shown]) for key in keys],
        "more": max(len(verified) - SHOWN, 0),
        "problems": problems,
        "study": study_claims(verified),
        "tags": TAGS,
        "figures": figures,
        "figures_of": collection.label(drawn) if drawn else "",
        "captions": FIGURES,
    }
    return Section("evidence", "evidence.html.j2", context)


def _figures(collection: Collection, site: Site, run: Run) -> dict[str, str]:
    """Addresses of the figures of a run, which are copied, by name."""
    addresses = {name: copied_figure(site, collection.key(run), run, name) for name in FIGURES}
    return {name: address for name, address in addresses.items() if address}


def _row(key: str, claims: list[Claim | None]) -> dict[str, Any]:
    first = next(claim for claim in claims if claim)
    return {
        "statement": _statement(key, first),
        "rule": printable(first.rule),
        "cells": [claim and {"claim": claim, "about": printable(claim.number)} for claim in claims],
    }


def _statement(key: str, claim: Claim) -> str:
    """What is claimed of all runs; their maps may differ, so the cells name them."""
    general = {
        "maps_depend_on_weights": "The map shown first depends on what the upper half of the model learned.",
        "maps_point_at_objects": "The map shown first points at the object.",
    }
    return general.get(key, printable(claim.statement))
