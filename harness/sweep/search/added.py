"""The settings of a point that is added by hand, from words of a command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.errors import ConfigError
from harness.options import parse
from harness.settings.option import option_name
from harness.sweep.spec.command import named_settings, run_words
from harness.sweep.spec.parameter_entries import NOT_SWEPT
from harness.sweep.spec.sweep_file import Sweep


def added_point(sweep: Sweep, words: Sequence[str]) -> dict[str, Any]:
    """The settings of the point that these words name. Raises ConfigError for one that the sweep cannot run."""
    named = named_settings(words)
    if refused := sorted(named & set(NOT_SWEPT)):
        raise ConfigError(f"{option_name(name)} cannot be given for a trial: {NOT_SWEPT[name]}." for name in refused)
    constants = {parameter.name: parameter.values[0] for parameter in sweep.parameters if not parameter.varies}
    missing = [p.name for p in sweep.parameters if p.varies and p.name not in named]
    if missing or not named:
        options = " ".join(f"{option_name(name)} VALUE" for name in missing)
        raise ConfigError(f"Give the settings that the file varies after `--`: {options or '--lr 3e-4, for example'}.")
    config = parse([*run_words(sweep.command, constants), *sweep.overrides, *words])
    settings = constants | {name: getattr(config, name) for name in sorted(named)}
    computed = sweep.config(settings)
    if fixed := [name for name in sorted(named) if getattr(computed, name) != getattr(config, name)]:
        raise ConfigError(
            f"{option_name(name)} cannot be given: `command` sets it after ${{args}}, or it was given for all trials."
            for name in fixed
        )
    return dict(sorted(settings.items()))
