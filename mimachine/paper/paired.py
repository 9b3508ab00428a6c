"""Differences of two kinds of models over the same seeds, with their intervals."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

__all__ = ["Interval", "mean_difference", "mean_ratio"]

Array = NDArray[np.float64]


class Interval(NamedTuple):
    """A mean over seeds with its 95 % interval, by Student's t.

    Attributes:
        mean: The mean.
        low: Lower end; -inf for a single seed.
        high: Upper end; inf for a single seed.
    """

    mean: float
    low: float
    high: float

    def shown(self, digits: int) -> str:
        """Mean and interval, as in "0.31 [0.12, 0.50]"."""
        if not math.isfinite(self.low):
            return f"{self.mean:.{digits}f}"
        return f"{self.mean:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def mean_difference(first: Array, second: Array) -> Interval:
    """Mean of first - second over seeds, each of shape (M,); pairs with a NaN are left out."""
    return _mean(np.asarray(first, dtype=float) - np.asarray(second, dtype=float))


def mean_ratio(first: Array, second: Array) -> Interval:
    """Geometric mean of first / second over seeds, of positive numbers of shape (M,)."""
    logarithms = np.log(np.asarray(first, dtype=float)) - np.log(np.asarray(second, dtype=float))
    return Interval(*(math.exp(value) for value in _mean(logarithms)))


def _mean(values: Array) -> Interval:
    values = values[np.isfinite(values)]
    if not len(values):
        return Interval(math.nan, math.nan, math.nan)
    mean = float(values.mean())
    if len(values) == 1:
        return Interval(mean, -math.inf, math.inf)
    half = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return Interval(mean, mean - half, mean + half)
