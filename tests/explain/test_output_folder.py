"""What `harness explain` may replace and delete: its own files, and no file of the user."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.errors import HarnessError
from harness.explain import output, standalone
from harness.explain.archive import write_archive
from harness.explain.drawing import contact_sheets as contact_sheets_module
from harness.explain.drawing import sprites
from harness.explain.drawing.contact_sheets import contact_sheets, sheet_names
from harness.explain.drawing.sprites import draw_sprites, sprite_names
from harness.explain.output_folder import LIST, OutputFolder
from harness.explain.test_set import ExplainResult
from harness.runs.attention_files import Archive, read_archive
from harness.runs.rules import SPRITES_FILE
from tests.helpers.explained import made_up_archive, plain_images


def write(seen: Archive, place: OutputFolder) -> None:
    pixels = plain_images(seen)
    seen.settings.update(root=str(place.path / "no masks here"), seconds=1.0)
    result = ExplainResult(seen, lambda index: pixels[index], None, np.zeros(0), np.zeros(0))
    output.write_and_log(result, place, None, lambda _: None)


def fill(folder: Path, *names: str) -> dict[str, bytes]:
    """Files of a user."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"theirs: {name}".encode())
    return contents(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "name",
    [
        *("attention.npz", "positions.npz", "object.json", "pictures/holiday.jpg", "sheets/budget.jpg"),
        *("sprites/hero.jpg", "sprites/sprites.json", "figures/attention_object.png"),
    ],
)
@pytest.mark.parametrize("redraw", [False, True])
def test_a_folder_with_files_of_the_user_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, redraw: bool
) -> None:
    for work in ("explain_images_with_run", "redraw"):
        monkeypatch.setattr(standalone, work, lambda *_: pytest.fail("work was done"))
    monkeypatch.chdir(tmp_path)
    before = fill(tmp_path, name, "run/config.json", "image.png")
    words = ["run", "--redraw"] if redraw else ["run", "image.png"]
    result = CliRunner().invoke(main.main, ["explain", *words, "--output", "."])
    assert result.exit_code == 1
    assert result.output == (
        f"Error: . contains files that this program did not write: {name}. "
        "Choose another folder, or move its files away.\n"
    )
    assert contents(tmp_path) == before


def test_files_that_the_user_adds_later_are_kept(tmp_path: Path) -> None:
    place = OutputFolder.named(tmp_path)
    write(made_up_archive(n=7), place)
    before = fill(tmp_path, "pictures/holiday.jpg", "sheets/budget.jpg", "sprites/hero.jpg", "notes.txt")
    write(made_up_archive(n=3), place)
    after = contents(tmp_path)
    theirs = ["pictures/holiday.jpg", "sheets/budget.jpg", "sprites/hero.jpg", "notes.txt"]
    assert [after[name] for name in theirs] == [before[name] for name in theirs]
    assert {name for name in before if name.startswith("pictures/0")} - after.keys()  # those of other images went
    listed = json.loads((tmp_path / LIST).read_text())["files"]
    assert sorted([*listed, *theirs, LIST]) == sorted(after)
    fill(tmp_path, "pictures/00003-of-the-user.jpg")
    with pytest.raises(HarnessError, match=r"did not write: pictures/00003-of-the-user\.jpg"):
        place.open()


