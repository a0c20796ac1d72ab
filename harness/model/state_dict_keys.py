"""How libraries name the weights of a Vision Transformer, and how their names and shapes become torchvision's."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.errors import WeightsError, summarise

POSITIONS = "encoder.pos_embedding"
HEAD = ("heads.head.weight", "heads.head.bias")


@dataclass(frozen=True)
class Naming:
    """How one library names the modules of a ViT; the two tables lead from its names to torchvision's."""

    library: str
    marker: str  # a name that is only in files of this library
    block: str  # regular expression of a name in a block: (number of the block), (name inside it)
    inside: dict[str, str]  # modules of a block
    outside: dict[str, str]  # all other modules


QUERY, KEY, VALUE = (f"self_attention.{part}" for part in ("query", "key", "value"))

NAMINGS = (
    Naming(
        "torchvision",
        marker="conv_proj.weight",
        block=r"encoder\.layers\.encoder_layer_(\d+)\.(.+)",
        inside={"mlp.linear_1": "mlp.0", "mlp.linear_2": "mlp.3"},  # before torchvision 0.14
        outside={},
    ),
    Naming(
        "timm",
        marker="patch_embed.proj.weight",
        block=r"blocks\.(\d+)\.(.+)",
        inside={
            "norm1": "ln_1",
            "attn.qkv": "self_attention.in_proj",
            "attn.proj": "self_attention.out_proj",
            "norm2": "ln_2",
            "mlp.fc1": "mlp.0",
            "mlp.fc2": "mlp.3",
        },
        outside={
            "cls_token": "class_token",
            "pos_embed": POSITIONS,
            "patch_embed.proj": "conv_proj",
            "norm": "encoder.ln",
            "head": "heads.head",
        },
    ),
    Naming(
        "Hugging Face",
        marker="embeddings.patch_embeddings.projection.weight",
        block=r"(?:encoder\.layer|layers)\.(\d+)\.(.+)",
        inside={
            "layernorm_before": "ln_1",
            "layernorm_after": "ln_2",
            # in files
            "attention.attention.query": QUERY,
            "attention.attention.key": KEY,
            "attention.attention.value": VALUE,
            "attention.output.dense": "self_attention.out_proj",
            "intermediate.dense": "mlp.0",
            "output.dense": "mlp.3",
            # in memory, since transformers 5
            "attention.q_proj": QUERY,
            "attention.k_proj": KEY,
            "attention.v_proj": VALUE,
            "attention.o_proj": "self_attention.out_proj",
            "mlp.fc1": "mlp.0",
            "mlp.fc2": "mlp.3",
        },
        outside={
            "embeddings.cls_token": "class_token",
            "embeddings.position_embeddings": POSITIONS,
            "embeddings.patch_embeddings.projection": "conv_proj",
            "layernorm": "encoder.ln",
            "classifier": "heads.head",
        },
    ),
    Naming(
        "Google",
        marker="embedding.weight",  # after _from_flax
        block=r"Transformer\.encoderblock_(\d+)\.(.+)",
        inside={
            "LayerNorm_0": "ln_1",
            "MultiHeadDotProductAttention_1.query": QUERY,
            "MultiHeadDotProductAttention_1.key": KEY,
            "MultiHeadDotProductAttention_1.value": VALUE,
            "MultiHeadDotProductAttention_1.out": "self_attention.out_proj",
            "LayerNorm_2": "ln_2",
            "MlpBlock_3.Dense_0": "mlp.0",
            "MlpBlock_3.Dense_1": "mlp.3",
        },
        outside={
            "cls": "class_token",
            "Transformer.posembed_input.pos_embedding": POSITIONS,
            "embedding": "conv_proj",
            "Transformer.encoder_norm": "encoder.ln",
            "head": "heads.head",
        },
    ),
)


def naming_of(library: str) -> Naming:
    return next(naming for naming in NAMINGS if naming.library == library)


# Names by which a Vision Transformer is found in a file, and names of its head, which may stand beside the backbone.
MARKERS = tuple(naming.marker for naming in NAMINGS if naming.library != "Google")
HEAD_NAMES = tuple(f"{module}.{part}" for module in ("heads.head", "head", "classifier") for part in ("weight", "bias"))

# Parts that torchvision's VisionTransformer does not have. The other weights were trained with them and need them.
UNSUPPORTED_KEYS = {
    r"(.*\.)?dist(illation)?_token|(head_dist|distillation_classifier)\..*": "a distillation token (distilled DeiT)",
    r"(.*\.)?(reg_tokens?|register_tokens)": "register tokens",
    r"fc_norm\..*": "a norm after average pooling",
    r".*\.(ls[12]\.gamma|gamma_[12]|layer_scale[12]\.\w+)": "layer scale",
    r".*\.(q_norm|k_norm)\..*": "norms of queries and keys",
    r"norm_pre\..*": "a norm before the blocks",
    r".*(rel_pos|relative_position).*": "relative positions",
    r"attn_pool\..*|MAPHead_0\..*": "attention pooling",
    r"patch_embed\.backbone\..*|conv_root\..*": "a convolutional stem (hybrid)",
}

