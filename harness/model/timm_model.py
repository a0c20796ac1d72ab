"""timm's Vision Transformers by name: checked, built, described; their pretrained weights. timm is an extra."""

from __future__ import annotations

import difflib
import functools
import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.errors import ConfigError, WeightsError, first_line
from harness.model.timm_catalog import TIMM, CatalogEntry, base_name, is_timm, listed_models, timm_model
from harness.model.weights_file import FOLDER_NAMES
from harness.time_limit import call_with_timeout

INSTALL = "pip install 'vit-harness[timm]'"
REACH_TIMEOUT = 10  # seconds to wait for a server's answer that it has a file


def check_model_name(model: str) -> None:
    """ConfigError if timm is missing, does not have the model, or the model is of a kind that is refused.

    Names of other models are checked by the settings.
    """
    if not is_timm(model):
        return
    _check_known(model)  # the table may be of another timm than the one that is installed
    import timm

    name = model.removeprefix(TIMM)
    reason = described(model).refused
    if "." in name and name not in (tagged := timm.list_pretrained(f"{base_name(model)}.*")):
        tags = ", ".join(tagged) or "none"
        raise ConfigError(f"--model {model}: timm has no weights of this tag. Names with a tag: {tags}.")
    if reason:
        raise ConfigError(f"--model {model} is not supported: {reason}. `harness models` lists the models that are.")


def _check_known(model: str) -> None:
    """ConfigError if timm is missing or has no such model."""
    if importlib.util.find_spec("timm") is None:
        raise ConfigError(f"--model {model} needs timm, which is not installed: {INSTALL}")
    import timm

    name = base_name(model)
    if not timm.is_model(name):
        similar = difflib.get_close_matches(name, [each.name for each in listed_models() if each.name != name], 3)
        hint = f" Similar names: {', '.join(similar)}." if similar else ""
        raise ConfigError(
            f"--model {model}: timm {timm.__version__} has no model {name}.{hint} `harness models` lists the names."
        )


@functools.cache
def described(model: str) -> CatalogEntry:
    """A model's entry in the table, or one made from the model. ConfigError for an unknown name."""
    if known := timm_model(model):
        return known
    _check_known(model)
    return describe(base_name(model))


def describe(name: str) -> CatalogEntry:
    """What the table holds of one of timm's models."""
    import timm

    from harness.model import adapter
    from harness.model.timm_parts import refusal

    with torch.device("meta"):
        model = timm.create_model(name, num_classes=0)
    refused, stem = refusal(model), getattr(model, "patch_embed", None)
    height, width = model.pretrained_cfg["input_size"][1:]
    positions = "none" if getattr(model, "pos_embed", None) is None else "learned"
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if refused:
        blocks, prefix, patch, relative, pool = len(getattr(model, "blocks", ())), 0, 0, False, ""
    else:
        assert stem is not None
        parts = adapter.parts(model)
        blocks, prefix, relative = len(parts.blocks), parts.layout.prefix, parts.relative_positions
        pool = model.global_pool
        patch = stem.img_size[0] // stem.grid_size[0]
        positions = "stem" if hasattr(stem, "backbone") else positions
    return CatalogEntry(
        name=name,
        parameters=parameters,
        image_size=height if height == width else 0,
        patch_size=patch,
        blocks=blocks,
        prefix=prefix,
        pool=pool,
        positions=positions,
        relative=relative,
        licence=model.pretrained_cfg.get("license") or "",
        refused=refused,
    )


def weights_entry(model: str) -> dict[str, Any]:
    """timm's pretrained_cfg of a name, with or without a tag: where its weights are, how its images are prepared."""
    import timm

    entry = timm.get_pretrained_cfg(model.removeprefix(TIMM))
    return entry.to_dict() if entry else {}


def new_timm_model(model: str, image_size: int | None, num_classes: int, head_init: str) -> nn.Module:
    """New weights of torch's default generator; the head is zero unless `head_init` is default."""
    import timm

    built = as_trained(timm.create_model(base_name(model), num_classes=num_classes, img_size=image_size))
    if head_init == "default":
        built.head.reset_parameters()
    else:
        nn.init.zeros_(built.head.weight)
        nn.init.zeros_(built.head.bias)
    return built


