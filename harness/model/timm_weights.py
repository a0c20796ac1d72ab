"""Weights files in a model of timm: any known naming, positions of another grid, every name and shape checked."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import WeightsError
from harness.model import adapter
from harness.model.description import description_of
from harness.model.distilled import join_heads
from harness.model.state_dict_keys import IGNORED_KEYS, NAMINGS, to_torchvision
from harness.model.timm_catalog import base_name
from harness.model.timm_model import as_trained
from harness.model.weight_names import to_timm
from harness.model.weights import check_fit, load_into
from harness.model.weights_file import read_weights

TIMM_MARKER = "patch_embed.proj.weight"
# torchvision, Hugging Face's ViT, and Google's files in their two forms.
OTHER_MARKERS = (*(each.marker for each in NAMINGS if each.library != "timm"), "embedding/kernel")


def load_timm_file(model: nn.Module, name: str, path: Path, key: str | None) -> tuple[str, ...]:
    """Load a weights file into a model of timm; returns sentences. WeightsError names the file."""
    file = read_weights(path, key)
    try:
        _check_description(model, name, path)
        state, sentences = to_names_of(model, name, file.state)
        return (f"{name} takes its weights from {path}.", *file.notes, *sentences, *load_into(model, state))
    except WeightsError as error:
        raise WeightsError(f"{path}: {problem}" for problem in error.problems) from error


def check_timm_header(name: str, path: Path, state: dict[str, Tensor]) -> None:
    """WeightsError if names and shapes (meta tensors) do not fit the model."""
    import timm

    with torch.device("meta"):
        model = as_trained(timm.create_model(base_name(name), num_classes=0))
    _check_description(model, name, path)
    own = model.state_dict()
    try:
        converted, _ = to_names_of(model, name, state)
    except NotImplementedError:
        return  # a resampling that needs the numbers: it is checked when the file is loaded
    check_fit(own, {name: tensor for name, tensor in converted.items() if not name.startswith("head.")})


def to_names_of(model: nn.Module, name: str, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The state under the names of a model of timm, positions resampled to its grid by timm; and sentences."""
    sentences: list[str] = []
    if TIMM_MARKER not in state and any(each.endswith(OTHER_MARKERS) for each in state):
        state, notes = to_torchvision(state)
        sentences += [note for note in notes if "converted" not in note] + ["Names were converted to timm's."]
        try:
            state = to_timm(state)
        except KeyError as error:
            raise WeightsError(f"It has weights that a plain Vision Transformer does not have: {error}.") from error
    state, positions = join_heads(state), state.get("pos_embed")
    try:
        state = _filter(name)(state, model)
    except NotImplementedError:
        raise  # meta tensors, which `check_timm_header` expects
    except (AttributeError, KeyError, ValueError, RuntimeError, AssertionError) as error:
        raise WeightsError(f"timm cannot turn its names and shapes into those of {name} ({error}).") from error
    if positions is not None and "pos_embed" in state and state["pos_embed"].shape != positions.shape:
        side = adapter.parts(model).grid
        sentences.append(f"timm resampled the positional embeddings to a grid of {side}x{side}.")
    own = model.state_dict()
    for pattern, what in (IGNORED_KEYS | {r"attn_pool\..*": "attention pooling"}).items():
        dropped = [each for each in state if each not in own and re.fullmatch(pattern, each)]
        if dropped:
            sentences.append(f"Left out, because {name} does not have it: {what}.")
            state = {each: tensor for each, tensor in state.items() if each not in dropped}
    return dict(state), tuple(sentences)


def _filter(name: str) -> Callable[[dict[str, Tensor], Any], dict[str, Tensor]]:
    """timm's conversion of the files that people have to the names of an architecture."""
    from timm.models import model_entrypoint

    module = importlib.import_module(model_entrypoint(base_name(name)).__module__)
    convert: Callable[..., dict[str, Tensor]] = module.checkpoint_filter_fn
    if module.__name__.endswith(".deit"):
        return lambda state, model: convert(state, model, adapt_layer_scale=True)
    if base_name(name).startswith("flexivit"):  # timm: they resize better without antialiasing
        return lambda state, model: convert(state, model, interpolation="bilinear", antialias=False)
    return convert


def _check_description(model: Any, name: str, path: Path) -> None:
    """WeightsError if the files beside say that the weights compute something else than the model."""
    heads = description_of(path, model.global_pool).num_heads
    own = getattr(getattr(model.blocks[0], "attn", None), "num_heads", None)
    if heads not in (None, own):
        raise WeightsError(
            f"The config.json beside the file says {heads} attention heads, {name} has {own}: with these, the same "
            "weights compute another attention."
        )
