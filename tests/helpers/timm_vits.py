"""timm's Vision Transformers of every family, two blocks deep and narrow, with attention that is not even."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import nn

from harness.model.timm_model import as_trained

# One name for each way in which timm's models differ from a plain one; some with a size that goes with it.
FAMILIES: dict[str, dict[str, Any]] = {
    # plain; CLIP and its norm before the blocks; DeiT-III and LayerScale; bias-free qkv
    "vit_tiny_patch16_224": {},
    "deit_tiny_patch16_224": {},
    "deit3_small_patch16_224": {},
    "vit_base_patch32_clip_224": {},
    "vit_base_patch16_clip_quickgelu_224": {},
    "vit_base_patch16_224_miil": {},
    "vit_intern300m_patch14_448": {},
    # norms after the branches; a distillation token
    "vit_base_patch16_rpn_224": {},
    "deit_tiny_distilled_patch16_224": {},
    # DINOv2, registers, average pooling without a class token
    "vit_small_patch14_dinov2": {},
    "vit_small_patch14_reg4_dinov2": {},
    "vit_little_patch16_reg4_gap_256": {},
    "vit_medium_patch16_reg1_gap_256": {},
    "test_vit": {},
    "test_vit2": {},
    "test_vit4": {},
    # a convolutional stem, with batch norms
    "vit_tiny_r_s16_p8_224": {},
    "vit_small_resnet26d_224": {},
    # pooled by attention, or by the mean of such a model
    "vit_base_patch16_siglip_224": {},
    "vit_base_patch16_siglip_gap_224": {},
    "test_vit3": {},
    "vit_so150m_patch16_reg4_map_256": {},
    # rotary positions
    "vit_base_patch16_rope_224": {},
    "vit_small_patch16_rope_mixed_224": {},
    "vit_small_patch16_rope_mixed_ape_224": {},
    "vit_betwixt_patch16_rope_reg4_gap_256": {},
    "vit_pe_core_tiny_patch16_384": {},
    "vit_pe_spatial_tiny_patch16_512": {},
    "vit_small_patch16_dinov3": {},
    "vit_base_patch16_sapiens2": {"num_kv_heads": (3, 1)},
    "eva02_tiny_patch14_224": {},
    "eva_large_patch14_196": {},
    "vit_medium_patch16_rope_reg1_gap_256": {},
    # relative positions
    "beit_base_patch16_224": {},
    "beitv2_base_patch16_224": {},
    "vit_relpos_small_patch16_224": {},
    "vit_srelpos_small_patch16_224": {},
    "vit_relpos_base_patch16_cls_224": {},
    "vit_relpos_base_patch32_plus_rpn_256": {},
}


def small_timm(name: str, image_size: int = 64, seed: int = 0) -> Any:
    """In eval mode, hidden size 48, three heads, five classes; its patches are as large as the name says."""
    side = image_size if "patch14" not in name else image_size // 16 * 14
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sizes = {"depth": 2, "embed_dim": 48, "num_heads": 3, "img_size": side, "num_classes": 5}
        model = as_trained(timm.create_model(name, **sizes | FAMILIES[name]))
        for parameter in ("cls_token", "reg_token", "pos_embed"):
            if isinstance(getattr(model, parameter, None), nn.Parameter):
                nn.init.normal_(getattr(model, parameter))
        nn.init.normal_(model.head.weight)
        for key, value in model.named_parameters():
            if "attn" in key and any(part in key for part in ("qkv.weight", "q_proj.weight", "k_proj.weight")):
                nn.init.normal_(value, std=2 * value.shape[1] ** -0.5)
            elif "gamma" in key:  # LayerScale starts near 0, where blocks would have no effect
                nn.init.constant_(value, 0.5)
    return model.eval()
