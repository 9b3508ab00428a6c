"""Real rows, and columns that are independent of each other."""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy.stats import norm

from tables.columns import Column, Floats, Levels, columns_of, step_of, to_floats


class Real:
    """Training rows in random order; some come twice if more are asked for than there are."""

    def __init__(self, seed: int, effort: float = 1.0) -> None:
        self.random = np.random.default_rng(seed)

    def fit(self, train: pl.DataFrame) -> None:
        self.train = train

    def sample(self, count: int) -> pl.DataFrame:
        size = len(self.train)
        rounds = [self.random.permutation(size) for _ in range(-(-count // size))]
        return self.train[np.concatenate(rounds)[:count]]


class Independent:
    """Each column by itself: values of random rows, and a smoothed distribution of them."""

    def __init__(self, seed: int, effort: float = 1.0) -> None:
        self.random = np.random.default_rng(seed)

    def fit(self, train: pl.DataFrame) -> None:
        self.train = train
        self.columns = columns_of(train)

    def sample(self, count: int) -> pl.DataFrame:
        size = len(self.train)
        return pl.DataFrame(
            self.train[name][self.random.integers(size, size=count)] for name in self.train.columns
        )

    def score(self, rows: pl.DataFrame) -> Floats:
        """The rows' bits."""
        numbers = [c.name for c in self.columns if not isinstance(c, Levels)]
        return self.bits(rows, {name: step_of(to_floats(self.train[name])) for name in numbers})

    def bits(self, rows: pl.DataFrame, steps: dict[str, float]) -> Floats:
        total = np.zeros(len(rows))
        for column in self.columns:
            total -= np.log2(self._probabilities(column, rows[column.name], steps))
        return total

    def _probabilities(self, column: Column, values: pl.Series, steps: dict[str, float]) -> Floats:
        """Probability of each cell, with one more row of each kind that training rows can have."""
        train = self.train[column.name]
        if isinstance(column, Levels):
            counts = np.append(np.array(column.counts, dtype=np.float64), 0.0) + 1
            found: Floats = (counts / counts.sum())[column.index(values)]
            return found
        missing = (train.null_count() + 1) / (len(train) + 2)
        points = to_floats(values)
        seen = to_floats(train.drop_nulls())
        given = Smoothed(seen, steps[column.name]).probabilities(np.nan_to_num(points))
        return np.where(np.isnan(points), missing, (1 - missing) * given)


class Smoothed:
    """Distribution of numbers on a grid: their frequencies, a histogram, and a wide normal.

    The weight of the frequencies is the best by leave-one-out likelihood, so a column of few values
    has its frequencies and a continuous one its histogram.

    Args:
        values: Values of training rows, shape (N,).
        step: Width of the bins whose probability is asked for.
    """

    def __init__(self, values: Floats, step: float) -> None:
        self.step, self.count = step, len(values)
        self.values, self.counts = np.unique(np.round(values / step), return_counts=True)
        edges = np.quantile(values, np.linspace(0, 1, max(3, min(200, len(values) // 20))))
        # The first and the last bin end half a step beyond the values.
        self.edges = np.unique(
            np.concatenate([[edges[0] - step / 2], edges, [edges[-1] + step / 2]])
        )
        self.masses = np.histogram(values, self.edges)[0] / len(values)
        self.normal = norm(values.mean(), 2 * values.std() + step)
        smooth = self._smooth(values)
        once = (self._counts(values) - 1) / max(1, self.count - 1)
        self.weight = max(
            np.linspace(0.01, 0.99, 50),
            key=lambda weight: float(np.log(weight * once + (1 - weight) * smooth).sum()),
        )

    def _counts(self, values: Floats) -> Floats:
        places = np.round(values / self.step)
        found = np.searchsorted(self.values, places).clip(max=len(self.values) - 1)
        return np.where(self.values[found] == places, self.counts[found], 0).astype(np.float64)

    def _smooth(self, values: Floats) -> Floats:
        ends = values - self.step / 2, values + self.step / 2
        whole = np.concatenate([[0.0], np.cumsum(self.masses)])
        lower, upper = (np.interp(end, self.edges, whole) for end in ends)
        wide = self.normal.cdf(ends[1]) - self.normal.cdf(ends[0])
        # Far values have a probability that rounding makes 0.
        return np.asarray(0.99 * (upper - lower) + 0.01 * np.maximum(wide, 1e-12))

    def probabilities(self, values: Floats) -> Floats:
        """Probability of the bin of each value, shape (N,)."""
        frequencies = self._counts(values) / self.count
        return np.asarray(self.weight * frequencies + (1 - self.weight) * self._smooth(values))
