"""What `harness models` shows: every model that --model takes, from tables that need neither torch nor timm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from harness.model.architectures import ARCHITECTURES, Architecture
from harness.model.timm_catalog import TIMM, TimmModel, listed_models
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
    refused: str = ""  # why --model refuses it

    def values(self) -> dict[str, str | int | bool]:
        return asdict(self)


def all_models() -> Iterator[ListedModel]:
    """The demo's and torchvision's, then timm's; those that are refused last."""
    for name in sorted(ARCHITECTURES, key=lambda name: name != "vit_demo"):
        yield _of_torchvision(name, ARCHITECTURES[name])
    for entry in sorted(listed_models(), key=lambda entry: bool(entry.refused)):
        yield _of_timm(entry)


def search(text: str | None) -> list[ListedModel]:
    """The models whose names contain every word of the text."""
    words = (text or "").lower().split()
    return [each for each in all_models() if all(word in each.model.lower() for word in words)]


def parameters_of(architecture: Architecture) -> int:
    """Of a VisionTransformer without its head."""
    width, mlp, patches = (
        architecture.hidden_dim,
        architecture.mlp_dim,
        (architecture.image_size // architecture.patch_size) ** 2,
    )
    tokens = width * (3 * architecture.patch_size**2 + 1) + width * (patches + 2)  # projection; class token, positions
    attention, norms = 4 * width * (width + 1), 4 * width
    block = attention + norms + 2 * width * mlp + mlp + width
    return tokens + architecture.num_layers * block + 2 * width


def _of_torchvision(name: str, architecture: Architecture) -> ListedModel:
    return ListedModel(
        model=name,
        parameters=parameters_of(architecture),
        image_size=architecture.image_size,
        patch_size=architecture.patch_size,
        prefix_tokens=1,
        reads=POOLS["token"],
        position_figures=True,
        rollout=True,
        licence="mit" if name == "vit_demo" else "see torchvision" if len(weights_names(name)) > 1 else "",
        weights=", ".join(weights_names(name)),
    )


def _of_timm(entry: TimmModel) -> ListedModel:
    return ListedModel(
        model=f"{TIMM}{entry.name}",
        parameters=entry.parameters,
        image_size=entry.image_size,
        patch_size=entry.patch_size,
        prefix_tokens=entry.prefix,
        reads=DISTILLED if "_distilled_" in entry.name else POOLS.get(entry.pool, entry.pool),
        position_figures=entry.positions == "learned" and not entry.refused,
        rollout=not entry.refused,
        licence=entry.licence,
        weights=", ".join(weights_names(f"{TIMM}{entry.name}")),
        refused=entry.refused,
    )
