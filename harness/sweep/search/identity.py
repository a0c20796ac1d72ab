"""The identity of a trial: what it computes, wherever its files lie and whatever its sweep file looks like."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.config import RunConfig
from harness.data.image_folder import fingerprint, load_image_folder
from harness.errors import ConfigError
from harness.settings.imbalance import NAMED_CLASS_WEIGHTS
from harness.settings.model import NAMED_WEIGHTS
from harness.sweep.spec.sweep_file import Sweep
from reports.runs import Run


@dataclasses.dataclass(frozen=True)
class Contents:
    """Fingerprints of the files that runs read. A file that is not listed is identified by its path."""

    data: Mapping[Hashable, str] = dataclasses.field(default_factory=dict)  # by data_key
    # SHA-256, and what layer norms add if that is not what the model's own add, by weights_key.
    weights: Mapping[Hashable, str] = dataclasses.field(default_factory=dict)


def read_contents(configs: Iterable[RunConfig]) -> Contents:
    """The fingerprints of the data and the weights files of these configs. Raises HarnessError for unusable ones."""
    data: dict[Hashable, str] = {}
    weights: dict[Hashable, str] = {}
    hash_of = functools.cache(_hash_of)  # models may share a file
    for config in configs:
        if (key := data_key(config)) not in data:
            folder = load_image_folder(config)
            data[key] = fingerprint(folder, folder.digests)
        if config.weights not in NAMED_WEIGHTS and (key := weights_key(config)) not in weights:
            weights[key] = _digest(_absolute(config.weights), config.model, hash_of)
    return Contents(data, weights)


def recorded_contents(config: RunConfig, manifest: Mapping[str, Any]) -> Contents:
    """The fingerprints that a run's manifest records."""
    data, weights = (manifest.get(name) or {} for name in ("data", "weights"))
    # --weights-key stands after the digest; it is a setting by itself.
    digest, _, added = str(weights.get("digest") or "").partition(" ")
    eps = added.removeprefix(f"{config.weights_key} ")
    return Contents(
        {data_key(config): data["fingerprint"]} if data.get("fingerprint") else {},
        {weights_key(config): f"{digest} {eps}" if eps.startswith("eps ") else digest} if digest else {},
    )


def data_key(config: RunConfig) -> Hashable:
    """Equal for configs that read the same splits of the same folder."""
    return (_absolute(config.data), config.split_seed, config.split_fraction, config.split_group)


def weights_key(config: RunConfig) -> Hashable:
    """Equal for configs that read the same file or folder of weights for the same model."""
    return (_absolute(config.weights), config.model)


def computed_settings(config: RunConfig, contents: Contents) -> dict[str, Any]:
    """The settings that decide the result of a run, with the contents of its files in place of their paths."""
    settings = {name: value for name, value in config.identity_settings.items() if name != "name"}
    settings["data"] = contents.data.get(data_key(config), _absolute(config.data))
    if config.weights not in NAMED_WEIGHTS:
        settings["weights"] = contents.weights.get(weights_key(config), _absolute(config.weights))
    if config.class_weights not in NAMED_CLASS_WEIGHTS:
        settings["class_weights"] = _absolute(config.class_weights)
    return settings


def identity_of(settings: Mapping[str, Any]) -> str:
    """Sixteen hex digits of these computed settings. Ten thousand trials share one by chance once in 4e11 sweeps."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def identity(config: RunConfig, contents: Contents) -> str:
    return identity_of(computed_settings(config, contents))


def run_settings(run: Run) -> dict[str, Any] | None:
    """The computed settings of a run folder; None if its config cannot be read, or it does not record its data."""
    try:
        config = RunConfig.from_dict(run.config)
    except (ConfigError, TypeError):
        return None
    contents = recorded_contents(config, run.manifest)
    return computed_settings(config, contents) if contents.data else None


def numbered(identities: Iterable[str]) -> list[str]:
    """Keys of trials: their identities, numbered where random points repeat one (as W&B's do)."""
    counts: Counter[str] = Counter()
    keys = []
    for key in identities:
        counts[key] += 1
        keys.append(key if counts[key] == 1 else f"{key}#{counts[key]}")
    return keys


def point_identity(sweep: Sweep, point: Mapping[str, Any], contents: Contents) -> str:
    """The identity of the trial at a point; of invalid settings, one that no run has."""
    try:
        return identity(sweep.config(point), contents)
    except ConfigError:
        return f"invalid-{identity_of(point)}"


def _digest(path: str, model: str, hash_of: Callable[[Path], str]) -> str:
    """SHA-256 of a weights file, or of those that a folder or an index names: what a run's manifest records.

    What its layer norms add follows if it is not what the model's own add, because another file may say it.
    """
    from harness.model.architectures import entry_of
    from harness.model.description import stated_norm_eps
    from harness.model.weights_file import check_file  # imports torch

    file = check_file(path)
    eps = stated_norm_eps(file, entry_of(model).pool)
    return hash_of(file) if eps is None or eps == _own_norm_eps(model) else f"{hash_of(file)} eps {eps:g}"


def _hash_of(file: Path) -> str:
    from harness.model.shards import digest

    return digest(file)


def _own_norm_eps(model: str) -> float | None:
    import torch

    from harness.model.new_model import new_model
    from harness.model.norm_eps import norm_eps

    with torch.device("meta"):
        return norm_eps(new_model(model, None, num_classes=1))


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().resolve())
