"""Walk a data folder: list its images per split and class, count ignored entries, report problems."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from harness.data import nested
from harness.data.digests import stamp_of
from harness.data.listing import Listing
from harness.data.split_names import SPELLINGS, is_by_product
from harness.errors import summarise
from harness.runs.rules import printable

EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")

MASKS = "masks"  # a folder beside the splits that explain reads; it is not a split, and nothing is left out

LAYOUT = "train/<class>/<image>, and the same under valid/ and test/"


def walk(root: Path) -> Listing:
    """List every image of every split, and the problems that prevent reading them."""
    listing = Listing(root)
    if not root.is_dir():
        what = " is not a folder" if root.exists() else ": no such folder"
        listing.problems.append(f"{printable(root)}{what}. --data takes a folder with {LAYOUT}.")
    else:
        _walk_root(listing)
    listing.problems += listing.beyond()
    return listing


def class_images(root: Path, folder: str) -> list[str]:
    """The images below a folder of `root`, without remarks on it."""
    return _images(Listing(root), folder)


def _walk_root(listing: Listing) -> None:
    entries = _entries(listing, "")
    if entries is None:
        return
    splits = sum(SPELLINGS.values(), ())
    names = [entry.name for entry in entries if not nested.leads_nowhere(entry) and entry.is_dir()]
    for name in (entry.name for entry in entries if entry.name in splits and entry.name not in names):
        listing.problems.append(f"{name} has the name of a split, but is not a folder. Restore, rename or remove it.")
    for split, spellings in SPELLINGS.items():
        present = [name for name in spellings if name in names]
        if len(present) > 1:
            both = " and ".join(f"{name}/" for name in present)
            listing.problems.append(f"{printable(listing.root)} has {both}: keep one of them as the validation split.")
        if present:
            _walk_split(listing, split, present[0])
    listing.others = [name for name in names if name not in splits]
    for entry in entries:
        if entry.name not in (*names, *splits) and entry.name.lower().endswith(EXTENSIONS):
            listing.leave_out("image(s) beside train, valid and test", entry.name)
    if listing.crossing:
        listing.problems.append(
            f"Links lead to images of other classes or splits ({len(listing.crossing)}): remove them.\n  "
            + summarise(listing.crossing, 5, "\n  ")
        )


def _walk_split(listing: Listing, split: str, folder: str) -> None:
    classes: dict[str, list[str]] = {}
    loose = 0
    listing.folders[split] = folder
    entries = _entries(listing, folder)
    for entry in entries or []:
        if reason := nested.leads_nowhere(entry):
            listing.refuse("links that cannot be followed", f"{folder}/{printable(entry.name)}: {reason}")
        elif entry.is_dir():
            if entry.is_symlink():
                _refuse_class_link(listing, f"{folder}/{entry.name}")
            classes[entry.name] = _images(listing, f"{folder}/{entry.name}")
        elif entry.name.lower().endswith(EXTENSIONS):
            loose += 1
        else:
            listing.leave_out_file(f"{folder}/{entry.name}")
    listing.images[split] = classes
    if loose and split != "train" and not classes:
        listing.unlabelled[split] = loose
    elif loose:
        listing.problems.append(
            f"{folder}/ has images outside of any class ({loose}): put them in a folder per class, {folder}/<class>/."
        )
    if entries is not None and not any(classes.values()) and not loose:
        remedy = "" if split == "train" else ", or remove the folder to have a share of train set aside"
        listing.problems.append(f"{folder}/ holds no images. Expected {folder}/<class>/<image>{remedy}.")
    _refuse_twins(listing, [file for files in classes.values() for file in files])


def _refuse_hidden_class(listing: Listing, folder: str) -> None:
    if count := len(class_images(listing.root, folder)):
        listing.refuse(
            "class folders whose names begin with a dot",
            f"{printable(folder)}/ holds images ({count}), but a class folder whose name begins with a dot is not "
            "read: rename it, or move it out of the data folder.",
        )


def _refuse_twins(listing: Listing, files: list[str]) -> None:
    """Images made from others would be counted as their class, and could fall into another split than those."""
    counts = nested.below(files)
    pairs = nested.twins(files) if counts else {}
    for place, (first, second) in pairs.items():
        listing.refuse(
            "folders of images with the names of others of the class",
            f"{printable(place)}/ holds images ({counts[place]}) with the names of others of the class "
            f"({printable(first)}, {printable(second)}): they would be trained on as separate images. "
            "Move the folder out of the data folder or remove it; rename its images if they are different ones.",
        )
    listing.nested.update({place: count for place, count in counts.items() if place not in pairs})


def _images(listing: Listing, folder: str, above: tuple[str, ...] = ()) -> list[str]:
    """Images under a class folder, however deep; links are followed, but never in a circle."""
    place = os.path.realpath(listing.root / folder)
    if place in above:
        listing.leave_out("links to a folder above", folder)
        return []
    files: list[str] = []
    for entry in _entries(listing, folder) or []:
        path = f"{folder}/{entry.name}"
        try:
            if entry.is_dir():
                if not (entry.is_symlink() and _refuse_link(listing, path)):
                    files += _images(listing, path, (*above, place))
            elif not entry.name.lower().endswith(EXTENSIONS):
                listing.leave_out_file(path)
            elif not stat.S_ISREG(entry.stat().st_mode):
                listing.refuse(
                    "named pipes or devices", f"{printable(path)}: a named pipe or device, not a file. Remove it."
                )
            else:
                if entry.is_symlink():
                    _note_crossing(listing, path, place, (*above, place)[0])
                listing.stamps[path] = stamp_of(entry.stat())
                files.append(path)
        except OSError as error:
            what = nested.leads_nowhere(entry) or f"{error.strerror}. Check its permissions (ls -l)."
            listing.refuse("links or files that cannot be followed or read", f"{printable(path)}: {what}")
    return files


def _refuse_link(listing: Listing, path: str) -> bool:
    """Whether the linked folder leads to images of other classes, which is a problem."""
    target = os.path.realpath(listing.root / path)
    class_folder = os.path.realpath(listing.root.joinpath(*path.split("/")[:2]))
    if not nested.leaves_class(target, class_folder, listing.real_splits):
        return False
    listing.refuse(
        "links to images of other classes",
        f"{printable(path)} links to {printable(target)}, which holds images of other classes: remove the link.",
    )
    return True


def _refuse_class_link(listing: Listing, path: str) -> None:
    """A class folder that is a link may lead anywhere but to images that are read as another class, too."""
    target = os.path.realpath(listing.root / path)
    if nested.meets_splits(target, listing.real_splits):
        listing.refuse(
            "links to folders of other classes",
            f"{printable(path)} links to {printable(target)}, which is read as another class: remove the link.",
        )


def _note_crossing(listing: Listing, path: str, folder: str, class_folder: str) -> None:
    """Keep a linked file if the image it leads to is read as another class, or in another split, too."""
    # Only the first link is followed: a real path takes several calls per file, and there may be a million.
    target = os.path.normpath(Path(folder) / (listing.root / path).readlink())
    if not nested.is_within(target, class_folder) and nested.meets_splits(target, listing.real_splits):
        listing.crossing.append(f"{path} -> {target}")


def _entries(listing: Listing, folder: str) -> list[os.DirEntry[str]] | None:
    """Visible entries of a folder by name, None if it cannot be read; hidden ones are counted."""
    try:
        with os.scandir(listing.root / folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        path = printable(listing.root / folder)
        problem = f"{path}: cannot be listed ({error.strerror}). Check its permissions (ls -ld)."
        listing.refuse("folders that cannot be listed", problem)
        return None
    visible = []
    for entry in entries:
        if is_by_product(entry.name):
            listing.leave_out("by-products", entry.name)
        elif entry.name.startswith("."):
            listing.leave_out("hidden", entry.name)
            if folder in listing.folders.values() and not nested.leads_nowhere(entry) and entry.is_dir():
                _refuse_hidden_class(listing, f"{folder}/{entry.name}")
        elif any("\udc80" <= letter <= "\udcff" for letter in entry.name):  # how Python keeps bytes that are not UTF-8
            path = printable(f"{folder}/{entry.name}" if folder else entry.name)
            problem = f"{path}: the name is not UTF-8, so no table could hold it. Rename it."
            listing.refuse("names that are not UTF-8", problem)
        else:
            visible.append(entry)
    return visible
