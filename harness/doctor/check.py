"""A finding of the doctor, findings as text, and patience with questions that may never be answered."""

from __future__ import annotations

import dataclasses
import json
import shutil
import textwrap
import threading
from collections.abc import Callable, Sequence
from typing import Literal

GB = 1e9


@dataclasses.dataclass(frozen=True)
class Check:
    """One finding; `remedy` says what to do where the state is not ok."""

    name: str
    state: Literal["ok", "warn", "fail"]
    detail: str
    remedy: str = ""


def render(checks: Sequence[Check]) -> str:
    """Aligned text for a terminal: one line per check, remedies below."""
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
    verdict = "Everything works." if not any(counts) else f"{counts[1]} failed, {counts[0]} to look at."
    return "\n".join([*lines, "", verdict])


def to_json(checks: Sequence[Check]) -> str:
    return json.dumps([dataclasses.asdict(check) for check in checks], indent=2, ensure_ascii=False)


def within(seconds: float, question: Callable[[], bool]) -> bool:
    """The answer, or no if it does not come in time: looking up names has no timeout of its own."""
    answers: list[bool] = []

    def ask() -> None:
        try:
            answers.append(question())
        except Exception:  # no address, no connection, no certificate: no answer
            answers.append(False)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return answers == [True]
