"""What `harness models` shows: every model that --model takes, from tables that need neither torch nor timm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.model.architectures import ARCHITECTURES, entry_of
from harness.model.timm_catalog import TIMM, CatalogEntry, listed_models
from harness.settings.model import weights_names

DISTILLED = "class and distillation token"
POOLS = {"token": "class token", "avg": "mean of patches", "map": "attention pooling"}


@dataclass(frozen=True)
class ListedModel:
    """One row."""

    model: str  # as --model takes it
    parameters: int  # without the head
    image_size: int  # pixels of a side, by default; 0 if images are not square
    patch_size: int
    prefix_tokens: int
    reads: str  # what the head reads, whose attention maps show
    position_figures: bool
    rollout: bool
    licence: str  # of the weights that --weights takes by name; empty if unknown
    weights: str  # the names that --weights takes besides a file
    refused: str  # why --model refuses it


def all_models() -> Iterator[ListedModel]:
    """The demo's and torchvision's, then timm's; those that are refused last."""
    for name in sorted(ARCHITECTURES, key=lambda name: name != "vit_demo"):
        yield _listed(name, entry_of(name))
    for entry in sorted(listed_models(), key=lambda entry: bool(entry.refused)):
        yield _listed(f"{TIMM}{entry.name}", entry)


def search(text: str | None) -> list[ListedModel]:
    """The models whose names contain every word of the text."""
    words = (text or "").lower().split()
    return [each for each in all_models() if all(word in each.model.lower() for word in words)]


def _listed(model: str, entry: CatalogEntry) -> ListedModel:
    return ListedModel(
        model=model,
        parameters=entry.parameters,
        image_size=entry.image_size,
        patch_size=entry.patch_size,
        prefix_tokens=entry.prefix,
        reads=DISTILLED if "_distilled_" in model else POOLS.get(entry.pool, entry.pool),
        position_figures=entry.positions == "learned" and not entry.refused,
        rollout=not entry.refused,
        licence=entry.licence,
        weights=", ".join(weights_names(model)),
        refused=entry.refused,
    )
