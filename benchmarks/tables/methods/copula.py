"""Gaussian copula: the distributions of the columns, tied together by correlated normals."""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy.special import ndtr, ndtri

from tables.columns import Column, Floats, Levels, columns_of, to_floats
from tables.measures import Bools, Imputed

# Turns in which scores are drawn, draws of imputed cells, and rows that are used.
_TURNS, _DRAWS, _MOST_FITTED = 30, 100, 10_000
# Scores end where this probability is beyond them.
_TINY = 1e-7
# Correlations shrink by this share to those of independent columns, so that they can be inverted.
_SHRINKAGE = 1e-3


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

    @property
    def present(self) -> tuple[float, float]:
        """Interval of all values that are not missing."""
        if isinstance(self.column, Levels):
            return 0.0, float(self.ends[-3])
        return float(self.ends[1]), 1.0


class Copula:
    """Gaussian copula of all columns, with missing values as a level.

    The normal scores of a row are known to lie in the intervals of its values. They are drawn by
    turns given the others, and the correlation is the mean of those of the later turns: without
    this, columns of few values would have correlations that are too small. Rows are scored by the
    density of their normal scores, and hidden cells imputed by draws of scores given the others.

    References:
        Extending the rank likelihood for semiparametric copula estimation (Hoff, 2007),
        https://arxiv.org/abs/math/0610413
    """

    def __init__(self, seed: int, effort: float = 1.0) -> None:
        self.random = np.random.default_rng(seed)

    def fit(self, train: pl.DataFrame) -> None:
        self.margins = [Margin(column, train[column.name]) for column in columns_of(train)]
        rows = train[:_MOST_FITTED]
        scores, (low, high) = self._scores(rows), self._bounds(rows)
        correlation = _correlation(scores)
        later = []
        for turn in range(_TURNS):
            self._redraw(scores, low, high, correlation)
            correlation = _correlation(scores)
            if turn >= _TURNS // 2:
                later.append(correlation)
        self.correlation = np.mean(later, axis=0)

    def _redraw(self, scores: Floats, low: Floats, high: Floats, correlation: Floats) -> None:
        """Draw the scores of each column given the others, within intervals, in place."""
        precision = np.linalg.inv(correlation)
        for place in range(scores.shape[1]):
            own = precision[place, place]
            mean = scores[:, place] - scores @ precision[:, place] / own
            deviation = own**-0.5
            ends = [ndtr((end[:, place] - mean) / deviation) for end in (low, high)]
            share = ends[0] + self.random.random(len(scores)) * (ends[1] - ends[0])
            drawn = mean + deviation * ndtri(share.clip(1e-12, 1 - 1e-12))
            scores[:, place] = drawn.clip(low[:, place], high[:, place])

    def _bounds(self, rows: pl.DataFrame) -> tuple[Floats, Floats]:
        """Normal scores of the ends of the intervals of rows, each of shape (N, D)."""
        pairs = [margin.intervals(rows[margin.column.name]) for margin in self.margins]
        low, high = (np.stack(ends, 1) for ends in zip(*pairs, strict=True))
        return ndtri(low.clip(_TINY, 1 - _TINY)), ndtri(high.clip(_TINY, 1 - _TINY))

    def _scores(self, rows: pl.DataFrame) -> Floats:
        """Normal scores of the middles of the intervals of rows, shape (N, D)."""
        low, high = self._bounds(rows)
        return np.asarray(ndtri((ndtr(low) + ndtr(high)) / 2))

    def sample(self, count: int) -> pl.DataFrame:
        size = len(self.margins)
        factor = np.linalg.cholesky(self.correlation)
        uniform = ndtr(self.random.standard_normal((count, size)) @ factor.T)
        return pl.DataFrame(m.series(uniform[:, place]) for place, m in enumerate(self.margins))

    def score(self, rows: pl.DataFrame) -> Floats:
        scores = self._scores(rows)
        found: Floats = (scores * np.linalg.solve(self.correlation, scores.T).T).sum(1)
        return found

    def impute(self, rows: pl.DataFrame, hidden: Bools) -> Imputed:
        low, high = self._bounds(rows)
        for place, margin in enumerate(self.margins):
            cells = hidden[:, place]
            # A hidden value is any that is not missing.
            ends = np.array(margin.present).clip(_TINY, 1 - _TINY)
            low[cells, place], high[cells, place] = ndtri(ends)
        scores = ndtri((ndtr(low) + ndtr(high)) / 2).clip(low, high)
        for _ in range(_TURNS):
            self._redraw(scores, low, high, self.correlation)
        draws = np.empty((_DRAWS, *scores.shape))
        for each in draws:
            self._redraw(scores, low, high, self.correlation)
            each[:] = scores
        return self._summary(ndtr(draws))

    def _summary(self, draws: Floats) -> Imputed:
        """Means and intervals of numbers and the most frequent levels of draws, (S, N, D)."""
        columns, low, high = [], {}, {}
        for place, margin in enumerate(self.margins):
            column, drawn = margin.column, draws[:, :, place]
            if isinstance(column, Levels):
                index = np.searchsorted(margin.ends[1:-1], drawn, side="right")
                counts = [(index == level).sum(0) for level in range(len(column.levels))]
                best = np.argmax(counts, axis=0) if counts else np.zeros(drawn.shape[1], np.int64)
                columns.append(column.series(best))
                continue
            numbers = margin.numbers(drawn.clip(min=np.nextafter(margin.ends[1], 1)))
            columns.append(column.series(numbers.mean(0)))
            low[column.name], high[column.name] = np.quantile(numbers, [0.05, 0.95], axis=0)
        return Imputed(pl.DataFrame(columns), low, high)


def _correlation(scores: Floats) -> Floats:
    """Correlations of columns, 0 for constant ones, slightly shrunk, shape (D, D)."""
    with np.errstate(invalid="ignore"):
        found = np.nan_to_num((1 - _SHRINKAGE) * np.corrcoef(scores, rowvar=False))
    np.fill_diagonal(found, 1.0)
    return found
