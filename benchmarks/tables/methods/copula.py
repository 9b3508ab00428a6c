"""Gaussian copula: the distributions of the columns, tied together by correlated normals."""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy.linalg import cho_factor, cho_solve
from scipy.special import ndtr, ndtri

from tables.columns import Column, Floats, Ints, Levels, columns_of, to_floats
from tables.measures import Bools, Imputed

# Correlations shrink by this share to those of independent columns, so that they can be inverted.
_SHRINKAGE = 1e-3
# Normal quantiles over which imputed numbers are averaged.
_QUANTILES = (np.arange(20) + 0.5) / 20


class Margin:
    """Distribution of a column on [0, 1]: an interval for each level, or for each value.

    Levels are in the order of their frequencies. Missing values of numbers are the lowest interval.

    Args:
        column: The column.
        train: Its training values.
    """

    def __init__(self, column: Column, train: pl.Series) -> None:
        self.column = column
        if isinstance(column, Levels):
            # Levels that no training row has share the last interval.
            counts = np.array([*column.counts, 0.5])
        else:
            values = to_floats(train)
            seen = np.sort(values[~np.isnan(values)])
            self.values, counted = np.unique(seen, return_counts=True)
            counts = np.array([len(values) - len(seen), *counted])
        self.ends = np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])
        # Without rounding errors, so that every number in [0, 1) is in an interval.
        self.ends[-1] = 1.0

    def intervals(self, values: pl.Series) -> tuple[Floats, Floats]:
        """Lower and upper ends of the intervals of values, each of shape (N,).

        A number between those of the training rows has no interval: it is a point.
        """
        if isinstance(self.column, Levels):
            index = self.column.index(values)
            return self.ends[index], self.ends[index + 1]
        points = to_floats(values)
        below = np.searchsorted(self.values, points, side="left")
        above = np.searchsorted(self.values, points, side="right")
        missing = np.isnan(points)
        below[missing], above[missing] = -1, 0
        return self.ends[below + 1], self.ends[above + 1]

    def numbers(self, uniform: Floats) -> Floats:
        """Numbers of a column of numbers at points of [0, 1], NaN where missing."""
        found = np.searchsorted(self.ends[1:-1], uniform, side="right") - 1
        return np.where(found < 0, np.nan, self.values[found.clip(min=0)])

    def series(self, uniform: Floats) -> pl.Series:
        """Values at points of [0, 1]."""
        if isinstance(self.column, Levels):
            found = np.searchsorted(self.ends[1:-1], uniform, side="right")
            # Beyond the last level that training rows have.
            last = len(self.column.levels) - (self.column.counts[-1] == 0)
            return self.column.series(found.clip(max=last))
        return self.column.series(self.numbers(uniform))

    def quantile(self, share: float, mean: Floats, deviation: Floats) -> Floats:
        """Quantile of numbers whose normal scores are given, and that are not missing, (N,)."""
        # What is not missing lies above the lowest interval.
        missing = ndtr((ndtri(self.ends[1]) - mean) / deviation)
        score = ndtri((missing + share * (1 - missing)).clip(1e-9, 1 - 1e-9))
        floor = np.nextafter(self.ends[1], 1)
        return self.numbers(ndtr(mean + deviation * score).clip(min=floor))

    def likeliest(self, mean: Floats, deviation: Floats) -> Ints:
        """Most probable level given normal scores, never the missing one, shape (N,)."""
        below = ndtr((ndtri(self.ends[:-2]) - mean[:, None]) / deviation[:, None])
        if below.shape[1] < 2:
            return np.zeros(len(mean), dtype=np.int64)
        return np.diff(below, axis=1).argmax(1)


class Copula:
    """Gaussian copula of all columns, with missing values as a level.

    Ties are broken at random within their intervals. Rows are scored by the density of their
    normal scores, and hidden cells imputed from their normal distribution given the other cells.
    """

    def __init__(self, seed: int, effort: float = 1.0) -> None:
        self.random = np.random.default_rng(seed)

    def fit(self, train: pl.DataFrame) -> None:
        self.margins = [Margin(column, train[column.name]) for column in columns_of(train)]
        correlation = np.corrcoef(self._scores(train, random=True), rowvar=False)
        # Constant columns have no correlations.
        correlation = np.nan_to_num((1 - _SHRINKAGE) * correlation)
        np.fill_diagonal(correlation, 1.0)
        self.correlation = correlation

    def _scores(self, rows: pl.DataFrame, random: bool) -> Floats:
        """Normal scores of rows, shape (N, D), random within intervals or at their middle."""
        parts = []
        for margin in self.margins:
            low, high = margin.intervals(rows[margin.column.name])
            share = self.random.random(len(rows)) if random else 0.5
            parts.append(ndtri((low + share * (high - low)).clip(1e-6, 1 - 1e-6)))
        return np.stack(parts, 1)

    def sample(self, count: int) -> pl.DataFrame:
        size = len(self.margins)
        factor = np.linalg.cholesky(self.correlation)
        uniform = ndtr(self.random.standard_normal((count, size)) @ factor.T)
        return pl.DataFrame(m.series(uniform[:, place]) for place, m in enumerate(self.margins))

    def score(self, rows: pl.DataFrame) -> Floats:
        scores = self._scores(rows, random=False)
        found: Floats = (scores * np.linalg.solve(self.correlation, scores.T).T).sum(1)
        return found

    def impute(self, rows: pl.DataFrame, hidden: Bools) -> Imputed:
        scores = self._scores(rows, random=False)
        means, deviations = np.zeros(scores.shape), np.ones(scores.shape)
        for row in np.flatnonzero(hidden.any(1)):
            given, asked = ~hidden[row], hidden[row]
            across = self.correlation[np.ix_(asked, given)]
            factor = cho_factor(self.correlation[np.ix_(given, given)])
            means[row, asked] = across @ cho_solve(factor, scores[row, given])
            explained = (across * cho_solve(factor, across.T).T).sum(1)
            deviations[row, asked] = np.sqrt((1 - explained).clip(min=1e-12))
        columns, low, high = [], {}, {}
        for place, margin in enumerate(self.margins):
            name, given = margin.column.name, (means[:, place], deviations[:, place])
            if isinstance(margin.column, Levels):
                columns.append(margin.column.series(margin.likeliest(*given)))
                continue
            points = np.mean([margin.quantile(share, *given) for share in _QUANTILES], axis=0)
            columns.append(margin.column.series(points))
            low[name], high[name] = (margin.quantile(share, *given) for share in (0.05, 0.95))
        return Imputed(pl.DataFrame(columns), low, high)
