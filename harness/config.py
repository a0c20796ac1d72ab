"""RunConfig: the one list of hyperparameters. Command line, `config.json`, W&B config and help derive from it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.errors import ConfigError
from harness.files import expanded
from harness.recipes import BEFORE_RECIPES, DEFAULT, RECIPES, Derived
from harness.run_name import sweep_run_name, swept_settings
from harness.settings.augmentation import AugmentationSettings
from harness.settings.compute import ComputeSettings, compute_problems
from harness.settings.data import DataSettings, data_problems
from harness.settings.imbalance import NAMED_CLASS_WEIGHTS, ImbalanceSettings, imbalance_problems
from harness.settings.model import NAMED_WEIGHTS, ModelSettings, check_weights_path, model_problems
from harness.settings.optimisation import OptimisationSettings, optimisation_problems
from harness.settings.option import option_name, value_problem, value_type
from harness.settings.recipe import RecipeSettings
from harness.settings.run import RunSettings, run_problems

# The headings of the help, in its order.
GROUPS = {
    "Recipe": RecipeSettings,
    "Data": DataSettings,
    "Augmentation": AugmentationSettings,
    "Model": ModelSettings,
    "Optimisation": OptimisationSettings,
    "Class imbalance": ImbalanceSettings,
    "Compute": ComputeSettings,
    "Run": RunSettings,
}


# A dataclass has the fields of its last base first.
@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(
    RunSettings,
    ComputeSettings,
    ImbalanceSettings,
    OptimisationSettings,
    ModelSettings,
    AugmentationSettings,
    DataSettings,
    RecipeSettings,
):
    """Every setting of one run, each in its group's file. Values derived from them are local variables where used.

    A setting of the recipe that is None, or left out, takes the recipe's value.
    """

    def __post_init__(self) -> None:
        # An unknown recipe is reported below, together with the other problems.
        recipe = RECIPES[self.recipe if self.recipe in list(RECIPES) else DEFAULT]
        missing = {name: value for name, value in recipe.items() if getattr(self, name) is None}
        derived = {name: value for name, value in missing.items() if isinstance(value, Derived)}
        for name in missing.keys() - derived.keys():
            object.__setattr__(self, name, missing[name])
        fields = [field for field in dataclasses.fields(self) if field.name not in derived]
        for field in fields:
            value = getattr(self, field.name)
            if value_type(field)[0] is float and type(value) is int and value.bit_length() <= 64:
                object.__setattr__(self, field.name, float(value))
        problems = [problem for field in fields if (problem := value_problem(field, getattr(self, field.name)))]
        if not problems:  # derived values need valid ones
            for name, default in derived.items():
                object.__setattr__(self, name, default.of(vars(self)))
            problems = [
                *self._home_problems(),
                *data_problems(self),
                *model_problems(self),
                *optimisation_problems(self),
                *imbalance_problems(self, self.shuffle),
                *compute_problems(self),
                *run_problems(self),
            ]
        if problems:
            raise ConfigError(problems)

    def _home_problems(self) -> Iterator[str]:
        """A path may begin with the home folder of a user, ~ or ~anna, which must be known."""
        for name in ("data", "cache_dir", "runs_dir", "weights", "class_weights"):
            try:
                expanded(getattr(self, name) or "")
            except ConfigError as error:
                yield f"{option_name(name)} {error}"

    @property
    def run_name(self) -> str:
        """`name`; in a sweep what it sets, `ema=true_lr=1e-05_s0`; else `lr1e-05_bs16_none_s0`."""
        if self.name:
            return self.name
        if swept := swept_settings():
            return sweep_run_name(vars(self), [name for name in swept if name not in self._without_effect])
        return f"lr{self.lr:g}_bs{self.batch_size}_{self.augment}_s{self.seed}"

    @property
    def identity(self) -> str:
        """Eight hex digits that two runs share when they compute the same thing from the same folder."""
        return hashlib.sha256(json.dumps(self.identity_settings, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def identity_settings(self) -> dict[str, Any]:
        """The settings that the identity depends on, without those that act as in versions that did not have them."""
        return {
            field.name: value
            for field in dataclasses.fields(self)
            if field.metadata["identity"]
            and field.name not in self._without_effect
            and (value := getattr(self, field.name)) != field.metadata["earlier"]
        }

    @property
    def _without_effect(self) -> tuple[str, ...]:
        """Settings that change nothing beside the others: two runs that differ in them compute the same."""
        return () if self.lora_rank else ("lora_alpha", "lora_targets")

    def differences(self, other: RunConfig) -> list[str]:
        """Names of settings in which two runs compute something else; data and weights are compared by content."""
        return [
            field.name
            for field in dataclasses.fields(self)
            if field.metadata["identity"]
            and field.name not in ("data", "weights", "name")
            and not (field.name in self._without_effect and field.name in other._without_effect)
            and getattr(self, field.name) != getattr(other, field.name)
        ]

    def resolved(self) -> RunConfig:
        """The same settings with every path absolute, so that they mean the same from any working directory."""
        paths: dict[str, Any] = {name: _absolute(getattr(self, name)) for name in ("data", "cache_dir", "runs_dir")}
        if self.weights not in NAMED_WEIGHTS:
            # Checked only here: a checkpoint stays usable after its initial weights file is deleted.
            check_weights_path(self.weights)
            paths["weights"] = _absolute(self.weights)
        if self.class_weights not in NAMED_CLASS_WEIGHTS:
            paths["class_weights"] = _absolute(self.class_weights)
        return dataclasses.replace(self, **paths)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunConfig:
        """The config of a saved run, also of a version without recipes; ConfigError names unknown keys."""
        fields = {field.name: field for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - set(fields)):
            raise ConfigError(f"unknown settings {', '.join(unknown)}: written by another version of this program?")
        if empty := [name for name, value in values.items() if value is None and fields[name].metadata["by_recipe"]]:
            raise ConfigError(f"{option_name(name)} is None; a saved run has a value." for name in empty)
        return cls(**{"recipe": BEFORE_RECIPES} | dict(values))


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).expanduser().resolve())
