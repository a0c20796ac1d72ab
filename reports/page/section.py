"""What a section of the page is made from, and what it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, eq=False)
class Section:
    """One part of the page: `template` is rendered with `context`, in which the section itself is `section`."""

    id: str  # of the element, and of the links to it
    title: str
    template: str  # in templates/
    context: Mapping[str, Any] = field(default_factory=dict)
    scripts: tuple[str, ...] = ()  # in assets/, loaded after report.js
    styles: tuple[str, ...] = ()  # in assets/, loaded after report.css
