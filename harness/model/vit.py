"""Vision Transformers by name: the model ready to train, with its weights loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torchvision.models import VisionTransformer

from harness.config import RunConfig
from harness.errors import WeightsError
from harness.model import adapter
from harness.model.architectures import ARCHITECTURES, Architecture, check_architecture
from harness.model.description import description_of
from harness.model.drop_path import add_drop_path
from harness.model.grad_checkpointing import enable_grad_checkpointing
from harness.model.lora import add_lora
from harness.model.norm_eps import checked_norm_eps, norm_eps, set_norm_eps
from harness.model.packed_attention import pack_attention
from harness.model.preprocessing import (
    Preprocessing,
    assumptions,
    description_for,
    preprocessing_for,
    timm_assumptions,
)
from harness.model.pretrained import weights_path
from harness.model.shards import digest
from harness.model.state_dict_keys import to_torchvision
from harness.model.timm_catalog import is_timm
from harness.model.timm_model import batch_norms_kept, new_timm_model
from harness.model.weights import load_into
from harness.model.weights_file import read_metadata, read_weights
from harness.settings.model import NAMED_WEIGHTS


@dataclass(frozen=True)
class Loaded:
    """A model ready to train, and where its weights come from."""

    model: nn.Module
    preprocessing: Preprocessing
    report: tuple[str, ...]  # sentences: what was loaded, left out, resized, assumed
    source: str
    weights_digest: str | None  # SHA-256 of the weights file; the key and what its layer norms add, if given


def build_model(
    name: str,
    *,
    num_classes: int,
    weights: str,
    image_size: int | None = None,
    crop_pct: float | None = None,
    mean: str | None = None,
    std: str | None = None,
    interpolation: str | None = None,
    weights_key: str | None = None,
    drop_path: float = 0.0,
    freeze: str = "none",
    head_init: str = "zero",
    seed: int = 0,
    grad_checkpointing: bool = False,
    lora_rank: int = 0,
    lora_alpha: float = 16.0,
    lora_targets: str = "attention",
) -> Loaded:
    """The named model with its weights and a head for `num_classes`, on the CPU in float32."""
    preprocessing = preprocessing_for(
        name, weights, image_size, crop_pct, mean=mean, std=std, interpolation=interpolation
    )
    path = weights_path(name, weights)
    model: nn.Module
    if is_timm(name):
        model = new_timm_model(name, preprocessing.crop_size, num_classes, head_init, seed)
    else:
        model = new_model(ARCHITECTURES[name], preprocessing.crop_size, num_classes, head_init, seed)
    if path is None:
        report: tuple[str, ...] = (f"No pretrained weights: {name} starts from new ones, seed {seed}.",)
        content = None
    else:
        report = _load_file(model, name, path, weights_key)
        content = digest(path) + (f" {weights_key}" if weights_key else "")
        if weights not in NAMED_WEIGHTS:
            eps = _norm_eps_beside(name, path)
            if eps is not None and eps != norm_eps(model):
                set_norm_eps(model, eps)
                content += f" eps {eps:g}"  # it need not stand in the weights file itself
                report += (f"Its layer norms add {eps:g} to the variance, as the file or config.json beside it says.",)
            given = bool(mean and std)
            report += assumptions(name, path, normalisation_given=given, interpolation_given=bool(interpolation))
    if weights == "pretrained":
        report += timm_assumptions(name)
    report += batch_norms_kept(model)
    if freeze == "backbone":
        model.requires_grad_(False)
        adapter.parts(model).head.requires_grad_(True)
    if lora_rank:
        report += (add_lora(model, lora_rank, lora_alpha, lora_targets, seed),)
    if drop_path > 0:
        add_drop_path(model)
    if grad_checkpointing:
        enable_grad_checkpointing(model)
    source = f"{weights} ({path.name})" if path is not None and weights in NAMED_WEIGHTS else weights
    return Loaded(model, preprocessing, report, source, content)


def model_for(config: RunConfig, num_classes: int) -> Loaded:
    """The model that a run of these settings trains."""
    return build_model(
        config.model,
        num_classes=num_classes,
        weights=config.weights,
        image_size=config.image_size,
        crop_pct=config.crop_pct,
        mean=config.mean,
        std=config.std,
        interpolation=config.interpolation,
        weights_key=config.weights_key,
        drop_path=config.drop_path,
        freeze=config.freeze,
        head_init=config.head_init,
        seed=config.seed,
        grad_checkpointing=config.grad_checkpointing,
        lora_rank=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_targets=config.lora_targets,
    )


def new_model(
    architecture: Architecture, image_size: int, num_classes: int, head_init: str, seed: int
) -> VisionTransformer:
    """New weights that depend on the seed alone. The global random state does not change."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed the GPUs
        model = VisionTransformer(
            image_size=image_size,
            patch_size=architecture.patch_size,
            num_layers=architecture.num_layers,
            num_heads=architecture.num_heads,
            hidden_dim=architecture.hidden_dim,
            mlp_dim=architecture.mlp_dim,
            num_classes=num_classes,
        )
        if head_init == "default":  # torchvision's head is zero, as in the paper
            model.heads.head = nn.Linear(architecture.hidden_dim, num_classes)
    pack_attention(model)
    return model


def _load_file(model: nn.Module, name: str, path: Path, key: str | None) -> tuple[str, ...]:
    """Load a weights file of any known naming. An error names the file, and the --model that the file is for."""
    if is_timm(name):
        from harness.model.timm_weights import load_timm_file  # timm is an extra, and slow to import

        return load_timm_file(model, name, path, key)
    file = read_weights(path, key)
    try:
        state, renamed = to_torchvision(file.state)
        check_architecture(state, name, description_of(path).num_heads)
        return (f"{name} takes its weights from {path}.", *file.notes, *renamed, *load_into(model, state))
    except WeightsError as error:
        raise WeightsError(f"{path}: {problem}" for problem in error.problems) from error


def _norm_eps_beside(name: str, path: Path) -> float | None:
    """What the layer norms of a weights file add to the variance, if its metadata or the files beside it say so."""
    own = read_metadata(path).get("norm_eps")  # a run's checkpoint
    try:
        return checked_norm_eps(json.loads(own)) if own else description_for(name, path).norm_eps
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: 'norm_eps' in its metadata cannot be used ({error}).") from error
