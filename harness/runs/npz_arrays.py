"""Reads arrays from npz files; checks their types and shapes. No code in a file is run. Numpy only."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.runs.reading import DAMAGE, EXPLAIN_AGAIN, UnreadableError, kind_of, parse_json


def read_arrays(
    path: Path,
    fields: Mapping[str, tuple[str, str]],
    names: Iterable[str],
    sizes: Mapping[str, int] | None = None,
    *,
    optional: Collection[str] = (),
) -> dict[str, Any]:
    """Those arrays of an npz file, and its JSON objects; `sizes` are axes whose length is known.

    `optional` are arrays that the file may lack.
    """
    if path.exists() and not path.is_file():
        raise UnreadableError(path, "is not a file", EXPLAIN_AGAIN)
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays: dict[str, Any] = {name: content[name] for name in names if name in content or name not in optional}
        check_arrays(arrays, fields, sizes)
        for name in arrays:
            if not fields[name][1]:
                arrays[name] = _json_object(name, str(arrays[name]))
    except FileNotFoundError:
        raise UnreadableError(path, "is missing", EXPLAIN_AGAIN) from None
    except DAMAGE as error:
        raise damaged(path, error) from error
    return arrays


def check_arrays(
    arrays: Mapping[str, np.ndarray], fields: Mapping[str, tuple[str, str]], sizes: Mapping[str, int] | None = None
) -> None:
    """Raises ValueError for an array of another type, or of a size that does not fit the others."""
    known = dict(sizes or {})
    # Arrays with most axes first: they say how long the axes are.
    for name, array in sorted(arrays.items(), key=lambda item: -len(fields[item[0]][1])):
        kinds, axes = fields[name]
        if array.dtype.kind not in kinds:
            raise ValueError(f"{name} is of type {array.dtype}")
        expected = tuple(known.setdefault(axis, size) for axis, size in zip(axes, array.shape, strict=False))
        if array.shape != expected or array.ndim != len(axes):
            raise ValueError(f"{name} is {array.shape}, not ({', '.join(str(known.get(axis, axis)) for axis in axes)})")


def _json_object(name: str, text: str) -> dict[str, Any]:
    value = parse_json(text)
    if not isinstance(value, dict):
        raise ValueError(f"{name} is {kind_of(value)} instead of an object")
    return value


def damaged(path: Path, why: object) -> UnreadableError:
    return UnreadableError(path, f"is damaged ({why})", EXPLAIN_AGAIN)
