"""Figures with intervals: what a sample of shapes says about all shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from maquette.report import Figure

NORMAL = 1.959964  # two-sided 95 % of a normal distribution
RESAMPLES = 2000


def share(hits: float, n: int, beside: dict[str, float] | None = None) -> Figure:
    """A share of `n` independent samples with Wilson's score interval (Wilson 1927).

    Args:
        hits: how many; fractions count where a tie was shared out.
        n: at least 1.
        beside: see `Figure`.
    """
    rate, z2 = hits / n, NORMAL**2
    middle = (rate + z2 / (2 * n)) / (1 + z2 / n)
    reach = NORMAL / (1 + z2 / n) * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    low, high = max(0.0, middle - reach), min(1.0, middle + reach)
    return Figure(rate, n, beside or {}, (min(low, rate), max(high, rate)))  # rounding aside, the rate lies between


def mean(values: Sequence[float], beside: dict[str, float] | None = None) -> Figure:
    """A mean with the percentile interval of a bootstrap over the samples (Efron 1979), the same for the same values.

    Args:
        values: at least 1.
        beside: see `Figure`.
    """
    found = np.asarray(values, np.float64)
    rng = np.random.default_rng(0)
    picked = rng.integers(len(found), size=(RESAMPLES, len(found)))
    low, high = np.quantile(found[picked].mean(axis=1), [0.025, 0.975])
    return Figure(float(found.mean()), len(found), beside or {}, (float(low), float(high)))


def difference(one: Figure, other: Figure) -> tuple[float, tuple[float, float] | None]:
    """`other` minus `one`, and its interval where both have theirs, after Newcombe (1998, method 10) from the two.

    It takes the samples for independent. Runs that are asked for the same captions are alike in what is hard, so it is
    rather too wide than too narrow.
    """
    gap = other.value - one.value
    if one.interval is None or other.interval is None:
        return gap, None
    down = math.hypot(other.value - other.interval[0], one.interval[1] - one.value)
    up = math.hypot(other.interval[1] - other.value, one.value - one.interval[0])
    return gap, (gap - down, gap + up)
