"""What training did to a position embedding, in words, by rules that are fixed here."""

from __future__ import annotations

from dataclasses import dataclass

from harness.explain.positions.measures import Measured, Numbers

CLEARLY_LESS = 0.9  # of a number before: below, it counts as changed
HARDLY_ANY = 0.1  # of a number before: below, it counts as gone
LARGE_CHANGE = 0.5  # of ‖ΔP‖ / ‖P‖; √2 is unrelated
WEAK = 0.5  # of the strength before: below, it counts as changed
DROWNED = 0.05  # of the strength before: below, the model cannot notice its positions any more


@dataclass(frozen=True)
class Verdict:
    """What fine-tuning did to a position embedding: what became of its structure, and what of its strength."""

    structure: str  # none to keep, lost, altered, retained
    strength: str  # lost, weakened, retained

    @property
    def word(self) -> str:
        """Both sides in one word."""
        if self.structure in ("none to keep", "lost"):
            return self.structure
        if self.strength == "lost":
            return "lost"
        return "retained" if self.structure == self.strength == "retained" else "altered"

    @property
    def decided_by(self) -> str:
        """The rule that decided the word."""
        if self.structure in ("none to keep", "lost"):
            return "structure"
        if self.strength == "lost" or (self.structure == "retained" and self.strength == "weakened"):
            return "strength"
        return "structure and strength" if self.structure == self.strength else "structure"


def verdict(before: Numbers, after: Numbers, change: Measured, strength: float = 1.0) -> Verdict:
    """By `positions.change.RULE`.

    `strength`: `typical_length` of the embedding over `content_length` of the same images, after divided by before.
    """
    pairs = ((before.locality, after.locality), (before.decoding, after.decoding))
    if all(start.value <= start.high for start, _ in pairs):
        structure = "none to keep"
    elif all(end.value <= max(end.high, HARDLY_ANY * start.value) for start, end in pairs):
        structure = "lost"
    elif change.value < LARGE_CHANGE and all(end.value >= CLEARLY_LESS * start.value for start, end in pairs):
        structure = "retained"
    else:
        structure = "altered"
    return Verdict(structure, "lost" if strength < DROWNED else "weakened" if strength < WEAK else "retained")
