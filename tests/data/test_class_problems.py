from __future__ import annotations

import pytest

from harness.data import class_problems
from harness.data.class_problems import difference, lookalike, lookalikes


@pytest.mark.parametrize(
    ("name", "other"), [("caf\u00e9", "cafe\u0301"), ("a b", "a\u00a0b"), ("cat ", "cat"), ("cat\u200b", "cat")]
)
def test_names_that_look_the_same_are_lookalikes(name: str, other: str) -> None:
    assert lookalike(name, ["dog", name, other]) == other
    assert lookalike(other, [name]) == name


def test_names_that_do_not_look_the_same_are_not_lookalikes() -> None:
    for name in ("cat", "Cat", "cafe", "caf\u00e9", "1", "10"):
        assert lookalike(name, ["cat", "Cat", "cafe", "caf\u00e9", "1", "10"]) is None


def test_pairs_that_look_the_same_are_found_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    normalise = class_problems._as_seen
    monkeypatch.setattr(class_problems, "_as_seen", lambda name: compared.append(name) or normalise(name))
    names = [f"class {number:04}" for number in range(1000)]
    assert lookalikes([*names, "class\u00a00007", "class  0007"]) == [
        ("class  0007", "class 0007"),
        ("class  0007", "class\u00a00007"),
    ]
    assert len(compared) == 1002  # not one comparison for every pair


def test_the_characters_in_which_names_differ() -> None:
    assert difference("caf\u00e9s", "cafe\u0301s") == ("U+00E9", "U+0065 U+0301")
    assert difference("cat", "cat ") == ("nothing", "U+0020")
