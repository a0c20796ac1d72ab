"""The elements, the text and the data of a report page, read without a browser."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

# Elements without an end tag.
EMPTY = {"meta", "link", "br", "input", "img", "hr", "source", "wbr"}

# Elements that do not end a word.
INLINE = {"b", "code", "small", "span", "i"}


class Page(HTMLParser):
    """Every element with its attributes, and the text by the id of the section that it is in."""

    def __init__(self, index: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.source = index.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str]]] = []
        self._parts: dict[str, list[str]] = {}
        self._open: list[tuple[str, str]] = []
        self.feed(self.source)
        self.close()
        assert not self._open, self._open
        self.text = {name: "".join(parts) for name, parts in self._parts.items()}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.elements.append((tag, attributes))
        if tag not in EMPTY:
            self._open.append((tag, attributes.get("id", "") if tag in ("section", "aside", "header") else ""))

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self._open.pop()
        assert opened == tag, f"<{opened}> is closed by </{tag}>"
        if tag not in INLINE:
            self.handle_data(" ")

    def handle_data(self, data: str) -> None:
        name = next((name for _, name in reversed(self._open) if name), "")
        self._parts.setdefault(name, []).append(data)

    def text_of(self, name: str) -> str:
        """Text of a section, with single spaces between words."""
        return " ".join(self.text.get(name, "").split())

    def all(self, tag: str, **expected: str) -> list[dict[str, str]]:
        return [
            attributes
            for name, attributes in self.elements
            if name == tag and all(attributes.get(key) == value for key, value in expected.items())
        ]


def page_data(site: Path) -> dict[str, Any]:
    """Everything that the page's scripts can load, by name."""
    values = {}
    for path in sorted((site / "data").rglob("*.js")):
        line = re.fullmatch(r"report\.deliver\((.*)\);\n", path.read_text(encoding="ascii"), re.DOTALL)
        assert line is not None, path
        name, value = json.loads(f"[{line[1]}]")
        values[name] = value
    return values


def charts(site: Path) -> dict[str, Any]:
    """The Plotly figures among them."""
    return {
        name: value
        for name, value in page_data(site).items()
        if isinstance(value, dict) and value.keys() == {"data", "layout"}
    }
