"""Vision Transformers by name: the model ready to train, with its weights loaded."""

from __future__ import annotations

import dataclasses

from torch import nn

from harness.config import RunConfig
from harness.model import adapter
from harness.model.architectures import entry_of
from harness.model.description import stated_norm_eps
from harness.model.drop_path import add_drop_path
from harness.model.grad_checkpointing import enable_grad_checkpointing
from harness.model.lora import add_lora
from harness.model.new_model import new_model
from harness.model.norm_eps import norm_eps, set_norm_eps
from harness.model.preprocessing import Preprocessing, assumptions, preprocessing_of, timm_assumptions
from harness.model.pretrained import weights_path
from harness.model.shards import digest
from harness.model.timm_model import batch_norms_kept
from harness.model.weights import load_file
from harness.settings.model import NAMED_WEIGHTS


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A model ready to train, and where its weights come from."""

    model: nn.Module
    preprocessing: Preprocessing
    report: tuple[str, ...]  # sentences: what was loaded, left out, resized, assumed
    source: str
    weights_digest: str | None  # SHA-256 of the weights file; the key and what its layer norms add, if given


def build_model(config: RunConfig, num_classes: int) -> Loaded:
    """The model that a run of these settings trains, with its weights and its head, on the CPU in float32."""
    name, weights = config.model, config.weights
    preprocessing = preprocessing_of(config)
    path = weights_path(name, weights)
    model = new_model(name, preprocessing.crop_size, num_classes, config.head_init, config.seed)
    if path is None:
        report: tuple[str, ...] = (f"No pretrained weights: {name} starts from new ones, seed {config.seed}.",)
        content = None
    else:
        report = load_file(model, name, path, config.weights_key)
        content = digest(path) + (f" {config.weights_key}" if config.weights_key else "")
        if weights not in NAMED_WEIGHTS:
            eps = stated_norm_eps(path, entry_of(name).pool)
            if eps is not None and eps != norm_eps(model):
                set_norm_eps(model, eps)
                content += f" eps {eps:g}"  # it need not stand in the weights file itself
                report += (f"Its layer norms add {eps:g} to the variance, as the file or config.json beside it says.",)
            report += assumptions(config, path)
    if weights == "pretrained":
        report += timm_assumptions(name)
    report += batch_norms_kept(model)
    if config.freeze == "backbone":
        model.requires_grad_(False)
        adapter.parts(model).head.requires_grad_(True)
    if config.lora_rank:
        report += (add_lora(model, config.lora_rank, config.lora_alpha, config.lora_targets, config.seed),)
    if config.drop_path > 0:
        add_drop_path(model)
    if config.grad_checkpointing:
        enable_grad_checkpointing(model)
    source = f"{weights} ({path.name})" if path is not None and weights in NAMED_WEIGHTS else weights
    return Loaded(model, preprocessing, report, source, content)
