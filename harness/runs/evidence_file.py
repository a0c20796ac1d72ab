"""`evidence.json` of a run folder: claims about its model and its attention maps, with the numbers that decide them.

Files may be damaged or come from anywhere. Standard library and numpy only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.runs.reading import UnreadableError, kind_of, read_object
from harness.runs.resampling import Interval
from harness.runs.rules import EVIDENCE_FILE, finite_number

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told"
VERDICTS = (HOLDS, FAILS, OPEN)

# Names in `results` of evidence.json: an order that does not look at the image, and two maps of attention.
CENTRE_PRIOR, LAST_LAYER, MEAN_OF_LAYERS = "centre", "last layer", "mean of layers"

VERIFY_AGAIN = "Run `harness verify` to make it again."
_TYPES = {"key": str, "statement": str, "number": str, "measured": dict, "n": int, "verdict": str, "rule": str}


@dataclass(frozen=True)
class Claim:
    """A statement about a model, the number that decides it, and the verdict."""

    key: str
    statement: str
    number: str  # what `measured` is, with its unit
    measured: Interval
    n: int  # images
    verdict: str  # one of VERDICTS
    rule: str

    @property
    def numbers(self) -> str:
        """The interval and the number of images, as text."""
        if not self.n:
            return "not measured"
        value, low, high = (round(bound, 3) + 0.0 for bound in dataclasses.astuple(self.measured))  # without "-0.000"
        return f"{value:.3f} ({low:.3f} to {high:.3f}), n = {self.n}"


def read_claims(run_folder: Path) -> list[Claim]:
    """The claims of a run; none if `harness verify` has not run. Raises UnreadableError."""
    path = run_folder / EVIDENCE_FILE
    if not path.is_file():
        return []
    entries = read_object(path, VERIFY_AGAIN).get("claims")
    if not isinstance(entries, list):
        raise _damaged(path, f"claims is {kind_of(entries)} instead of a list")
    return [claim_of(path, entry) for entry in entries]


def read_map_scores(run_folder: Path) -> dict[str, str]:
    """How faithful each map of a run was measured to be, in words, by the name of the map in `results`.

    Empty if `harness verify` has not measured it. Raises UnreadableError.
    """
    path = run_folder / EVIDENCE_FILE
    if not path.is_file():
        return {}
    results = _entry(read_object(path, VERIFY_AGAIN), "results")
    faithfulness = _entry(results, "faithfulness")
    maps, n = _entry(faithfulness, "maps"), faithfulness.get("n")
    gains = {}
    for name, measured in maps.items():
        gain = _entry(measured, "gain") if isinstance(measured, Mapping) else {}
        gains[str(name)] = _interval(path, gain, f"the gain of the map {name!r} is not three numbers")
    if CENTRE_PRIOR not in gains or type(n) is not int:
        return {}
    centre = gains.pop(CENTRE_PRIOR).value
    return {
        name: f"faithfulness {gain.value:.3f} ({gain.low:.3f} to {gain.high:.3f}) against {centre:.3f} "
        f"for a centre prior, n = {n}"
        for name, gain in gains.items()
    }


def _entry(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object inside an object; an empty one where it is missing or of another type."""
    value = values.get(name)
    return value if isinstance(value, Mapping) else {}


def claim_of(path: Path, entry: Any) -> Claim:
    """A claim as it was read from a file. Raises UnreadableError."""
    if not isinstance(entry, Mapping):
        raise _damaged(path, f"a claim is {kind_of(entry)} instead of an object")
    for name, kind in _TYPES.items():
        if type(entry.get(name)) is not kind:
            raise _damaged(path, f"{name} of a claim is {kind_of(entry.get(name))} instead of {kind_of(kind())}")
    if entry["verdict"] not in VERDICTS:
        raise _damaged(path, f"a verdict is {entry['verdict']!r} instead of one of {', '.join(VERDICTS)}")
    measured = _interval(path, entry["measured"], "value, low and high of a claim are not three numbers")
    return Claim(measured=measured, **{name: entry[name] for name in _TYPES if name != "measured"})


def _interval(path: Path, values: Mapping[str, Any], problem: str) -> Interval:
    value, low, high = (finite_number(values.get(end)) for end in ("value", "low", "high"))
    if value is None or low is None or high is None:
        raise _damaged(path, problem)
    return Interval(value, low, high)


def _damaged(path: Path, what: str) -> UnreadableError:
    return UnreadableError(path, f"is damaged ({what})", VERIFY_AGAIN)
