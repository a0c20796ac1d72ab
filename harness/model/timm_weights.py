"""The weights in a file of any known naming under the names of a model of timm."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Size, Tensor, nn

from harness.errors import WeightsError
from harness.model import adapter
from harness.model.distilled import join_heads
from harness.model.state_dict_keys import IGNORED_KEYS, NAMINGS, naming_of, to_torchvision
from harness.model.timm_catalog import base_name
from harness.model.vit_parts import VitParts
from harness.model.weight_names import to_timm

# timm's, and those of torchvision, Hugging Face's ViT, and Google's files in their two forms.
TIMM_MARKER = naming_of("timm").marker
OTHER_MARKERS = (*(each.marker for each in NAMINGS if each.library != "timm"), "embedding/kernel")


def to_names_of(model: nn.Module, name: str, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The state under the names of a model of timm, positions resampled to its grid by timm; and sentences."""
    sentences: list[str] = []
    if TIMM_MARKER not in state and any(each.endswith(OTHER_MARKERS) for each in state):
        try:
            state, notes = to_torchvision(state)
        except WeightsError as error:
            advice = "Other names become timm's for plain Vision Transformers alone: give a file with timm's names."
            raise WeightsError([*error.problems, advice]) from error
        sentences += [note for note in notes if "converted" not in note] + ["Names were converted to timm's."]
        try:
            state = to_timm(state)
        except KeyError as error:
            raise WeightsError(f"It has weights that a plain Vision Transformer does not have: {error}.") from error
    state = join_heads(state)
    before = {each: state[each].shape for each in ("pos_embed", TIMM_MARKER) if each in state}
    try:
        state = _filter(name)(state, model)
    except NotImplementedError:
        raise  # meta tensors, which `check_header` expects
    except (AttributeError, LookupError, ValueError, RuntimeError, AssertionError) as error:
        raise WeightsError(f"timm cannot turn its names and shapes into those of {name} ({error}).") from error
    sentences += _resampled(before, state, adapter.parts(model))
    own = model.state_dict()
    for pattern, what in (IGNORED_KEYS | {r"attn_pool\..*": "attention pooling"}).items():
        dropped = [each for each in state if each not in own and re.fullmatch(pattern, each)]
        if dropped:
            sentences.append(f"Left out, because {name} does not have it: {what}.")
            state = {each: tensor for each, tensor in state.items() if each not in dropped}
    return dict(state), tuple(sentences)


def _resampled(before: Mapping[str, Size], state: Mapping[str, Tensor], parts: VitParts) -> Iterator[str]:
    """Sentences: which tensors, by their shapes in the file, timm resampled to those of the model."""
    positions, patches = before.get("pos_embed", ()), before.get(TIMM_MARKER, ())
    others = len(positions) == 3 and positions[1] - parts.grid**2 not in range(parts.layout.prefix + 1)
    if "pos_embed" in state and others:
        yield f"timm resampled the positional embeddings to a grid of {parts.grid}x{parts.grid}."
    if TIMM_MARKER in state and len(patches) == 4 and patches[2:] != (fitting := state[TIMM_MARKER].shape)[2:]:
        sizes = ["x".join(map(str, shape[2:])) for shape in (patches, fitting)]
        yield f"timm resampled the patch projection from {sizes[0]} to {sizes[1]} pixels."


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
