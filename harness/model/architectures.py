"""What is known of a model by its name, and which of torchvision's architectures a weights file belongs to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import ConfigError, WeightsError
from harness.model.timm_catalog import CatalogEntry, is_timm
from harness.settings.model import weights_names

if TYPE_CHECKING:
    from torch import Tensor


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


def parameters_of(architecture: Architecture) -> int:
    """Of a VisionTransformer without its head."""
    width, mlp = architecture.hidden_dim, architecture.mlp_dim
    patches = (architecture.image_size // architecture.patch_size) ** 2
    tokens = width * (3 * architecture.patch_size**2 + 1) + width * (patches + 2)  # projection; class token, positions
    attention, norms = 4 * width * (width + 1), 4 * width
    block = attention + norms + 2 * width * mlp + mlp + width
    return tokens + architecture.num_layers * block + 2 * width


def entry_of(model: str) -> CatalogEntry:
    """What is known of any model by its name in --model. ConfigError for one that timm does not have."""
    if is_timm(model):
        from harness.model.timm_model import described

        return described(model)
    sizes = ARCHITECTURES[model]
    return CatalogEntry(
        name=model,
        parameters=parameters_of(sizes),
        image_size=sizes.image_size,
        patch_size=sizes.patch_size,
        blocks=sizes.num_layers,
        prefix=1,
        pool="token",
        positions="learned",
        relative=False,
        licence="mit" if model == "vit_demo" else "see torchvision" if len(weights_names(model)) > 1 else "",
        refused="",
    )


def head_layer(model: str, layer: int | None, option: str = "--explain-layer") -> int:
    """The layer whose heads are shown, counted from 1; by default the last. ConfigError if out of range."""
    count = entry_of(model).layers
    if layer is not None and not 1 <= layer <= count:
        raise ConfigError(f"{option} is {layer}; {model} has layers 1 to {count}.")
    return layer or count


def check_verifiable(model: str) -> None:
    """ConfigError for models whose attention maps `harness verify` does not test."""
    if entry_of(model).relative:
        raise ConfigError(
            f"`harness verify` and --verify cannot test {model}: its blocks take rotary or relative positions "
            "besides tokens, so they cannot run one by one, nor with patches left out."
        )


def check_architecture(state: dict[str, Tensor], name: str) -> None:
    """WeightsError if the weights have other sizes than `name`; the message says which architecture has them."""
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
