"""The result of one check, and results as text or JSON."""

from __future__ import annotations

import dataclasses
import json
import shutil
import textwrap
from collections.abc import Callable, Sequence
from typing import Literal

from harness.time_limit import call_with_timeout

GB = 1e9


@dataclasses.dataclass(frozen=True)
class Check:
    """The result of one check; `remedy` says what to do if the state is not ok."""

    name: str
    state: Literal["ok", "warn", "fail"]
    detail: str
    remedy: str = ""


def render(checks: Sequence[Check]) -> str:
    """Format the checks for a terminal: one line per check, its remedy below."""
    margin = 6 + max(len(check.name) for check in checks) + 2
    width = max(60, shutil.get_terminal_size().columns) - margin
    lines = []
    for check in checks:
        head = f"{check.state:<6}{check.name}".ljust(margin)
        for text in (check.detail, f"-> {check.remedy}" if check.remedy else ""):
            for line in textwrap.wrap(text, width, break_on_hyphens=False):
                lines.append(head + line)
                head = " " * margin
    counts = [sum(check.state == state for check in checks) for state in ("warn", "fail")]
    verdict = "Everything works." if not any(counts) else f"Checks failed: {counts[1]}. Warnings: {counts[0]}."
    return "\n".join([*lines, "", verdict])


def to_json(checks: Sequence[Check]) -> str:
    """Format the checks as a JSON list of objects with the fields of Check."""
    return json.dumps([dataclasses.asdict(check) for check in checks], indent=2, ensure_ascii=False)


def succeeds_within(seconds: float, attempt: Callable[[], bool]) -> bool:
    """Whether `attempt` returns True in time; an exception (no address, no connection) counts as a failure."""
    try:
        return call_with_timeout(seconds, attempt)
    except Exception:
        return False
