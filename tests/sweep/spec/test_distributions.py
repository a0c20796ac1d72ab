"""Distributions of a sweep's parameters against quantiles computed by hand; entries against W&B's schema."""

from __future__ import annotations

import math
from typing import Any

import pytest

from harness.errors import ConfigError
from harness.sweep.spec.distributions import Parameter
from harness.sweep.spec.parameter_entries import read_entry

# The standard normal distribution function at 1 and -2, from any table.
BELOW_1, BELOW_MINUS_2 = 0.8413447460685429, 0.022750131948179195


@pytest.mark.parametrize(
    ("parameter", "quantile", "value"),
    [
        (Parameter("x", "constant", values=("a",)), 0.7, "a"),
        (Parameter("x", "categorical", values=("a", "b", "c", "d")), 0.01, "a"),
        (Parameter("x", "categorical", values=("a", "b", "c", "d")), 0.25, "a"),
        (Parameter("x", "categorical", values=("a", "b", "c", "d")), 0.26, "b"),
        (Parameter("x", "categorical", values=("a", "b", "c", "d")), 0.99, "d"),
        (Parameter("x", "categorical_w_probabilities", ("a", "b", "c"), (0.2, 0.5, 0.3)), 0.19, "a"),
        (Parameter("x", "categorical_w_probabilities", ("a", "b", "c"), (0.2, 0.5, 0.3)), 0.2, "b"),
        (Parameter("x", "categorical_w_probabilities", ("a", "b", "c"), (0.2, 0.5, 0.3)), 0.69, "b"),
        (Parameter("x", "categorical_w_probabilities", ("a", "b", "c"), (0.2, 0.5, 0.3)), 0.71, "c"),
        (Parameter("x", "categorical_w_probabilities", ("a", "b", "c"), (0.4, 0.599999, 0.0)), 0.9999999, "b"),
        (Parameter("x", "int_uniform", low=1, high=10), 0.1, 1),
        (Parameter("x", "int_uniform", low=1, high=10), 0.11, 2),
        (Parameter("x", "int_uniform", low=-5, high=-4), 0.51, -4),
        (Parameter("x", "uniform", low=2, high=6), 0.25, 3.0),
        (Parameter("x", "q_uniform", low=0, high=10, q=2.5), 0.3, 2.5),  # 3 / 2.5 = 1.2
        (Parameter("x", "q_uniform", low=0, high=10, q=2.5), 0.125, 0.0),  # 0.5 is rounded to the even 0
        (Parameter("x", "q_uniform", low=0, high=10, q=2.5), 0.375, 5.0),  # 1.5 is rounded to the even 2
        (Parameter("x", "q_uniform", low=5, high=20, q=16), 0.1, 0),  # 6.5 / 16 = 0.4: below min, as W&B draws it
        (Parameter("x", "log_uniform", low=math.log(1e-4), high=0.0), 0.25, 1e-3),
        (Parameter("x", "log_uniform_values", low=1e-4, high=1), 0.25, 1e-3),
        (Parameter("x", "log_uniform_values", low=1e-4, high=1), 0.5, 1e-2),
        (Parameter("x", "inv_log_uniform", low=0.0, high=math.log(1e4)), 0.25, 1e-3),  # 1/x is between 1 and 1e4
        (Parameter("x", "inv_log_uniform_values", low=1e-4, high=1), 0.25, 1e-3),
        (Parameter("x", "q_log_uniform", low=0.0, high=math.log(1e4), q=30), 0.5, 90),  # 100 / 30 = 3.3
        (Parameter("x", "q_log_uniform_values", low=1, high=10_000, q=8), 0.75, 1000),
        (Parameter("x", "normal", mu=2, sigma=3), 0.5, 2.0),
        (Parameter("x", "normal", mu=2, sigma=3), BELOW_1, 5.0),
        (Parameter("x", "normal", mu=2, sigma=3), BELOW_MINUS_2, -4.0),
        (Parameter("x", "q_normal", mu=2, sigma=3, q=4), BELOW_1, 4),
        (Parameter("x", "log_normal"), BELOW_1, math.e),
        (Parameter("x", "log_normal", mu=1, sigma=2), BELOW_MINUS_2, math.exp(-3)),
        (Parameter("x", "q_log_normal", mu=math.log(100), sigma=1, q=30), 0.5, 90),
    ],
    ids=lambda value: value.distribution if isinstance(value, Parameter) else None,
)
def test_value_at_a_quantile(parameter: Parameter, quantile: float, value: Any) -> None:
    result = parameter.at(quantile)
    assert result == (value if isinstance(value, str) else pytest.approx(value, rel=1e-12, abs=1e-12))
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("parameter", "values"),
    [
        (Parameter("x", "constant", values=(3,)), (3,)),
        (Parameter("x", "categorical", values=("b", "a")), ("b", "a")),
        (Parameter("x", "int_uniform", low=3, high=6), (3, 4, 5, 6)),
        (Parameter("x", "q_uniform", low=1, high=10, q=3), (1, 4, 7)),  # without max
        (Parameter("x", "q_uniform", low=1, high=11, q=3), (1, 4, 7, 10)),
        (Parameter("x", "q_uniform", low=0, high=2), (0.0, 1.0)),  # W&B's default q is 1.0, not 1
        (Parameter("x", "q_uniform", low=0.5, high=2, q=1), (0.5, 1.5)),
        (Parameter("x", "uniform", low=0, high=1), None),
        (Parameter("x", "categorical_w_probabilities", ("a", "b"), (0.5, 0.5)), None),
        (Parameter("x", "log_uniform_values", low=1e-4, high=1), None),
        (Parameter("x", "q_log_uniform_values", low=1, high=9, q=1), None),
        (Parameter("x", "normal"), None),
    ],
    ids=lambda value: value.distribution if isinstance(value, Parameter) else None,
)
def test_the_values_of_a_grid_are_those_of_wandb(parameter: Parameter, values: tuple[Any, ...] | None) -> None:
    grid = parameter.grid()
    assert grid == values
    assert parameter.grid_size == len(values or ())
    if grid and values:
        assert [type(value) for value in grid] == [type(value) for value in values]


