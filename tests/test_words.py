"""The words of the project: phrases that need a second reading stand nowhere that people read."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest

from tests import ROOT

# Phrase -> what to write instead.
FORBIDDEN = {
    r"\bgo(es|ing)? on\b": "resume, continue, keep running",
    r"\banew\b": "again, from scratch",
    r"\bof (its|their) own\b": "own, separate",
    r"\bhas not got\b": "does not have",
    r"\b(was|is|has been|were) told\b": "was asked, received, is set to",
    r"\bwithout a word\b": "silently",
    r"\btells? (of|that)\b": "says, shows",
    r"(?<!there )\bis no (?!longer\b|more than\b|less than\b)\w+": "is not a",
    r"\bphotos?\b": "image",
    r"\bpictures?\b": "image",
    r"\bnursery\b": "forkserver",
    r"\blast words\b": "on_hard_exit",
    r"\btakes nothing else down\b": "does not affect the others",
    r"\bhopeless\b": "too many early failures",
    r"\bcomes of it\b": "results",
}

# Names on disk and in W&B, which earlier versions have written, and identifiers.
CONTRACT = re.compile(r"attention/pictures|[\w./-]*[_/.\"'`-]pictures?\b|\bpictures?[_/.\"'`=(-][\w./-]*")


def prose(path: Path) -> list[tuple[int, str]]:
    """Lines of comments and of strings with a space in them; of other files, every line."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return list(enumerate(text.splitlines(), 1))
    found = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and " " in token.string):
            lines = re.sub(r"\{[^{}]*\}", "", token.string).splitlines()
            found += [(token.start[0] + number, line) for number, line in enumerate(lines)]
    return found


def readable_files() -> list[Path]:
    patterns = (
        *("harness/**/*.py", "reports/**/*.py", "reports/**/*.j2", "sweeps/*.yaml", "docs/**/*.md", "*.md"),
        *("accelerate_config.yaml", "Makefile"),
    )
    return sorted({path for pattern in patterns for path in ROOT.glob(pattern)})


@pytest.mark.parametrize("path", readable_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_phrase_needs_a_second_reading(path: Path) -> None:
    problems = [
        f"{path.name}:{number}: {match[0]!r} -> {instead}"
        for number, line in prose(path)
        for pattern, instead in FORBIDDEN.items()
        if (match := re.search(pattern, CONTRACT.sub("", line), re.IGNORECASE))
    ]
    assert not problems, "\n".join(problems)
