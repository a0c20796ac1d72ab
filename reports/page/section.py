"""One part of the page before it is rendered, and the titles of all parts, also for W&B."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# In the order in which a person asks. By the section's id: that of its element on the page, and of links to it.
TITLES = {
    "leaderboard": "Leaderboard",
    "effects": "Hyperparameter effects",
    "curves": "Curves",
    "study": "Comparison with the study",
    "mistakes": "Mistakes",
    "gallery": "Attention gallery",
    "positions": "Position embeddings",
    "evidence": "What attention shows, tested",
    "use": "Use the best run",
    "provenance": "Provenance",
}


@dataclass(frozen=True, eq=False)
class Section:
    """`template` is rendered with `context`; in the template the section itself is `section`."""

    id: str  # a key of TITLES: of the element, and of links to it
    template: str  # in templates/
    context: Mapping[str, Any] = field(default_factory=dict)
    scripts: tuple[str, ...] = ()  # in assets/, loaded after report.js and charts.js
    styles: tuple[str, ...] = ()  # in assets/, loaded after those of the page

    @property
    def title(self) -> str:
        return TITLES[self.id]