def check_timm_build(model: str, image_size: int, lora_targets: str | None) -> None:
    """ConfigError if timm cannot build the model for images of this size, or LoRA would adapt nothing in it."""
    import timm

    from harness.model.lora import adapted_weights

    try:
        with torch.device("meta"):
            built = timm.create_model(base_name(model), num_classes=0, img_size=image_size)
    except (AssertionError, ValueError, RuntimeError) as error:  # each family has its own checks of the size
        raise ConfigError(
            f"--model {model}: timm {timm.__version__} cannot build it for images of {image_size} pixels ({error}). "
            "Give another --image-size."
        ) from error
    if lora_targets:
        adapted_weights(built, lora_targets)


def as_trained(model: nn.Module) -> Any:
    """A model of timm without what resuming and other numbers of processes would change, and with one head.

    Dropout inside relative positions and the scaling of rotary ones are turned off: a resumed run could not draw the
    same numbers again. Drop path draws for each image elsewhere. Batch norms keep their statistics: an image's result
    would otherwise depend on the images that share its batch, and its part of the batch.
    """
    from timm.layers import freeze_batch_norm_2d

    from harness.model.distilled import with_one_head

    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif getattr(module, "aug_active", False):
            module.aug_active = False  # type: ignore[assignment]
    return with_one_head(freeze_batch_norm_2d(model))


def batch_norms_kept(model: nn.Module) -> tuple[str, ...]:
    """A sentence if a model has batch norms that are not trained."""
    count = sum(type(module).__name__.startswith("FrozenBatchNorm") for module in model.modules())
    if not count:
        return ()
    return (f"The {count} batch norms of its stem keep their statistics, scales and offsets: they are not trained.",)


def pretrained_file(model: str) -> Path:
    """The file of the pretrained weights, from the cache or the hub of Hugging Face.

    WeightsError if it cannot be downloaded, with the file to fetch by hand.
    """
    from huggingface_hub import hf_hub_download

    repository, revision, names = _on_hub(model)
    problems = []
    for name in names:
        try:
            return Path(hf_hub_download(repository, name, revision=revision))
        except Exception as error:  # the hub's client raises many kinds, of the network, of access, of the cache
            problems.append(error)
    first = problems[0]  # of the name that most repositories have
    raise _not_here(model, repository, names[0], f"could not be downloaded ({first_line(first)})") from first


def check_pretrained(model: str) -> None:
    """The same error if the file is neither in the cache nor on the hub; nothing is downloaded."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    repository, revision, names = _on_hub(model)
    if any(isinstance(try_to_load_from_cache(repository, name, revision=revision), str) for name in names):
        return

    def ask() -> None:
        problem: Exception | None = None
        for name in names:
            try:
                get_hf_file_metadata(hf_hub_url(repository, name, revision=revision), timeout=REACH_TIMEOUT)
                return
            except EntryNotFoundError as error:  # any other error holds for the next name, too
                problem = problem or error
        if problem:
            raise problem

    try:  # the timeout of a request does not cover the lookup of the server's name
        call_with_timeout(2 * REACH_TIMEOUT, ask)
    except Exception as error:  # as above
        raise _not_here(model, repository, names[0], f"were not found on the hub ({first_line(error)})") from error


def _on_hub(model: str) -> tuple[str, str | None, tuple[str, ...]]:
    """The repository of the pretrained weights, its revision, and the names that their file may have."""
    entry = weights_entry(model)
    repository, name = entry.get("hf_hub_id"), entry.get("hf_hub_filename")
    if not repository:
        raise ConfigError(
            f"--weights pretrained: there are none for {model} on the hub; give --weights none or a weights file."
        )
    repository, _, revision = repository.partition("@")
    return repository, revision or None, (name,) if name else FOLDER_NAMES


def _not_here(model: str, repository: str, name: str, problem: str) -> WeightsError:
    return WeightsError(
        f"--weights pretrained: the weights of {model} are not on this machine and {problem}. "
        f"Download {name} from https://huggingface.co/{repository} and give it with --weights FILE."
    )