@pytest.fixture
def one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sheets of one row: few images fill several."""
    for module in (contact_sheets_module, sprites):
        monkeypatch.setattr(module, "ROWS", 1)


@pytest.mark.usefixtures("one_row")
def test_files_of_other_images_are_removed(tmp_path: Path) -> None:
    place = OutputFolder.named(tmp_path / "one")
    write(made_up_archive(n=14), place)
    write(made_up_archive(n=5), place)
    write(made_up_archive(n=5), OutputFolder.named(tmp_path / "other"))
    assert contents(tmp_path / "one").keys() == contents(tmp_path / "other").keys()


def test_in_a_run_folder_without_a_list_known_names_are_the_programs(tmp_path: Path) -> None:
    place = OutputFolder.of_run(tmp_path)
    write(made_up_archive(n=7), place)
    (tmp_path / "attention" / LIST).unlink()
    fill(tmp_path, "attention/pictures/holiday.jpg")
    with pytest.raises(HarnessError, match=r"did not write: attention\.npz"):  # not a run folder
        place.open()
    (tmp_path / "config.json").write_text("{}")
    write(made_up_archive(n=3), place)
    names = sorted(path.name for path in (tmp_path / "attention" / "pictures").iterdir())
    assert [name[:5] for name in names] == ["00000", "00001", "00002", "holid"]
    with pytest.raises(HarnessError, match=r"did not write: pictures/holiday\.jpg"):  # not with --output either
        (tmp_path / "attention" / LIST).unlink()
        (tmp_path / "attention" / "attention.npz").unlink()
        for path in (tmp_path / "attention").glob("*/0*.jpg"):
            path.unlink()
        OutputFolder.named(tmp_path / "attention").open()


@pytest.mark.parametrize(
    "name", ["attention", "attention/pictures", "attention/sheets", "attention/sprites", "figures"]
)
def test_a_folder_that_is_a_link_is_refused(tmp_path: Path, name: str) -> None:
    run, outside = tmp_path / "run", tmp_path / "outside"
    write(made_up_archive(n=3), OutputFolder.of_run(run))
    (run / "config.json").write_text("{}")
    (run / name).rename(outside)
    before = fill(outside, "holiday.jpg", "00009-of-the-user.jpg")
    (run / name).symlink_to(outside)
    result = CliRunner().invoke(main.main, ["explain", str(run), "--redraw"])
    assert result.exit_code == 1
    assert f"{run / name} is a symbolic link" in result.output
    assert contents(outside) == before


@pytest.mark.parametrize(
    "name", ["attention/attention.npz", "attention/sprites/000.jpg", f"attention/{LIST}", "figures/attention_heads.png"]
)
def test_a_file_that_is_a_link_is_refused(tmp_path: Path, name: str) -> None:
    run, outside = tmp_path / "run", tmp_path / "outside"
    write(made_up_archive(n=3), OutputFolder.of_run(run))
    (run / "config.json").write_text("{}")
    (run / name).rename(outside)
    before = outside.read_bytes()
    (run / name).symlink_to(outside)
    with pytest.raises(HarnessError, match=r"is a symbolic link|is not a regular file"):
        standalone.redraw(OutputFolder.of_run(run), None, print)
    assert outside.read_bytes() == before


def test_a_temporary_name_that_is_a_link_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getpid", lambda: 7)
    (tmp_path / "outside").write_text("theirs")
    (tmp_path / "sprites").mkdir()
    (tmp_path / "sprites" / ".000.jpg.7").symlink_to(tmp_path / "outside")
    draw_sprites(made_up_archive(n=3), lambda _: np.zeros((8, 8, 3), np.uint8), tmp_path / "sprites")
    assert (tmp_path / "outside").read_text() == "theirs"


def test_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("theirs")
    with pytest.raises(HarnessError, match="file is not a folder"):
        OutputFolder.named(tmp_path / "file").open()
    for folder, reason in {tmp_path / "file" / "deeper": "Not a directory", Path("/proc/x"): "No such file"}.items():
        with pytest.raises(HarnessError, match=f"{folder} cannot be written .{reason}"):
            OutputFolder.named(folder).open()
    OutputFolder.named(tmp_path / "new" / "deeper").open()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]  # nothing is written


@pytest.mark.parametrize(
    "change", [lambda seen: seen.labels, lambda seen: np.full(len(seen), -1, np.int32)], ids=["known", "unknown"]
)
@pytest.mark.parametrize("n", [3, 21])
@pytest.mark.usefixtures("one_row")
def test_names_are_known_before_drawing(tmp_path: Path, n: int, change: Callable[[Archive], np.ndarray]) -> None:
    seen = made_up_archive(n=n)
    seen = made_up_archive(n=n, labels=change(seen))
    pixels = plain_images(seen)
    assert sheet_names(seen) == list(contact_sheets(seen, lambda index: pixels[index], tmp_path))
    drawn = draw_sprites(seen, lambda index: pixels[index], tmp_path / "sprites")
    assert sprite_names(seen) == [path.name for path in drawn]
    assert sorted([*sprite_names(seen), SPRITES_FILE]) == sorted(p.name for p in (tmp_path / "sprites").iterdir())


@pytest.mark.usefixtures("one_row")
def test_all_written_names_are_known(tmp_path: Path) -> None:
    """Otherwise files of earlier versions and of the user could not be told apart."""
    from harness.explain.output_folder import NAMES

    seen = made_up_archive(n=14)
    place = OutputFolder.named(tmp_path)
    write(seen, place)
    unknown = [name for name in contents(tmp_path) if name != LIST and not NAMES.fullmatch(name)]
    assert unknown == []
    assert len(read_archive(tmp_path / "attention.npz", Archive)) == 14


def test_names_of_classes_are_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        standalone, "explain_images_with_run", lambda *_: [(Path("a\x1b[2J.png"), [("cat\n\x1b[31mdog", 0.5)])]
    )
    result = CliRunner().invoke(main.main, ["explain", str(tmp_path), "x.png", "--output", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert result.output == "a\\x1b[2J.png: cat\\n\\x1b[31mdog 50.0%\n"


@pytest.mark.parametrize("name", ["/etc/secret.png", "../secret.png", "a/../../secret.png"])
def test_images_outside_their_folder_are_not_drawn(tmp_path: Path, name: str) -> None:
    """attention.npz may come from anywhere."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("{}")
    seen = made_up_archive(n=3)
    write_archive(run / "attention" / "attention.npz", dataclasses.replace(seen, files=np.array([name, "b", "c"])))
    result = CliRunner().invoke(main.main, ["explain", str(run), "--redraw"])
    assert result.exit_code == 1
    assert f"attention.npz is damaged (it names {name}, which is outside the folder of its images)" in result.output
    assert not (run / "attention" / "pictures").exists()
