"""The parts of timm's Vision Transformers: plain, CLIP, DINOv2, SigLIP, hybrid, EVA, RoPE, BEiT, relative positions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from timm.models._manipulate import group_parameters
from torch import Tensor, nn

from harness.errors import HarnessError
from harness.model.vit_parts import NO_POSITIONS, TokenLayout, VitParts

CONVOLUTIONAL_STEM = (
    "The patches come from a convolutional network, beside which a position embedding has no known strength: the "
    "position figures are left out."
)
DISTILLED = ("VisionTransformerDistilled", "OneHead")
FAMILIES = ("VisionTransformer", "Eva", "Beit", "VisionTransformerRelPos", *DISTILLED)
BLOCKS = ("Block", "ResPostBlock", "EvaBlock", "EvaBlockPostNorm", "RelPosBlock", "ResPostRelPosBlock")


def refusal(model: Any) -> str:
    """Why the harness cannot train and explain a model of timm, as the rest of a sentence; empty if it can."""
    family, blocks = type(model).__name__, list(getattr(model, "blocks", ()))
    block = type(blocks[0]).__name__ if len(blocks) else ""
    attention = type(getattr(blocks[0], "attn", None)).__name__ if len(blocks) else ""
    if family == "NaFlexVit":
        return "it takes images of any number of patches, with a mask"
    if family == "VisionTransformerSAM":
        return "its attention is within windows, so that no map covers an image"
    if family not in FAMILIES:
        return f"{family} is not a Vision Transformer of the kinds that are known here"
    if "Parallel" in block or "Diff" in attention:
        return "its blocks hold two attention maps, side by side or one subtracted from the other"
    if block not in BLOCKS:
        return f"its blocks ({block}) are of a kind that is not known here"
    if model.global_pool not in ("token", "avg", "map"):
        return f"its pooling ({model.global_pool}) reads neither a token nor a mean"
    return ""


def timm_parts(model: Any) -> VitParts:
    """Of a model of timm; HarnessError for those that are refused."""
    if reason := refusal(model):
        raise HarnessError(f"{type(model).__name__} of timm is not supported: {reason}.")
    prefix, stem = model.num_prefix_tokens, model.patch_embed
    class_token, positions = getattr(model, "cls_token", None), getattr(model, "pos_embed", None)
    hybrid = hasattr(stem, "backbone")
    no_prefix_positions = getattr(model, "no_embed_class", False)
    pool = getattr(model, "attn_pool", None)
    read = 2 if type(model).__name__ in DISTILLED else 1
    biased = type(model).__name__ in ("Beit", "VisionTransformerRelPos")
    relative = biased or getattr(model, "rope", None) is not None
    depths = group_parameters(model, model.group_matcher(coarse=False), reverse=True)
    return VitParts(
        layout=TokenLayout(prefix, class_token is not None, model.global_pool != "token", pool is not None, read),
        image_size=stem.img_size[0],
        patch_projection=[module for module in stem.modules() if isinstance(module, nn.Conv2d)][-1],
        class_token=class_token,
        positions=None if hybrid else positions,
        positioned_prefix=0 if no_prefix_positions else prefix,
        block_list=(model, "blocks"),
        embed=_embed(model, relative),
        attention=lambda block: block.attn,
        extend_branches=_extend_branches,
        final_norm=model.norm,
        head=model.head,
        head_name="head",
        positions_name=None if positions is None else "pos_embed",
        undecayed=frozenset(model.no_weight_decay()),
        depth=_depth(model, depths),
        relative_positions=relative,
        attention_bias=biased,
        pool=None if pool is None else model.pool,
        pooled_norm=getattr(model, "fc_norm", None),
        grid_side=stem.grid_size[0],
        last_depth=max(depths.values()),
        recompute=model.set_grad_checkpointing,
        no_positions=CONVOLUTIONAL_STEM if hybrid else NO_POSITIONS,
    )


def _embed(model: Any, relative: bool) -> Callable[[Tensor], Tensor]:
    """Images -> tokens; a HarnessError where blocks need positions besides, and cannot run one by one."""

    def embed(images: Tensor) -> Tensor:
        if relative:
            raise HarnessError(
                f"Blocks of {type(model).__name__} take positions besides tokens: they cannot be run one by one, nor "
                "with some of the patches left out."
            )
        tokens = model._pos_embed(model.patch_embed(images))
        if isinstance(tokens, tuple):
            tokens = tokens[0]
        return model.norm_pre(tokens)

    return embed


def _extend_branches(block: Any, module: type[nn.Module]) -> None:
    block.drop_path1, block.drop_path2 = module(), module()


def _depth(model: Any, depths: dict[str, int]) -> Callable[[str], int]:
    """timm's own groups: the final norm belongs to the last block, the head and what pools to one group more."""

    def depth(name: str) -> int:
        if name not in depths:
            raise ValueError(f"{name} is not a parameter of a {type(model).__name__}")
        return depths[name]

    return depth
