"""The folders that timm and transformers open: config.json, weights, and how images are prepared."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from harness.errors import HarnessError
from harness.model.architectures import ARCHITECTURES, Architecture
from harness.model.norm_eps import norm_eps
from harness.model.preprocessing import Preprocessing
from harness.model.timm_catalog import base_name, is_timm
from harness.model.weight_names import to_hugging_face, to_timm

# timm's names; vit_demo has the layout of any plain ViT, and other sizes, which model_args holds.
TIMM_NAMES = {
    "vit_b_16": "vit_base_patch16_224",
    "vit_b_32": "vit_base_patch32_224",
    "vit_l_16": "vit_large_patch16_224",
    "vit_l_32": "vit_large_patch32_224",
    "vit_h_14": "vit_huge_patch14_224",
    "vit_s_16": "vit_small_patch16_224",
    "vit_ti_16": "vit_tiny_patch16_224",
    "vit_demo": "vit_tiny_patch16_224",
}
RESAMPLE = {"bilinear": 2, "bicubic": 3}  # Pillow's numbers, as transformers writes them


def write_timm(folder: Path, name: str, model: Any, classes: Sequence[str], rule: Preprocessing) -> None:
    """config.json and model.safetensors, which timm opens and, through timm, transformers: one file for both.

    transformers takes a config.json with `pretrained_cfg` for one of timm, reads `label_names` from it, and prepares
    images with timm's transform. Its own ViT would need a second weights file, and its own processors round the centre
    crop differently (see `write_hugging_face`).
    """
    from harness.model.distilled import split_heads  # timm is slow to import

    side = rule.crop_size
    pretrained = {
        "tag": "harness",
        "custom_load": False,
        "input_size": [3, side, side],
        "fixed_input_size": True,
        "interpolation": rule.interpolation,
        "crop_pct": crop_pct(rule),
        "crop_mode": "center",
        "mean": list(rule.mean),
        "std": list(rule.std),
        "num_classes": len(classes),
        "pool_size": None,
        "first_conv": "patch_embed.proj",
        "classifier": "head",
    }
    if is_timm(name):  # its architecture says all but the image size
        timm_name, weights = base_name(name), split_heads(model.state_dict())
        features, pool = model.num_features, model.global_pool
        sizes: dict[str, Any] = {"img_size": side}
    else:  # timm's architecture of that name need not have these sizes
        timm_name, weights = TIMM_NAMES[name], to_timm(model.state_dict())
        architecture = ARCHITECTURES[name]
        features, pool = architecture.hidden_dim, "token"
        sizes = {
            "img_size": side,
            "patch_size": architecture.patch_size,
            "embed_dim": architecture.hidden_dim,
            "depth": architecture.num_layers,
            "num_heads": architecture.num_heads,
            "mlp_ratio": architecture.mlp_dim / architecture.hidden_dim,
        }
    config = {
        "architecture": timm_name,
        "num_classes": len(classes),
        "num_features": features,
        "global_pool": pool,
        "model_args": sizes,
        "label_names": list(classes),
        "pretrained_cfg": pretrained,
    }
    _write(folder, config, weights)


def crop_pct(rule: Preprocessing) -> float:
    """timm's crop_pct; timm resizes to floor(crop_size / crop_pct), which must be `resize_size` to the pixel."""
    # The quotient, if rounding does not make it one pixel less; else the middle of what gives that size.
    candidates = (rule.crop_size / rule.resize_size, rule.crop_size / (rule.resize_size + 0.5))
    return next(share for share in candidates if math.floor(rule.crop_size / share) == rule.resize_size)


def write_hugging_face(folder: Path, name: str, model: nn.Module, classes: Sequence[str], rule: Preprocessing) -> None:
    """config.json, model.safetensors and preprocessor_config.json of transformers' ViTForImageClassification.

    Of transformers' processors, BitImageProcessor resizes the short side and then crops the centre; ViTImageProcessor
    would resize to a square. All of them round half a pixel of the crop down, where torchvision rounds to even: an
    image whose sides differ by 3, 7, 11 ... pixels after resizing is cut one pixel off, which scoring then shows.
    """
    architecture = ARCHITECTURES[name]
    folder.mkdir(parents=True, exist_ok=True)
    processor = {
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": rule.resize_size},
        "resample": RESAMPLE[rule.interpolation],
        "do_center_crop": True,
        "crop_size": {"height": rule.crop_size, "width": rule.crop_size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(rule.mean),
        "image_std": list(rule.std),
    }
    (folder / "preprocessor_config.json").write_text(_json(processor))
    config = _vit_config(architecture, classes, rule) | {"layer_norm_eps": norm_eps(model)}
    _write(folder, config, to_hugging_face(model.state_dict()))


def _vit_config(architecture: Architecture, classes: Sequence[str], rule: Preprocessing) -> dict[str, Any]:
    return {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "image_size": rule.crop_size,
        "patch_size": architecture.patch_size,
        "num_channels": 3,
        "hidden_size": architecture.hidden_dim,
        "num_hidden_layers": architecture.num_layers,
        "num_attention_heads": architecture.num_heads,
        "intermediate_size": architecture.mlp_dim,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "qkv_bias": True,
        "id2label": {str(index): label for index, label in enumerate(classes)},
        "label2id": {label: index for index, label in enumerate(classes)},
    }


def cut_differently(height: int, width: int, size: int) -> bool:
    """Whether transformers cuts the centre of a resized image at another pixel than torchvision does."""
    return any(round((side - size) / 2) != (side - size) // 2 for side in (height, width))


def unstated_norm_eps(name: str, model: nn.Module) -> str:
    """A sentence if the layer norms add another number to the variance than timm's; its files cannot say it."""
    import timm

    eps = norm_eps(model)
    with torch.device("meta"):
        of_timm = norm_eps(timm.create_model(base_name(name) if is_timm(name) else TIMM_NAMES[name]))
    if eps in (None, of_timm):
        return ""
    return (
        f"The model's layer norms add {eps:g} to the variance, timm's {of_timm:g}; timm's config.json has no field "
        "for this. The scores from the exported files show how much it changes."
    )


def check_formats(model: str, formats: Sequence[str]) -> None:
    """HarnessError for a model whose files cannot be written in one of the formats."""
    if is_timm(model) and "hf-vit" in formats:
        raise HarnessError(
            f"{model} cannot be exported to hf-vit: transformers' ViTForImageClassification is the plain Vision "
            "Transformer. Give --to hf, which opens models of timm in transformers."
        )


def _write(folder: Path, config: Mapping[str, Any], weights: dict[str, Tensor]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(_json(config))
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    save_file(on_cpu, folder / "model.safetensors", {"format": "pt"})  # transformers refuses files without it
    (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)  # by the umask, not the owner's alone


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
