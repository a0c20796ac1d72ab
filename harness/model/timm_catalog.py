"""timm's Vision Transformers as a table, which is read without importing timm or torch.

`python -m tests.helpers.timm_models` writes the table; a model that a later timm has is built once to be described.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

TIMM = "timm:"  # before the names of timm's models in --model
TABLE = Path(__file__).with_name("timm_models.csv")


@dataclass(frozen=True)
class CatalogEntry:
    """What is known of a model before it is built; sides in pixels."""

    name: str  # of timm's models without `timm:`
    parameters: int  # without the head
    image_size: int  # 0 if images are not square
    patch_size: int
    blocks: int
    prefix: int  # class token and registers
    pool: str  # what the head reads: token, avg or map (attention)
    positions: str  # learned, none, or stem: behind a convolutional network
    relative: bool  # blocks take positions besides tokens: rotary or relative ones
    licence: str  # of the default weights; empty if timm names none or there are none
    refused: str  # why it is refused, as the rest of a sentence; empty if it is not

    @property
    def layers(self) -> int:
        """Layers of attention maps: blocks, and the attention that pools."""
        return self.blocks + (self.pool == "map")


def is_timm(model: str) -> bool:
    """Whether a name of --model is of one of timm's models."""
    return model.startswith(TIMM)


def base_name(model: str) -> str:
    """timm's name of an architecture in --model: without `timm:`, and without the tag of weights after the dot."""
    return model.removeprefix(TIMM).partition(".")[0]


def listed_models() -> Iterator[CatalogEntry]:
    """The table, in timm's order."""
    yield from _table().values()


def timm_model(model: str) -> CatalogEntry | None:
    """A model by its name in --model; None if the table does not have it."""
    return _table().get(base_name(model))


@functools.cache
def _table() -> dict[str, CatalogEntry]:
    with TABLE.open(newline="", encoding="utf-8") as file:
        return {row["name"]: _parsed(row) for row in csv.DictReader(file)}


def _parsed(row: dict[str, str]) -> CatalogEntry:
    values: dict[str, str | int | bool] = dict(row)
    for field in fields(CatalogEntry):
        if field.type == "int":
            values[field.name] = int(row[field.name])
        elif field.type == "bool":
            values[field.name] = row[field.name] == "True"
    return CatalogEntry(**values)  # type: ignore[arg-type]