def test_a_parameter_with_one_value_does_not_vary() -> None:
    assert not Parameter("x", "constant", values=(1,)).varies
    assert not Parameter("x", "categorical", values=(1,)).varies
    assert Parameter("x", "categorical", values=(1, 2)).varies
    assert Parameter("x", "uniform", low=0, high=1).varies


@pytest.mark.parametrize(
    ("entry", "parameter"),
    [
        ({"value": 0.1}, Parameter("lr", "constant", values=(0.1,))),
        ({"values": [0.1, 1]}, Parameter("lr", "categorical", values=(0.1, 1))),
        (
            {"values": [0.1, 0.2], "probabilities": [0.25, 0.75]},
            Parameter("lr", "categorical_w_probabilities", (0.1, 0.2), (0.25, 0.75)),
        ),
        ({"min": 1, "max": 3}, Parameter("lr", "int_uniform", low=1, high=3)),
        ({"min": 1, "max": 3.0}, Parameter("lr", "uniform", low=1, high=3.0)),
        ({"min": 1, "max": 3, "distribution": "uniform"}, Parameter("lr", "uniform", low=1, high=3)),
        ({"min": 1, "max": 3, "distribution": "q_uniform"}, Parameter("lr", "q_uniform", low=1, high=3, q=1.0)),
        ({"distribution": "normal"}, Parameter("lr", "normal", mu=0.0, sigma=1.0)),
        (
            {"distribution": "q_log_normal", "mu": 1, "sigma": 2, "q": 3},
            Parameter("lr", "q_log_normal", mu=1, sigma=2, q=3),
        ),
        (
            {"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-2},
            Parameter("lr", "log_uniform_values", low=1e-5, high=1e-2),
        ),
    ],
)
def test_the_distribution_is_inferred_from_the_keys(entry: dict[str, Any], parameter: Parameter) -> None:
    assert read_entry("lr", entry) == parameter


def test_hyphens_in_names_become_underscores() -> None:
    assert read_entry("batch-size", {"value": 16}).name == "batch_size"


@pytest.mark.parametrize(
    ("key", "entry", "sentence"),
    [
        ("lr", {"values": ["1e-4", 0.1]}, "parameters.lr: 1e-4 is text in YAML; write 1.0e-4."),
        ("lr", {"value": "5E5"}, "5E5 is text in YAML; write 5.0e+5."),
        ("lr", {"min": "1e-5", "max": 0.1}, "min: 1e-5 is text in YAML; write 1.0e-5."),
        ("lr", {"min": 0.1, "max": "1.5e3"}, "max: 1.5e3 is text in YAML; write 1.5e+3."),
        ("lr", {"values": ["0.1"]}, "0.1 is text in YAML; write 0.1, without quotes."),
        ("batch_size", {"values": ["16"]}, "16 is text in YAML"),
        ("batch_size", {"values": [16, 16.5]}, "16.5 does not fit; the setting takes whole numbers."),
        ("batch_size", {"values": [16.0]}, "write 16."),
        ("batch_size", {"value": True}, "true does not fit"),
        ("lr", {"value": True}, "true does not fit; the setting takes numbers."),
        ("lr", {"value": math.inf}, "inf does not fit"),
        ("lr", {"value": None}, "null cannot be passed on a command line"),
        ("lr", {"value": [0.1]}, "a list does not fit"),
        ("augment", {"values": ["none", False]}, "false is not text: YAML reads on, off, yes and no as true or false."),
        ("ema", {"values": [0, True]}, "0 does not fit; the setting takes true or false."),
        ("augment", {"min": 0, "max": 1}, "takes text, and int_uniform draws numbers. Use `values`."),
        ("batch_size", {"min": 16, "max": 64.0}, "takes whole numbers, and uniform draws fractions"),
        ("batch_size", {"distribution": "q_uniform", "min": 16, "max": 64}, "takes whole numbers"),
        ("batch_size", {"distribution": "normal", "mu": 32}, "takes whole numbers"),
        ("lr", {"distribution": "beta", "a": 1}, "beta and q_beta are not supported"),
        ("lr", {"distribution": "q_beta"}, "beta and q_beta are not supported"),
        ("lr", {"parameters": {"x": {"value": 1}}}, "nested `parameters` are not supported"),
        ("lr", {"distribution": "log_unifrom", "min": 1, "max": 2}, "Did you mean log_uniform?"),
        ("layers", {"parameters": {"x": {"value": 1}}}, "nested `parameters` are not supported"),
        ("lr", {"distribution": 3}, "3 is not a distribution."),
        ("lr", {"distribution": ["normal"]}, "a list is not a distribution."),
        ("lr", {"value": "\x1b[2J"}, "'\\x1b[2J' does not fit"),
        ("lr", {"vals": [1]}, "`vals` is not a key of a parameter. Did you mean values?"),
        ("lr", {"values": [0.1], "min": 0}, "categorical does not take `min`; it takes `values`."),
        ("lr", {"distribution": "uniform", "min": 0.1}, "uniform needs `max`."),
        ("lr", {"min": 0.1}, "needs `values`, `value`, or `min` and `max`."),
        ("lr", {"min": 0, "max": 1, "q": 0.1}, "`q` needs a `distribution`"),
        ("lr", {}, "needs `values`"),
        ("lr", {"min": 2, "max": 1}, "min is 2 and max is 1; min must be below max."),
        ("lr", {"min": 1, "max": 1}, "min is 1 and max is 1; min must be below max."),
        (
            "lr",
            {"distribution": "int_uniform", "min": 1, "max": 2.0},
            "of int_uniform must be whole numbers",
        ),
        (
            "lr",
            {"distribution": "log_uniform_values", "min": 0, "max": 1},
            "the limits of log_uniform_values must",
        ),
        ("lr", {"distribution": "normal", "sigma": 0}, "sigma is 0; it must be above 0."),
        ("lr", {"distribution": "q_normal", "q": -1}, "q is -1; it must be above 0."),
        ("lr", {"distribution": "log_uniform", "min": 1, "max": 10_000}, "its limits are exponents of e"),
        ("lr", {"min": True, "max": 2}, "min: true is not a finite number."),
        ("lr", {"min": 10**400, "max": 2}, "is not a finite number."),
        ("lr", {"values": []}, "values is an empty list; it must be a list with at least one item."),
        ("lr", {"values": 3}, "values is 3; it must be a list"),
        ("lr", {"values": [1, 2], "probabilities": [1]}, "there are 2 values and 1 probabilities; give one per value."),
        ("lr", {"values": [1, 2], "probabilities": [0.5, 0.6]}, "the sum of probabilities is 1.1; it must be 1."),
        ("lr", {"values": [1, 2], "probabilities": [1.5, -0.5]}, "numbers of at least 0."),
        ("lr", {"distribution": "categorical_w_probabilities", "values": [1]}, "needs `probabilities`."),
        ("lr", 0.1, "is 0.1; write `lr: {value: 0.1}`."),
        ("lr", [0.1], "is a list; write `lr: {values: [...]}`."),
        ("agument", {"value": "none"}, "there is no setting agument. Did you mean augment?"),
        ("learning-rate", {"value": 1}, "there is no setting learning-rate. Did you mean lr?"),
        ("xyzzy", {"value": 1}, "`harness train --help` lists the settings."),
        ("fresh", {"value": True}, "fresh cannot be swept"),
        ("runs-dir", {"value": "x"}, "runs-dir cannot be swept"),
        ("name", {"values": ["a", "b"]}, "each trial is named after its settings"),
    ],
)
def test_invalid_entries(key: str, entry: Any, sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_entry(key, entry)
    assert len(error.value.problems) == 1
    assert sentence in error.value.problems[0]
    assert error.value.problems[0].startswith("parameters")


def test_all_problems_of_an_entry_are_reported() -> None:
    with pytest.raises(ConfigError) as error:
        read_entry("lr", {"values": ["1e-4", True, "5e-5"]})
    assert [problem.split()[1] for problem in error.value.problems] == ["1e-4", "true", "5e-5"]


def test_whole_numbers_may_be_quantised() -> None:
    entry = {"distribution": "q_log_uniform_values", "min": 8, "max": 256, "q": 8}
    values = {read_entry("batch_size", entry).at(step / 1000) for step in range(1, 1000)}
    assert values == set(range(8, 264, 8))
    assert all(type(value) is int for value in values)
