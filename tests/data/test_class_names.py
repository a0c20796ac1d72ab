from __future__ import annotations

import pytest

from harness.data.class_names import difference, lookalike


@pytest.mark.parametrize(
    ("name", "other"), [("caf\u00e9", "cafe\u0301"), ("a b", "a\u00a0b"), ("cat ", "cat"), ("cat\u200b", "cat")]
)
def test_names_that_look_the_same(name: str, other: str) -> None:
    assert lookalike(name, ["dog", name, other]) == other
    assert lookalike(other, [name]) == name


def test_names_that_do_not_look_the_same() -> None:
    for name in ("cat", "Cat", "cafe", "caf\u00e9", "1", "10"):
        assert lookalike(name, ["cat", "Cat", "cafe", "caf\u00e9", "1", "10"]) is None


def test_the_characters_in_which_names_differ() -> None:
    assert difference("caf\u00e9s", "cafe\u0301s") == ("U+00E9", "U+0065 U+0301")
    assert difference("cat", "cat ") == ("nothing", "U+0020")