# Parts that classification does not need. They are not loaded, and the report names them.
IGNORED_KEYS = {
    r"(heads\.)?pre_logits\..*": "the layer before the head (pre_logits), and with it the head",
    r"pooler\..*": "the pooler",
    r"embeddings\.mask_token|mask_token": "the mask token",
    r"decoder_(pos_embed|(embed|norm|pred)\..*|blocks\..*)|decoder\..*": "the decoder of a masked autoencoder",
    r"n_averaged": "the counter of an average",
    r".*\.num_batches_tracked": "the counters of batch norms",
}


def to_torchvision(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The state under torchvision's names, and sentences about what was renamed or left out.

    Unknown names stay as they are; `load_into` reports them.
    """
    if any(name.endswith("embedding/kernel") for name in state):
        state = _from_flax(state)
    naming = next((naming for naming in NAMINGS if naming.marker in state), None)
    _refuse_unsupported(state)
    if naming is None:
        raise WeightsError(
            "The tensor names are not those of a Vision Transformer of torchvision, timm, Hugging Face or Google: "
            f"{summarise(map(repr, state), 8)}."
        )
    sentences = [] if naming.library == "torchvision" else [f"Names were converted from {naming.library}'s."]
    for pattern, what in IGNORED_KEYS.items():
        dropped = [name for name in state if re.fullmatch(pattern, name)]
        if dropped:
            sentences.append(f"Left out: {what}.")
            state = {name: tensor for name, tensor in state.items() if name not in dropped}
            if "pre_logits" in pattern:  # the head was trained on this layer's output
                state = {name: tensor for name, tensor in state.items() if _rename(name, naming) not in HEAD}
    renamed = {_rename(name, naming): tensor for name, tensor in state.items()}
    return _join_attention(renamed), tuple(sentences)


def _from_flax(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Flax arrays in the shapes of PyTorch. Kernels are (P, P, 3, D), (D, H, h), (H, h, D) or (in, out); h is D / H."""
    for prefix in ("opt/target/", "params/"):
        if any(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    converted = {}
    for name, tensor in state.items():
        if name.endswith("/kernel"):
            if tensor.dim() == 4:
                tensor = tensor.permute(3, 2, 0, 1)
            elif tensor.dim() == 3:
                tensor = (tensor.flatten(0, 1) if name.endswith("/out/kernel") else tensor.flatten(1)).T
            elif tensor.dim() == 2:
                tensor = tensor.T
        elif name.endswith("/bias"):
            tensor = tensor.flatten()
        converted[re.sub(r"\.(kernel|scale)$", ".weight", name.replace("/", "."))] = tensor
    return converted


def _refuse_unsupported(state: dict[str, Tensor]) -> None:
    """WeightsError with all parts that torchvision's VisionTransformer does not have."""
    problems = []
    for pattern, what in UNSUPPORTED_KEYS.items():
        matching = [name for name in state if re.fullmatch(pattern, name)]
        if matching:
            problems.append(
                f"The weights have {what}, which torchvision's VisionTransformer does not have: "
                f"{summarise(map(repr, matching), 8)}."
            )
    if problems:
        raise WeightsError(problems)


def _rename(name: str, naming: Naming) -> str:
    """torchvision's name of one tensor; an unknown name stays as it is."""
    block = re.fullmatch(naming.block, name)
    table, rest = (naming.inside, block[2]) if block else (naming.outside, name)
    for module, new_name in table.items():
        if rest == module or rest.startswith(module + "."):
            renamed = new_name + rest[len(module) :]
            return f"encoder.layers.encoder_layer_{block[1]}.{renamed}" if block else renamed
    return name


def _join_attention(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Queries, keys and values joined along the first axis, under the names of nn.MultiheadAttention."""
    joined = {re.sub(r"\.in_proj\.(weight|bias)$", r".in_proj_\1", name): tensor for name, tensor in state.items()}
    for name in [name for name in joined if ".self_attention.query." in name]:
        parts = [name, name.replace(".query.", ".key."), name.replace(".query.", ".value.")]
        if all(part in joined for part in parts) and len({joined[part].shape[1:] for part in parts}) == 1:
            joined[name.replace(".query.", ".in_proj_")] = torch.cat([joined.pop(part) for part in parts])
    no_bias = [n for n in joined if n.endswith(".in_proj_weight") and n.removesuffix("weight") + "bias" not in joined]
    if no_bias:
        names = summarise(map(repr, no_bias), 8)
        raise WeightsError(f"The weights have attention without biases; torchvision's needs biases: {names}.")
    return joined
