"""What all trials of a sweep have in common, as the study stores it, and how a changed sweep file differs from it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

import optuna
import yaml
from optuna.distributions import check_distribution_compatibility

from harness import recipes
from harness.config import RunConfig
from harness.errors import ConfigError
from harness.runs.rules import printable
from harness.settings.option import option_name
from harness.sweep.search.samplers import distribution_of
from harness.sweep.search.settings import Search
from harness.sweep.spec.distributions import Parameter
from harness.sweep.spec.metric import read_metric
from harness.sweep.spec.sweep_file import Sweep, parse_sweep

ANOTHER_NAME = (
    "For a separate sweep, rename the file or set `name:` in it; `--reuse FOLDER` takes over the results of this one."
)

# In place of the name of a setting: the seed that a random search draws settings with.
SEARCH_SEED = "search seed"


@dataclasses.dataclass(frozen=True)
class Definition:
    """The parts of a sweep that its trials share."""

    method: str
    metric: str
    varied: tuple[str, ...]  # settings with a distribution
    fixed: Mapping[str, Any]  # computed settings that are the same in all trials; of a random search, also its seed

    @classmethod
    def of(cls, sweep: Sweep, search: Search, computed: Iterable[Mapping[str, Any]]) -> Definition:
        """The definition of a sweep file; `computed` are the computed settings of its trials."""
        varied = tuple(parameter.name for parameter in sweep.parameters if parameter.distribution != "constant")
        fixed = {name: value for name, value in common(computed).items() if name not in varied}
        if sweep.method == "random":
            fixed[SEARCH_SEED] = search.seed
        return cls(sweep.method, sweep.metric.name, varied, fixed)

    def differences(self, new: Definition) -> dict[str, tuple[Any, Any]]:
        """Old and new value of each setting that is fixed in both definitions and differs."""
        names = [name for name in self.fixed if name in new.fixed and name not in (*self.varied, *new.varied)]
        return {name: (self.fixed[name], new.fixed[name]) for name in names if self.fixed[name] != new.fixed[name]}


def common(computed: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Settings that are equal in all of these computed settings, which leave out values of earlier versions."""
    earlier = {field.name: field.metadata["earlier"] for field in dataclasses.fields(RunConfig)}
    values: dict[str, list[Any]] = {}
    for settings in computed:
        for name in (*settings, *(name for name in earlier if name not in settings)):
            value = settings.get(name, earlier[name])
            if isinstance(value, str | int | float | bool | None) and value not in values.setdefault(name, []):
                values[name].append(value)
    return {name: found[0] for name, found in values.items() if len(found) == 1}


def stored_definition(study: optuna.Study) -> Definition | None:
    """The definition in a study; None in one of an earlier version, or one that has just been created."""
    stored = study.user_attrs.get("definition")
    return Definition(**stored | {"varied": tuple(stored["varied"])}) if stored else None


def store_definition(study: optuna.Study, sweep: Sweep, search: Search, definition: Definition) -> None:
    """Store a definition with the sweep file that it is of, as far as they differ from what the study has."""
    attributes = {
        "sweep": sweep.text,
        "overrides": list(sweep.overrides),
        "search": dataclasses.asdict(search),
        "default_recipe": recipes.DEFAULT,
        "definition": json.loads(json.dumps(dataclasses.asdict(definition))),
    }
    stored = study.user_attrs
    for name, value in attributes.items():
        if stored.get(name) != value:
            study.set_user_attr(name, value)


def begun_sweep(study: optuna.Study, sweep: Sweep) -> Sweep:
    """The sweep file that a study was begun with. Raises ConfigError if it is not valid any more."""
    stored = study.user_attrs
    begun = parse_sweep(stored["sweep"], sweep.path, stored["overrides"])
    default = stored.get("default_recipe", recipes.BEFORE_RECIPES)
    if default == recipes.DEFAULT:
        return begun
    program = begun.command.index("${program}") + 1
    command = (*begun.command[:program], f"--recipe={default}", *begun.command[program:])
    return dataclasses.replace(begun, command=command)


