"""One hyperparameter of a sweep: its distribution, as W&B defines it.

The names, the keys they take and their defaults are those of W&B's sweep schema; the values drawn are those that its
server's sampler draws at the same quantile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

# Keys that a distribution needs besides `distribution`, and keys that it may have.
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

# Those whose min and max are exponents of e, and not the smallest and largest value.
EXPONENTS = ("log_uniform", "q_log_uniform", "inv_log_uniform")


@dataclass(frozen=True)
class Parameter:
    """A setting of the run and the values it may take; fields that its distribution does not use are empty or 0."""

    name: str  # a field of RunConfig
    distribution: str  # a key of DISTRIBUTIONS
    values: tuple[Any, ...] = ()
    probabilities: tuple[float, ...] = ()
    low: float = 0.0  # W&B's min
    high: float = 0.0  # W&B's max
    mu: float = 0.0
    sigma: float = 1.0
    q: float = 1.0  # an int where values are to be ints

    @property
    def varies(self) -> bool:
        """Whether trials can differ in it."""
        return len(self.values) != 1

    def at(self, quantile: float) -> Any:
        """The value that a share of `quantile`, between 0 and 1, of all draws stays below: the inverse CDF."""
        match self.distribution:
            case "constant":
                return self.values[0]
            case "categorical":
                return self.values[_nth(quantile, len(self.values))]
            case "categorical_w_probabilities":
                return self._weighted(quantile)
            case "int_uniform":
                return int(self.low) + _nth(quantile, int(self.high) - int(self.low) + 1)
        value = self._continuous(quantile)
        if not self.distribution.startswith("q_"):
            return value
        return round(value / self.q) * self.q  # halves to even, as NumPy rounds; an int if q is one

    @property
    def grid_size(self) -> int:
        """How many values a grid takes of it; 0 for a distribution that W&B's grids refuse."""
        match self.distribution:
            case "constant" | "categorical":
                return len(self.values)
            case "int_uniform":
                return int(self.high) - int(self.low) + 1
            case "q_uniform":
                return math.ceil((self.high - self.low) / self.q)  # max itself is left out
        return 0

    def grid(self) -> tuple[Any, ...] | None:
        """The values of a grid in W&B's order; None for a distribution that W&B's grids refuse."""
        match self.distribution:
            case "constant" | "categorical":
                return self.values
            case "int_uniform":
                return tuple(range(int(self.low), int(self.high) + 1))
            case "q_uniform":
                kind = float if float in map(type, (self.low, self.high, self.q)) else int
                step = (self.low + self.q) - self.low  # as numpy.arange takes it, to the last bit
                return tuple(kind(self.low + index * step) for index in range(self.grid_size))
        return None

    def _weighted(self, quantile: float) -> Any:
        total = 0.0
        for value, probability in zip(self.values, self.probabilities, strict=True):
            total += probability
            if quantile < total:
                return value
        return next(value for value, share in zip(self.values[::-1], self.probabilities[::-1], strict=True) if share)

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


def _between(share: float, low: float, high: float) -> float:
    return low + share * (high - low)


def _nth(quantile: float, count: int) -> int:
    """Which of `count` equally likely things a quantile falls on: the first one k with (k + 1) / count >= quantile."""
    nth = max(math.ceil(quantile * count) - 1, 0)
    return nth - 1 if nth and nth / count >= quantile else min(nth, count - 1)
