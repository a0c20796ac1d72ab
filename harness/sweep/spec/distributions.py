"""One hyperparameter of a sweep: its distribution, as W&B defines it.

Names, keys and defaults are those of W&B's sweep schema. Values are those that W&B's sampler draws at the same
quantile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

# Required and optional keys of each distribution, besides `distribution`.
DISTRIBUTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "constant": (("value",), ()),
    "categorical": (("values",), ()),
    "categorical_w_probabilities": (("values", "probabilities"), ()),
    "int_uniform": (("min", "max"), ()),
    "uniform": (("min", "max"), ()),
    "q_uniform": (("min", "max"), ("q",)),
    "log_uniform": (("min", "max"), ()),
    "log_uniform_values": (("min", "max"), ()),
    "q_log_uniform": (("min", "max"), ("q",)),
    "q_log_uniform_values": (("min", "max"), ("q",)),
    "inv_log_uniform": (("min", "max"), ()),
    "inv_log_uniform_values": (("min", "max"), ()),
    "normal": ((), ("mu", "sigma")),
    "q_normal": ((), ("mu", "sigma", "q")),
    "log_normal": ((), ("mu", "sigma")),
    "q_log_normal": ((), ("mu", "sigma", "q")),
}

# Distributions whose min and max are exponents of e instead of values.
EXPONENTS = ("log_uniform", "q_log_uniform", "inv_log_uniform")


@dataclass(frozen=True)
class Parameter:
    """A setting of the run and its distribution. Fields that the distribution does not use keep their defaults."""

    name: str  # a field of RunConfig
    distribution: str  # a key of DISTRIBUTIONS
    values: tuple[Any, ...] = ()
    probabilities: tuple[float, ...] = ()
    low: float = 0.0  # W&B's min
    high: float = 0.0  # W&B's max
    mu: float = 0.0
    sigma: float = 1.0
    q: float = 1.0  # step size; an int makes the values ints

    @property
    def varies(self) -> bool:
        """Whether trials can differ in this setting."""
        return len(self.values) != 1

    def at(self, quantile: float) -> Any:
        """The value at a quantile between 0 and 1: the inverse of the cumulative distribution function."""
        match self.distribution:
            case "constant":
                return self.values[0]
            case "categorical":
                return self.values[_index_at(quantile, len(self.values))]
            case "categorical_w_probabilities":
                return self._weighted(quantile)
            case "int_uniform":
                return int(self.low) + _index_at(quantile, int(self.high) - int(self.low) + 1)
        value = self._continuous(quantile)
        if not self.distribution.startswith("q_"):
            return value
        return round(value / self.q) * self.q  # halves are rounded to even, as in NumPy; an int if q is an int

    @property
    def grid_size(self) -> int:
        """The number of values in a grid; 0 for a distribution that W&B's grids do not support."""
        match self.distribution:
            case "constant" | "categorical":
                return len(self.values)
            case "int_uniform":
                return int(self.high) - int(self.low) + 1
            case "q_uniform":
                return math.ceil((self.high - self.low) / self.q)  # without max itself
        return 0

    def grid(self) -> tuple[Any, ...] | None:
        """The values of a grid in W&B's order; None for a distribution that W&B's grids do not support."""
        match self.distribution:
            case "constant" | "categorical":
                return self.values
            case "int_uniform":
                return tuple(range(int(self.low), int(self.high) + 1))
            case "q_uniform":
                kind = float if any(isinstance(value, float) for value in (self.low, self.high, self.q)) else int
                step = (self.low + self.q) - self.low  # rounded as in numpy.arange
                return tuple(kind(self.low + index * step) for index in range(self.grid_size))
        return None

    def _weighted(self, quantile: float) -> Any:
        total, value = 0.0, None
        for candidate, probability in zip(self.values, self.probabilities, strict=True):
            if probability:  # rounding errors must not select a value of probability 0
                total, value = total + probability, candidate
                if quantile < total:
                    break
        return value

    def _continuous(self, quantile: float) -> float:
        match self.distribution.removeprefix("q_"):
            case "uniform":
                return _between(quantile, self.low, self.high)
            case "log_uniform":
                return math.exp(_between(quantile, self.low, self.high))
            case "inv_log_uniform":
                return math.exp(-_between(1 - quantile, self.low, self.high))
            case "log_uniform_values" | "inv_log_uniform_values":  # 1 / x is log-uniform where x is
                return math.exp(_between(quantile, math.log(self.low), math.log(self.high)))
            case "normal":
                return NormalDist(self.mu, self.sigma).inv_cdf(quantile)
            case "log_normal":
                return math.exp(NormalDist(self.mu, self.sigma).inv_cdf(quantile))
        raise ValueError(f"{self.distribution} is not one of {', '.join(DISTRIBUTIONS)}")


def _between(fraction: float, low: float, high: float) -> float:
    return low + fraction * (high - low)


def _index_at(quantile: float, count: int) -> int:
    """The index of one of `count` equally likely values: the first k with (k + 1) / count >= quantile."""
    k = max(math.ceil(quantile * count) - 1, 0)
    return k - 1 if k and k / count >= quantile else min(k, count - 1)  # the product above may be rounded up