def earlier_search(study: optuna.Study) -> tuple[str, str]:
    """Method and metric of a ledger of an earlier version."""
    content = yaml.safe_load(study.user_attrs["sweep"])
    return content["method"], read_metric(content.get("metric"), content["method"]).name


def refuse_other_search(study: optuna.Study, sweep: Sweep, definition: Definition | None) -> None:
    """Raises ConfigError if the trials of a study cannot be those of this sweep file."""
    default = study.user_attrs.get("default_recipe", recipes.BEFORE_RECIPES)
    word = f"--recipe={default}"
    if default != recipes.DEFAULT and word not in (*sweep.command, *sweep.overrides):
        raise ConfigError(
            f"{sweep.path}: the sweep {sweep.name} was begun with an earlier version, whose defaults are now those of "
            f"{word}. Add `- {word}` to `command`, before `${{args}}`, to resume it; or give the file another name."
        )
    method, metric = (definition.method, definition.metric) if definition else earlier_search(study)
    for key, begun, now in (("method", method, sweep.method), ("metric", metric, sweep.metric.name)):
        if begun != now:
            raise ConfigError(
                f"{sweep.path}: the sweep {sweep.name} was begun with {key} {begun}, and {key} is now {now}, which a "
                f"sweep cannot change. {ANOTHER_NAME}"
            )
    if sweep.method == "bayes":
        if (repeats := study.user_attrs["search"].get("repeats", 1)) != sweep.repeats:
            raise ConfigError(
                f"{sweep.path}: the Bayesian search {sweep.name} was begun with --repeats {repeats}, and has "
                f"--repeats {sweep.repeats} now. It learns from means over as many seeds, so it cannot change their "
                f"number. {ANOTHER_NAME}"
            )
        problems = [problem for parameter in sweep.parameters if (problem := _incompatible(study, parameter))]
        if problems:
            raise ConfigError(f"{sweep.path}: {problem} {ANOTHER_NAME}" for problem in problems)


def refuse_differences(sweep: Sweep, differences: Mapping[str, tuple[Any, Any]], new_trials: int) -> None:
    """Raises ConfigError: all trials of the file compute something else than those of the ledger."""
    lines = [f"  {_name(name)}: {_value(name, old)} -> {_value(name, new)}" for name, (old, new) in differences.items()]
    if sweep.method == "bayes":
        remedy = "A Bayesian search learns from all of its trials, so they must compute the same."
    else:
        remedy = (
            f"To run its {new_trials} trial{'s' * (new_trials != 1)} as new ones and keep the earlier results beside "
            "them, repeat the command with --accept."
        )
    raise ConfigError(
        f"{sweep.path}: the sweep {sweep.name} has already begun, and all trials of the file now compute something "
        "else:\n" + "\n".join(lines) + f"\n{remedy} {ANOTHER_NAME} To resume, undo this change."
    )


def _incompatible(study: optuna.Study, parameter: Parameter) -> str:
    """Why Optuna cannot store values of a parameter beside those that the study has; empty if it can."""
    trials = study.get_trials(deepcopy=False)
    distributions = (trial.distributions for trial in trials)
    stored = next((stored[parameter.name] for stored in distributions if parameter.name in stored), None)
    if stored is None or not parameter.varies:
        return ""
    try:
        check_distribution_compatibility(stored, distribution_of(parameter, "bayes"))
    except ValueError:
        what = "`values`" if parameter.values else "kind of distribution"
        return f"parameters.{parameter.name}: a Bayesian search that has begun cannot change the {what} of a setting."
    return ""


def _name(name: str) -> str:
    names = {"data": "the images, classes or splits of --data", SEARCH_SEED: "--seed of `harness sweep run`"}
    return names.get(name) or option_name(name)


def _value(name: str, value: Any) -> str:
    is_digest = name in ("data", "weights") and len(str(value)) == 64
    return f"fingerprint {value[:8]}" if is_digest else printable(value)
