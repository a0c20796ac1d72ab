"""The sizes of the Vision Transformers by name, and which of them a weights file belongs to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import ConfigError, WeightsError
from harness.model.timm_catalog import is_timm

if TYPE_CHECKING:
    from torch import Tensor


def head_layer(model: str, layer: int | None, option: str = "--explain-layer") -> int:
    """The layer whose heads are shown, counted from 1; by default the last. ConfigError if out of range."""
    count = sizes_of(model).layers
    if layer is not None and not 1 <= layer <= count:
        raise ConfigError(f"{option} is {layer}; {model} has layers 1 to {count}.")
    return layer or count


def check_verifiable(model: str) -> None:
    """ConfigError for models whose attention maps `harness verify` does not test."""
    if is_timm(model):
        from harness.model.timm_model import described

        if described(model).relative:
            raise ConfigError(
                f"`harness verify` and --verify cannot test {model}: its blocks take rotary or relative positions "
                "besides tokens, so they cannot run one by one, nor with patches left out."
            )


@dataclass(frozen=True)
class Sizes:
    """The sizes of any model; sides of images and patches in pixels."""

    image_size: int  # by default; 0 if images are not square
    patch_size: int
    blocks: int
    layers: int  # of attention maps: blocks, and the attention that pools


def sizes_of(model: str) -> Sizes:
    """The sizes of a model by its name in --model."""
    if is_timm(model):
        from harness.model.timm_model import described

        known = described(model)
        return Sizes(known.image_size, known.patch_size, known.blocks, known.layers)
    known_here = ARCHITECTURES[model]
    count = known_here.num_layers
    return Sizes(known_here.image_size, known_here.patch_size, count, count)


@dataclass(frozen=True)
class Architecture:
    """The sizes of a VisionTransformer; sides of images and patches in pixels."""

    image_size: int
    patch_size: int
    num_layers: int
    num_heads: int
    hidden_dim: int
    mlp_dim: int


# B, L and H: Dosovitskiy et al. 2021 (arXiv 2010.11929), as torchvision builds them; S and Ti: Touvron et al. 2021
# (arXiv 2012.12877); demo: small enough to train on a CPU in minutes.
ARCHITECTURES = {
    "vit_b_16": Architecture(224, 16, 12, 12, 768, 3072),
    "vit_b_32": Architecture(224, 32, 12, 12, 768, 3072),
    "vit_l_16": Architecture(224, 16, 24, 16, 1024, 4096),
    "vit_l_32": Architecture(224, 32, 24, 16, 1024, 4096),
    "vit_h_14": Architecture(224, 14, 32, 16, 1280, 5120),
    "vit_s_16": Architecture(224, 16, 12, 6, 384, 1536),
    "vit_ti_16": Architecture(224, 16, 12, 3, 192, 768),
    "vit_demo": Architecture(64, 8, 6, 4, 128, 256),
}


def check_architecture(state: dict[str, Tensor], name: str, num_heads: int | None = None) -> None:
    """WeightsError if the weights have other sizes than `name`; the message says which architecture has them.

    The shapes of weights do not depend on the number of heads, so `num_heads` is what the weights' own config says.
    """
    patches, mlp = state["conv_proj.weight"], state.get("encoder.layers.encoder_layer_0.mlp.0.weight")
    if patches.dim() != 4 or mlp is None or mlp.dim() != 2:
        return  # load_into reports what is wrong
    layers = {layer[1] for key in state if (layer := re.match(r"encoder\.layers\.encoder_layer_(\d+)\.", key))}
    in_file = (patches.shape[3], len(layers), patches.shape[0], mlp.shape[0])
    sizes = {
        key: (architecture.patch_size, architecture.num_layers, architecture.hidden_dim, architecture.mlp_dim)
        for key, architecture in ARCHITECTURES.items()
    }
    if in_file != sizes[name]:
        text = "patch size {}, {} layers, hidden size {} and MLP size {}"
        fitting = [key for key, size in sizes.items() if size == in_file]
        advice = f"it is for --model {fitting[0]}" if fitting else "none of the models has that"
        raise WeightsError(f"The file has {text.format(*in_file)}, {name} has {text.format(*sizes[name])}; {advice}.")
    if num_heads not in (None, ARCHITECTURES[name].num_heads):
        raise WeightsError(
            f"The config.json beside the file says {num_heads} attention heads, {name} has "
            f"{ARCHITECTURES[name].num_heads}: with these, the same weights compute another attention."
        )
