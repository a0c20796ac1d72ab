"""`--repeats N`: every point of a sweep with the seeds 0 to N - 1, as with `seed: {values: [0, ..., N - 1]}`."""

from __future__ import annotations

import dataclasses

from harness.errors import ConfigError
from harness.sweep.spec import command as commands
from harness.sweep.spec.distributions import Parameter
from harness.sweep.spec.sweep_file import Sweep

SEED = "seed"


def with_repeats(sweep: Sweep, repeats: int) -> Sweep:
    """The sweep with each point repeated. Raises ConfigError if it sets the seed itself.

    In a grid the seed is one more parameter. A random or Bayesian search chooses a point once and runs it with every
    seed; the latter learns from the means.
    """
    if repeats == 1:
        return sweep
    check_seed_is_free(sweep, f"--repeats {repeats}")
    seed = Parameter(SEED, "categorical", values=tuple(range(repeats)))
    parameters = tuple(sorted((*sweep.parameters, seed), key=lambda parameter: parameter.name))
    run_cap = sweep.run_cap and sweep.run_cap * repeats  # it counts points
    return dataclasses.replace(sweep, parameters=parameters, repeats=repeats, run_cap=run_cap)


def check_seed_is_free(sweep: Sweep, option: str) -> None:
    """Raises ConfigError if the file or the command line sets the seed, which the option is to vary."""
    places = {
        "under `parameters`": {parameter.name for parameter in sweep.parameters},
        "in `command`": commands.named_settings(commands.run_words(sweep.command, {})),
        "by --seed after `--`": commands.named_settings(sweep.overrides),
    }
    for place, names in places.items():
        if SEED in names:
            raise ConfigError(
                f"{sweep.path}: {option} sets the seed, which is also set {place}. Remove one of the two."
            )
