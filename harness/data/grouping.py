"""Images that belong together, so that no cut may separate them: copies, images made from others, a user's groups."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from harness.data.nested import DERIVED

# What is added to the name of an image that was made from another: img_1_crop, img-1-rot90, copy of img.
_WORD = (
    r"(?:crop(?:ped)?|thumb(?:nail)?|resized?|scaled|small|copy|edit(?:ed)?|[hv]?flip(?:ped)?|mirror(?:ed)?"
    r"|rot(?:ated?)?|aug(?:mented)?|blur(?:red)?|noisy?|gr[ae]y|compressed)"
)
# A possessive *+, as long numbers can be divided into so many groups of digits that a search would not end.
_SUFFIX = re.compile(rf"(?:[ _.-]+{_WORD}(?:[ _-]?\(?\d{{1,4}}\)?)*+|[_-]\d{{2,4}}x\d{{2,4}})$")
_PREFIX = re.compile(rf"^(?:copy of|{_WORD})[ _-]+")
# Roboflow exports each augmented version of img.jpg as img_jpg.rf.<hash>.jpg.
_ROBOFLOW = re.compile(r"\.rf\.[0-9a-f]{32}$")


def groups_of(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Per file in a pair, the name of its group: the first file, in the order of names, that pairs lead to."""
    leader: dict[str, str] = {}

    def leader_of(file: str) -> str:
        leader.setdefault(file, file)
        while leader[file] != file:
            leader[file] = leader[leader[file]]
            file = leader[file]
        return file

    for pair in pairs:
        first, second = sorted(map(leader_of, pair))
        leader[second] = first
    return {file: leader_of(file) for file in leader}


def sibling_pairs(files: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Pairs of images whose names say that one was made from the other, among the paths of one class.

    The rule: img_1.jpg and img_1.png in one folder; img_1_crop.jpg if there is an img_1 in its folder or in one above,
    or, for a folder named like crops/, one img_1 elsewhere in the class; all versions that Roboflow made of an image.
    """
    places: dict[tuple[str, str], str] = {}  # (folder, stem) -> the first file of that name
    elsewhere: dict[str, list[str]] = {}  # stem -> files
    versions: dict[tuple[str, str], str] = {}  # (folder, stem without Roboflow's hash) -> the first file
    named = [(file, *_folder_and_stem(file)) for file in sorted(files)]
    for file, folder, stem in named:
        elsewhere.setdefault(stem, []).append(file)
        if (first := places.setdefault((folder, stem), file)) != file:
            yield file, first
        if _ROBOFLOW.search(stem):
            first = versions.setdefault((folder, _ROBOFLOW.sub("", stem)), file)
            if first != file:
                yield file, first
    for file, folder, stem in named:
        for original in _originals(stem):
            near = [places[above, original] for above in _upwards(folder) if (above, original) in places]
            same_stem = elsewhere.get(original, [])
            if near:
                yield file, near[0]
            elif folder.rpartition("/")[2].casefold() in DERIVED and len(same_stem) == 1:
                yield file, same_stem[0]


def named_groups(files: Iterable[str], pattern: str) -> tuple[dict[str, list[str]], list[str]]:
    """Files by what the first capture group of `pattern` matches in their path, and those that it does not match."""
    rule = re.compile(pattern)
    groups: dict[str, list[str]] = {}
    unmatched = []
    for file in files:
        match = rule.search(file)
        if match and match[1] is not None:
            groups.setdefault(match[1], []).append(file)
        else:
            unmatched.append(file)
    return groups, unmatched


def members(groups: Mapping[str, str]) -> list[list[str]]:
    """The files of each group, in the order of names."""
    lists: dict[str, list[str]] = {}
    for file in sorted(groups):
        lists.setdefault(groups[file], []).append(file)
    return list(lists.values())


def _originals(stem: str) -> Iterator[str]:
    """The names that an image may have been made from: img_1_crop and img_1 for img_1_crop_flip."""
    for rule in (_SUFFIX, _PREFIX):
        rest = stem
        while (shorter := rule.sub("", rest)) != rest and shorter:
            yield shorter
            rest = shorter


def _folder_and_stem(file: str) -> tuple[str, str]:
    folder, _, name = file.rpartition("/")
    stem = name.rpartition(".")[0] or name
    return folder, stem.casefold()


def _upwards(folder: str) -> Iterator[str]:
    """The folder and those above it."""
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]
    yield ""
