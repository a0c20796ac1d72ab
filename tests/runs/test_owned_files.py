"""Files of the user are neither replaced nor deleted, and links are not followed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.runs.owned_files import OwnedFiles

LIST = ".files.json"


def write(owned: OwnedFiles, *names: str) -> None:
    owned.add(names)
    for name in names:
        path = owned.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("ours")


def test_stale_files_are_deleted_and_others_survive(tmp_path: Path) -> None:
    write(OwnedFiles(tmp_path, LIST), "a.npz", "pages/1.jpg", "pages/2.jpg", "pages/deeper/3.jpg")
    (tmp_path / "pages" / "holiday.jpg").write_text("theirs")
    owned = OwnedFiles(tmp_path, LIST)
    assert owned.owns("pages/2.jpg") and not owned.owns("pages/holiday.jpg")
    owned.remove_stale(["pages/1.jpg"], "pages")
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {LIST, "a.npz", "pages/1.jpg", "pages/deeper/3.jpg", "pages/holiday.jpg"}
    # A file of the user that takes a deleted one's name is not ours.
    (tmp_path / "pages" / "2.jpg").write_text("theirs")
    with pytest.raises(HarnessError, match=r"did not write: pages/2\.jpg"):
        OwnedFiles(tmp_path, LIST).add(["pages/2.jpg"])
    OwnedFiles(tmp_path, LIST).remove(["pages/2.jpg"])
    assert (tmp_path / "pages" / "2.jpg").read_text() == "theirs"


def test_files_are_listed_before_they_are_written(tmp_path: Path) -> None:
    OwnedFiles(tmp_path, LIST).add(["a.npz"])
    (tmp_path / "a.npz").write_text("cut off")
    OwnedFiles(tmp_path, LIST).refuse_foreign(["a.npz"])


def test_files_of_the_user_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.jpg").write_text("theirs")
    with pytest.raises(
        HarnessError, match=r"did not write: 0\.jpg, 1\.jpg, 2\.jpg, and 2 more\. Choose another folder"
    ):
        OwnedFiles(tmp_path, LIST).add([f"{number}.jpg" for number in range(9)])
    assert not (tmp_path / LIST).exists()


def test_adopted_files_are_listed_with_the_next_ones(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_text("of an earlier version")
    owned = OwnedFiles(tmp_path, LIST)
    owned.adopt(["1.jpg"])
    owned.add(["2.jpg"])
    assert OwnedFiles(tmp_path, LIST).owns("1.jpg")


@pytest.mark.parametrize("name", ["../1.jpg", "pages/../../1.jpg", "/1.jpg", "", "..\\1.jpg"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    owned = OwnedFiles(tmp_path / "inside", LIST)
    with pytest.raises(HarnessError, match="is not the name of a file inside the folder"):
        owned.add([name])
    write(owned, "2.jpg")
    path = tmp_path / "inside" / LIST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"files": [name]}))
    with pytest.raises(HarnessError, match="is damaged"):
        OwnedFiles(tmp_path / "inside", LIST)


def test_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "1.jpg").write_text("theirs")
    inside = tmp_path / "inside"
    write(OwnedFiles(inside, LIST), "pages/1.jpg", "2.jpg")
    (inside / "pages" / "1.jpg").unlink()
    (inside / "pages").rmdir()
    (inside / "pages").symlink_to(outside)
    owned = OwnedFiles(inside, LIST)
    for act in (owned.add, owned.remove, owned.refuse_foreign, lambda _: owned.remove_stale([], "pages")):
        with pytest.raises(HarnessError, match="pages is a symbolic link"):
            act(["pages/1.jpg"])
    (inside / "2.jpg").unlink()
    (inside / "2.jpg").symlink_to(outside / "missing.jpg")
    with pytest.raises(HarnessError, match=r"2\.jpg is a symbolic link"):
        owned.path("2.jpg")
    assert [path.read_text() for path in outside.iterdir()] == ["theirs"]


@pytest.mark.parametrize("content", ["", "[]", '{"files": []}', '{"files": ["a"], "about": "my files"}', "{\xff"])
def test_a_list_that_is_not_the_programs_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / LIST).write_text(content, encoding="latin-1")
    with pytest.raises(HarnessError, match=r"\.files\.json is damaged"):
        OwnedFiles(tmp_path, LIST)
    assert (tmp_path / LIST).read_text(encoding="latin-1") == content


def test_a_list_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / LIST).symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(HarnessError, match="is a symbolic link"):
        OwnedFiles(tmp_path, LIST)
