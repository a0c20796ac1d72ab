from __future__ import annotations

import errno
import os
import shutil
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.data.download import fetch_sports100
from harness.errors import HarnessError


@pytest.fixture
def kaggle(tmp_path: Path) -> Path:
    """What kagglehub would have downloaded: the splits and things nobody asked for."""
    folder = tmp_path / "kagglehub" / "versions" / "9"
    for split in ("train", "valid", "test"):
        (folder / split / "air hockey").mkdir(parents=True)
        (folder / split / "air hockey" / "1.jpg").write_text(split)
    (folder / "sports.csv").write_text("x")
    (folder / "old model.h5").write_text("x")
    return folder


def offer(monkeypatch: pytest.MonkeyPatch, download: Callable[[str], str]) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", types.SimpleNamespace(dataset_download=download))


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def fails(destination: Path) -> str:
    with pytest.raises(HarnessError) as caught:
        fetch_sports100(destination)
    return str(caught.value)


@pytest.mark.parametrize("linkable", [True, False])
def test_only_the_splits_are_downloaded(
    kaggle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linkable: bool
) -> None:
    asked = []
    offer(monkeypatch, lambda handle: asked.append(handle) or str(kaggle))

    def other_file_system(source: str, target: str) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    if not linkable:
        monkeypatch.setattr(os, "link", other_file_system)
    destination = tmp_path / "data" / "sports100"
    assert fetch_sports100(destination) == destination
    assert asked == ["gpiosenka/sports-classification"]
    assert files(destination) == [f"{split}/air hockey/1.jpg" for split in ("test", "train", "valid")]
    assert (destination / "valid/air hockey/1.jpg").read_text() == "valid"
    assert os.listdir(tmp_path / "data") == ["sports100"]


def test_a_downloaded_data_set_is_not_downloaded_again(
    kaggle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    assert fetch_sports100(kaggle) == kaggle
    assert capsys.readouterr().err == f"{kaggle} is already there: nothing to download.\n"


def test_an_empty_folder_is_filled_and_another_one_is_not(
    kaggle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, lambda handle: str(kaggle))
    (tmp_path / "empty").mkdir()
    assert len(files(fetch_sports100(tmp_path / "empty"))) == 3
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    assert fails(tmp_path / "full") == (
        f"{tmp_path}/full exists, but holds no train/, valid/, test/. Name another folder, or remove this one."
    )


BY_HAND = (
    "By hand: download https://www.kaggle.com/datasets/gpiosenka/sports-classification in a browser and unzip it into "
    "{0}, so that {0}/train, {0}/valid and {0}/test exist."
)


def test_a_missing_kagglehub_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    assert fails(tmp_path / "new") == (
        "Downloading from Kaggle needs the package kagglehub: pip install 'vit-harness[fetch]'. "
        + BY_HAND.format(tmp_path / "new")
    )


def test_a_missing_network_or_login_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: str) -> str:
        raise ConnectionError("Failed to resolve 'api.kaggle.com'\nlong story")

    offer(monkeypatch, refuse)
    assert fails(tmp_path / "new") == (
        "Kaggle could not be reached or refused (Failed to resolve 'api.kaggle.com'). "
        + BY_HAND.format(tmp_path / "new")
    )
    assert os.listdir(tmp_path) == []


def test_an_incomplete_download_is_refused(kaggle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, lambda handle: str(kaggle))
    shutil.rmtree(kaggle / "test")
    sentences = f"The download from Kaggle in {kaggle} has no test/. Remove that folder and repeat the command."
    assert sentences in fails(tmp_path / "new")


def test_a_copy_that_fails_half_way_leaves_nothing(
    kaggle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, lambda handle: str(kaggle))
    link = os.link

    def full(source: Path, target: Path) -> None:
        if "test" in Path(target).parts:
            raise OSError(errno.ENOSPC, "No space left on device")
        link(source, target)

    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr(shutil, "copyfile", full)
    text = fails(tmp_path / "place" / "new")
    assert text.startswith(f"The images could not be written to {tmp_path}/place/new (No space left on device).")
    assert os.listdir(tmp_path / "place") == []
