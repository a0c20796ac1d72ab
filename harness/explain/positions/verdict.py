"""What training did to a position embedding, in words, by rules that are fixed here."""

from __future__ import annotations

from dataclasses import dataclass

from harness.explain.positions.measures import Measured, Numbers

CLEARLY_LESS = 0.9  # of a number before: below, it counts as changed
HARDLY_ANY = 0.1  # of a number before: below, it counts as gone
LARGE_CHANGE = 0.5  # of ‖ΔP‖ / ‖P‖; √2 is unrelated
WEAK = 0.5  # of the strength before: below, it counts as changed
DROWNED = 0.05  # of the strength before: below, the model cannot notice its positions any more


def verdict(before: Numbers, after: Numbers, change: Measured, strength: float = 1.0) -> str:
    """What fine-tuning did to a position embedding, by a rule that is fixed here.

    `strength`: `typical_length` of the embedding over `content_length` of the same images, after divided by before.

    - "none to keep": before, neither locality nor decoding is above its range by chance.
    - "lost": after, neither is above that range and above 10 % of what it was; or strength is below 5 %.
    - "retained": both are at least 90 % of what they were, ‖ΔP‖/‖P‖ is below 0.5 and strength at least 50 %.
    - "altered": anything else.
    """
    words = verdict_words(before, after, change, strength)
    if words.structure in ("none to keep", "lost"):
        return words.structure
    if words.strength == "lost":
        return "lost"
    return "retained" if words.structure == words.strength == "retained" else "altered"


@dataclass(frozen=True)
class VerdictWords:
    """The two sides of a verdict: what became of the structure, and what of the strength."""

    structure: str  # none to keep, lost, altered, retained
    strength: str  # lost, weakened, retained

    @property
    def decided_by(self) -> str:
        """The rule that decided the verdict."""
        if self.structure in ("none to keep", "lost"):
            return "structure"
        if self.strength == "lost" or (self.structure == "retained" and self.strength == "weakened"):
            return "strength"
        return "structure and strength" if self.structure == self.strength else "structure"


def verdict_words(before: Numbers, after: Numbers, change: Measured, strength: float) -> VerdictWords:
    """What fine-tuning did to the structure and to the strength of a position embedding, each by its own rule."""
    pairs = ((before.locality, after.locality), (before.decoding, after.decoding))
    if all(start.value <= start.high for start, _ in pairs):
        structure = "none to keep"
    elif all(end.value <= max(end.high, HARDLY_ANY * start.value) for start, end in pairs):
        structure = "lost"
    elif change.value < LARGE_CHANGE and all(end.value >= CLEARLY_LESS * start.value for start, end in pairs):
        structure = "retained"
    else:
        structure = "altered"
    return VerdictWords(structure, "lost" if strength < DROWNED else "weakened" if strength < WEAK else "retained")
