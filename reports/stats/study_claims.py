"""The claims of the study that this program began with, and what verified runs say about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from harness.runs.evidence_file import FAILS, HOLDS, OPEN, Claim
from harness.runs.rules import printable
from reports.columns import value
from reports.runs import Run

# Of each statement of the study, the claim of `harness verify` that tests it in one run.
TESTED_IN_A_RUN = {
    "The first six of twelve layers segment the object; the last six add little.": "half_the_layers",
    "Different heads look at different things.": "heads_differ",
    "Attention maps show what the model uses.": "maps_are_faithful",
}
POSITIONS = "A high learning rate destroys the position embedding; a low one keeps it."
USES_POSITIONS = "uses_positions"
APART = 100  # a high learning rate is at least so many times a low one, as the study's 1e-3 and 1e-5
POSITIONS_RULE = (
    "Whether the runs with the lowest and with the highest learning rate use their position embedding, by accuracy "
    "lost when it is shuffled; runs that do not train it (--freeze backbone, LoRA) are left out. holds: the one with "
    "the lowest does and the one with the highest does not. does not hold: the one with the highest does. cannot be "
    f"told: anything else, and rates less than {APART} times apart; a model that does not beat guessing uses nothing "
    "that could be destroyed."
)


@dataclass(frozen=True)
class StudyClaim:
    """A statement of the study, the numbers of the runs at hand, and the verdict."""

    statement: str
    numbers: tuple[str, ...]
    verdict: str
    rule: str


def study_claims(runs: Sequence[tuple[Run, Sequence[Claim]]]) -> list[StudyClaim]:
    """What verified runs, the best first, say about each statement; statements that none of them tests are left out."""
    found = []
    for statement, key in TESTED_IN_A_RUN.items():
        claims = [claim for _, of_run in runs for claim in of_run if claim.key == key]
        if claims:
            found.append(_of_the_best(statement, claims))
    return [*found, *_of_learning_rates(runs)]


def _of_the_best(statement: str, claims: Sequence[Claim]) -> StudyClaim:
    """The verdict of the best run, and how many of the others have which."""
    best, *others = claims
    numbers = [f"{best.number}: {best.numbers}"]
    if others:
        verdicts = Counter(claim.verdict for claim in others)
        of_others = ", ".join(f"{verdict} ({count})" for verdict, count in verdicts.items())
        numbers.append(f"the best verified run; of {len(others)} other{'s' * (len(others) > 1)}: {of_others}")
    return StudyClaim(statement, tuple(map(printable, numbers)), best.verdict, printable(best.rule))


def _of_learning_rates(runs: Sequence[tuple[Run, Sequence[Claim]]]) -> list[StudyClaim]:
    """The claim about positions; none without verified runs at two learning rates."""
    claims: dict[float, Claim] = {}
    for run, of_run in runs:
        rate, claim = run.learning_rate, next((each for each in of_run if each.key == USES_POSITIONS), None)
        is_frozen = run.config.get("freeze") == "backbone" or bool(run.config.get("lora_rank"))
        if claim and rate is not None and not is_frozen:
            claims.setdefault(rate, claim)  # the best run with this learning rate
    if len(claims) < 2:
        return []
    lowest, highest = min(claims), max(claims)
    if highest < APART * lowest * (1 - 1e-9):
        verdict = OPEN
    elif claims[highest].verdict == HOLDS:
        verdict = FAILS
    else:
        verdict = HOLDS if (claims[lowest].verdict, claims[highest].verdict) == (HOLDS, FAILS) else OPEN
    numbers = (f"lr {value(rate)}: {claims[rate].number}: {claims[rate].numbers}" for rate in (lowest, highest))
    return [StudyClaim(POSITIONS, tuple(map(printable, numbers)), verdict, POSITIONS_RULE)]
