"""Student's t distribution: p-values and quantiles, also for degrees of freedom that are not whole."""

from __future__ import annotations

import math

# With more degrees of freedom it is the normal distribution, to 7 digits.
LARGE = 1e7

# Of the continued fraction and of the bisection.
STEPS = 300
PRECISION = 1e-15


def two_sided_p(t: float, df: float) -> float:
    """Probability of a value at least as far from 0 as t; df may be infinite."""
    if df > LARGE:
        return math.erfc(abs(t) / math.sqrt(2))
    return _incomplete_beta(df / 2, 0.5, df / (df + t * t))


def quantile(level: float, df: float) -> float:
    """The t > 0 that a value exceeds in either direction with probability 1 - level."""
    low, high = 0.0, 1.0
    while two_sided_p(high, df) > 1 - level:
        low, high = high, 2 * high
    for _ in range(STEPS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if two_sided_p(middle, df) > 1 - level else (low, middle)
    return high


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function by its continued fraction (Abramowitz & Stegun 26.5.8)."""
    if x in (0.0, 1.0):
        return x
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast below
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    # Evaluated forwards by Lentz's method (Thompson & Barnett 1986).
    fraction = ratio = 1.0
    denominator = 0.0
    for step in range(STEPS):
        m = step // 2
        if step == 0:
            term = 1.0
        elif step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        denominator = 1 / (1 + term * denominator)
        ratio = 1 + term / ratio
        fraction *= denominator * ratio
        if step and abs(denominator * ratio - 1) < PRECISION:
            break
    # The first step has added the 1 that Lentz's method begins with.
    return front * (fraction - 1) / a
