"""Weights that a library saved as several files with an index: which files, and their digest."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from harness.errors import WeightsError, summarise
from harness.runs.reading import parse_json

INDEX = ".index.json"
SUFFIXES = (".safetensors", ".bin")  # of the files of an index
SHARD = re.compile(r"(?P<name>.+)-\d{5}-of-(?P<count>\d{5})(?P<suffix>\.\w+)")
MAX_BYTES = 50_000_000  # of an index; that of a model of 1,000 tensors has 0.1 MB


def is_index(path: Path) -> bool:
    return path.name.lower().endswith(INDEX)


def read_small_object(path: Path, most: int) -> dict[str, Any]:
    """The JSON object in a file of at most so many bytes. Raises ValueError."""
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it is larger than {most} bytes")
    value = parse_json(content)
    if not isinstance(value, dict):
        raise ValueError("it is not an object")
    return value


def shards_of(index: Path) -> list[Path]:
    """The files that an index names, which must be beside it. Raises WeightsError."""
    try:
        by_tensor = read_small_object(index, MAX_BYTES).get("weight_map")
        if not isinstance(by_tensor, dict) or not by_tensor:
            raise ValueError("it has no weight_map from names of tensors to files")
        names = list(by_tensor.values())
        for name in names:
            # The names come from elsewhere: one with a folder in it could lead to any file.
            if not (isinstance(name, str) and Path(name).name == name and name.endswith(SUFFIXES)):
                raise ValueError(f"{name!r} is not the name of a {' or '.join(SUFFIXES)} file beside it")
        files = [index.with_name(name) for name in dict.fromkeys(names)]
        missing = [path.name for path in files if not path.is_file()]  # raises for a name that no file can have
    except (OSError, ValueError) as error:
        raise WeightsError(f"{index} cannot be used: {error}.") from error
    if missing:
        raise WeightsError(
            f"{index} names files that are not beside it, {len(missing)} of {len(files)}: {summarise(missing, 8)}. "
            "Put them there."
        )
    return files


def refuse_single_shard(path: Path) -> None:
    """WeightsError for one of several files that hold the weights together."""
    match = SHARD.fullmatch(path.name)
    if not match or int(match["count"]) < 2:
        return
    index = path.with_name(f"{match['name']}{match['suffix']}{INDEX}")
    remedy = (
        f"Give {index}, or the folder."
        if index.is_file()
        else f"Put the others and their index, {index.name}, beside it, and give the folder."
    )
    raise WeightsError(f"{path} is one of {int(match['count'])} files that hold the weights together. {remedy}")


def digest(path: Path) -> str:
    """SHA-256 of a weights file; of an index, that of the digests of its files in order."""
    if not is_index(path):
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256("".join(digest(shard) for shard in shards_of(path)).encode()).hexdigest()
