"""One part of the page, before it is rendered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reports.page.titles import TITLES


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
