"""What docs/development/adding-a-source.md says a source is, done with the smallest one that does not read files."""

from __future__ import annotations

import functools
import zipfile
from pathlib import Path

import numpy as np
import pytest

from harness.config import RunConfig
from harness.data import source
from harness.data.dataset import open_dataset
from harness.data.decode import DecodeError
from harness.data.image_folder import load_image_folder
from harness.data.listing import Listing
from harness.model.vit import Preprocessing

PREPROCESSING = Preprocessing(32, 32, "bilinear", (0.5,) * 3, (0.5,) * 3)


def list_zip(path: Path) -> Listing:
    """Images of an archive named <split>/<class>/<image>."""
    listing = Listing(path.parent, read=functools.partial(read_zip, path))
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            split, label, _ = member.filename.split("/")
            listing.folders["val" if split == "valid" else split] = split
            labelled = listing.images.setdefault("val" if split == "valid" else split, {})
            labelled.setdefault(label, []).append(member.filename)
            listing.stamps[member.filename] = (member.file_size, member.CRC, member.header_offset)
    return listing


def read_zip(path: Path, name: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(name)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise DecodeError(f"cannot be read from the archive: {error}", unread=True) from error


def test_a_source_needs_a_function_that_lists_and_one_that_reads(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(source.SOURCES, ".zip", list_zip)
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for path in sorted(data_folder.rglob("*.png")):
            archive.write(path, path.relative_to(data_folder).as_posix())
    datasets = []
    for data in (data_folder, tmp_path / "images.zip"):
        config = RunConfig(data=str(data), cache_dir=str(tmp_path / "caches"))
        datasets.append(open_dataset(load_image_folder(config), PREPROCESSING, config))
    folder, archived = datasets
    assert archived.fingerprint == folder.fingerprint
    assert archived.classes == folder.classes and archived.test.files == folder.test.files
    for place in range(39):
        np.testing.assert_array_equal(archived.pixels.image(place), folder.pixels.image(place))
    assert archived.pixels.digests == folder.pixels.digests


def test_an_image_that_a_source_cannot_read_is_named(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> bytes:
        if name == "train/class 0/000.png":
            raise DecodeError("the server does not answer", unread=True)
        return (data_folder / name).read_bytes()

    def list_refusing(path: Path) -> Listing:
        listing = source.walk(data_folder)
        listing.read = refuse
        return listing

    monkeypatch.setitem(source.SOURCES, ".server", list_refusing)
    config = RunConfig(data=str(tmp_path / "any.server"), cache_dir=str(tmp_path / "caches"), bad_images="skip")
    data = open_dataset(load_image_folder(config), PREPROCESSING, config)
    assert data.skipped == {"train/class 0/000.png": "the server does not answer"}
    assert len(data.train) == 20
