"""Command-line options made from RunConfig, and a config parsed from a command line."""

from __future__ import annotations

import dataclasses
import functools
import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click
from click.core import ParameterSource

from harness.config import GROUPS, RunConfig
from harness.errors import ConfigError, errors_in_words, printable
from harness.recipes import default_text
from harness.run_name import agent_settings
from harness.settings.option import allowed_words, option_name, value_type

# Extra arguments for every run of a sweep; they come last, so they override the sweep file.
SWEEP_ARGS = "HARNESS_SWEEP_ARGS"

SETTINGS: dict[str, Any] = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": 110,
    # W&B passes a swept key as the YAML spells it: --batch_size=16 means --batch-size=16.
    "token_normalize_func": lambda token: token.replace("_", "-"),
}


class GroupedCommand(click.Command):
    """A command whose help lists the options of RunConfig under their group's heading."""

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        groups = {
            option_name(field.name): title for title, group in GROUPS.items() for field in dataclasses.fields(group)
        }
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(context):
            if (record := parameter.get_help_record(context)) is not None:
                sections.setdefault(groups.get(parameter.opts[0], "Command"), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


class BooleanOrWord(click.ParamType):
    """True or False where Click reads a boolean, else the word, which RunConfig checks."""

    name = "boolean"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bool | str:
        try:
            return bool(click.BOOL.convert(value, param, ctx))
        except click.BadParameter:
            return str(value)


class RunCommand(GroupedCommand):
    """The command of a run. In a sweep, HARNESS_SWEEP_ARGS is appended to its arguments."""

    def invoke(self, context: click.Context) -> Any:
        with errors_in_words():
            return super().invoke(context)

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        try:
            added = sweep_words() if "WANDB_SWEEP_ID" in os.environ else []
        except ConfigError as error:
            raise click.UsageError(str(error), context) from None
        words = [*args, *added]
        try:
            return super().parse_args(context, list(words))
        except click.MissingParameter as error:
            unnamed = self.make_parser(context).parse_args(words)[1]
            if error.param and error.param.name == "data" and unnamed:
                hint = f"Did you mean --data {shlex.quote(printable(unnamed[0]))}?"
                raise click.MissingParameter(hint, context, error.param) from None
            raise


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """One Click option per field of RunConfig. Booleans take a value, because W&B passes `--ema=True`."""
    for field in reversed(dataclasses.fields(RunConfig)):
        kind, _ = value_type(field)
        required = field.default is dataclasses.MISSING
        settings: dict[str, Any] = {"type": kind, "help": help_text(field)}
        if words := allowed_words(field):
            # Not click.Choice: RunConfig checks all values, so that all problems are reported together.
            settings["metavar"] = f"[{'|'.join(words)}]"
        if kind is bool:
            # `--ema` alone is `--ema true`.
            settings |= {"type": BooleanOrWord() if words else kind, "is_flag": False, "flag_value": True}
        if required:
            settings["required"] = True
        else:
            settings |= {"default": field.default, "show_default": field.default is not None}
        command = click.option(option_name(field.name), field.name, **settings)(command)
    # W&B agents add this option to requeued runs.
    return click.option("--_wandb", "wandb_internal", hidden=True, expose_value=False)(command)


def help_text(field: dataclasses.Field[Any]) -> str:
    """The help of an option; with the default of each recipe if the recipe decides it."""
    text: str = field.metadata["help"]
    return f"{text}  [default: {default_text(field.name)}]" if field.metadata["by_recipe"] else text


def arguments(config: RunConfig) -> list[str]:
    """The command line that gives this config: the settings of its recipe, and all others that are not the default.

    The values of a recipe may change in a later version; the command line still means this config then.
    """
    fields = dataclasses.fields(config)
    return words_of(config, [field.name for field in fields if getattr(config, field.name) != field.default])


def words_of(config: RunConfig, names: Iterable[str]) -> list[str]:
    """These settings as words of a command line: --lr=0.0001."""
    return [f"{option_name(name)}={getattr(config, name)}" for name in names]


def sweep_words() -> list[str]:
    """The arguments in HARNESS_SWEEP_ARGS; ConfigError if they cannot be split."""
    text = os.environ.get(SWEEP_ARGS, "")
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigError(
            f"{SWEEP_ARGS} is {text!r}, which cannot be split into words as a shell does ({error}). Give options such "
            "as --data 'my images' --model vit_ti_16."
        ) from None


def overridden() -> dict[str, Any]:
    """Settings that HARNESS_SWEEP_ARGS overrides, with the value that the W&B agent chose."""
    if not (entries := agent_settings()) or not (words := sweep_words()):
        return {}
    context = _settings.make_context(SWEEP_ARGS, words, resilient_parsing=True)
    given = {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    values = {name: entry.get("value") for name, entry in entries.items() if isinstance(entry, dict)}
    return {name: value for name, value in values.items() if name in given and value != context.params[name]}


@click.command(cls=GroupedCommand, context_settings=SETTINGS)
@run_options
def _settings(**values: Any) -> None:
    """Parses settings only."""


def parse(words: Sequence[str]) -> RunConfig:
    """The config of a run's command line; ConfigError carries Click's message."""
    return _parse(tuple(words))


# Parsing takes milliseconds, and a large sweep parses every trial many times.
@functools.lru_cache(maxsize=10_000)
def _parse(words: tuple[str, ...]) -> RunConfig:
    try:
        context = _settings.make_context("harness/run.py", list(words))
    except click.UsageError as error:
        raise ConfigError(error.format_message()) from None
    return RunConfig(**context.params)
