"""A CSV file that lists images: a column `path`, relative to the file's folder, `label`, and optionally `split`."""

from __future__ import annotations

import csv
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from harness.data.digests import stamp_of
from harness.data.listing import Listing
from harness.data.split_names import SPELLINGS
from harness.errors import summarise
from harness.runs.rules import printable

COLUMNS = "path, label and, if the splits are fixed, split"


def list_csv(path: Path) -> Listing:
    """The images that a CSV file lists, under its folder; without a column `split`, all are training images."""
    listing = Listing(path.parent, is_list=True)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a named pipe would wait for a writer
            listing.problems.append(f"{printable(path)} is a named pipe or device, not a file.")
            return listing
        rows = list(_rows(path))
    except OSError as error:
        listing.problems.append(f"{printable(path)} cannot be read ({error.strerror}).")
        return listing
    except (csv.Error, ValueError) as error:
        listing.problems.append(
            f"{printable(path)} is not a list of images: {printable(error)}. Give a CSV file in UTF-8 whose first line "
            f"names the columns {COLUMNS}."
        )
        return listing
    _fill(listing, path, rows)
    return listing


def _rows(path: Path) -> Iterator[tuple[int, str, str, str]]:
    """Line, path, label and split of each row; ValueError if a column is missing."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        if missing := [name for name in ("path", "label") if name not in (reader.fieldnames or ())]:
            raise ValueError(f"it has no column {' and no column '.join(missing)}")
        for row in reader:
            yield reader.line_num, row["path"] or "", row["label"] or "", row.get("split", "train") or ""


def _fill(listing: Listing, path: Path, rows: list[tuple[int, str, str, str]]) -> None:
    """Put rows into a listing, and the problems of all rows."""
    splits = {spelling: split for split, spellings in SPELLINGS.items() for spelling in spellings}
    problems = []
    for line, file, label, spelling in rows:
        if problem := _problem(listing, file, label, spelling, splits):
            problems.append(f"line {line}: {problem}")
            continue
        split = splits[spelling]
        listing.folders[split] = SPELLINGS[split][0]
        listing.images.setdefault(split, {}).setdefault(label, []).append(file)
    if problems:
        listing.problems.append(
            f"{printable(path)} has rows that cannot be used ({len(problems)}). Correct or remove them:\n  "
            + summarise(problems, 10, "\n  ")
        )
    if "train" not in listing.images:
        listing.problems.append(f"{printable(path)} lists no training images.")


def _problem(listing: Listing, file: str, label: str, spelling: str, splits: dict[str, str]) -> str:
    """What is wrong with a row, "" if nothing; the file's stamp is noted."""
    if not label.strip() or label != label.strip() or "/" in label or label.startswith(".") or not label.isprintable():
        return f"label {label!r} must be a name without / and without spaces at its ends"
    if spelling not in splits:
        return f"split {spelling!r} is not one of {', '.join(splits)}"
    parts = PurePosixPath(file).parts
    if not file or PurePosixPath(file).is_absolute() or ".." in parts or file != "/".join(parts):
        return f"path {file!r} must lead to a file below the folder of the list, as in folder/name.jpg"
    if file in listing.stamps:
        return f"{file} is listed twice"
    try:
        status = os.stat(listing.root / file)  # noqa: PTH116 (a million of them)
    except (OSError, ValueError) as error:
        return f"{file}: {getattr(error, 'strerror', None) or error}"
    if not stat.S_ISREG(status.st_mode):
        return f"{file} is not a file"
    listing.stamps[file] = stamp_of(status)
    return ""
