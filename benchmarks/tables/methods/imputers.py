"""Imputation by scikit-learn, with levels as indicators."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import polars as pl
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer

from tables.columns import Floats, Ints, Levels, to_floats
from tables.measures import Bools, Imputed, hide
from tables.methods.indicators import Indicators

# The methods take a time that grows fast with the training rows. Intervals come from others.
_MOST_FITTED, _MOST_CALIBRATED = 5000, 500
# Share of cells that are hidden for the intervals, and how often others are.
_HIDDEN, _ROUNDS = 0.2, 3


class Marginal:
    """Means of numbers, with the 5 % and 95 % quantiles, and the most frequent level."""

    def __init__(self, seed: int, effort: float = 1.0) -> None:
        pass

    def fit(self, train: pl.DataFrame) -> None:
        self.train, self.encoding = train, Indicators.of(train)

    def impute(self, rows: pl.DataFrame, hidden: Bools) -> Imputed:
        columns, low, high = [], {}, {}
        for column in self.encoding.columns:
            if isinstance(column, Levels):
                columns.append(column.series(np.zeros(len(rows), dtype=np.int64)))
                continue
            values = to_floats(self.train[column.name].drop_nulls())
            columns.append(column.series(np.full(len(rows), values.mean())))
            ends = np.quantile(values, [0.05, 0.95])
            low[column.name], high[column.name] = (np.full(len(rows), end) for end in ends)
        return Imputed(pl.DataFrame(columns), low, high)


class _Filled:
    """An imputer of scikit-learn on encoded rows, with intervals from its errors on other rows.

    The ends are the 5 % and 95 % quantiles of a column's errors where a fifth of the cells of up to
    500 training rows that the imputer was not fitted to is hidden, with the correction of conformal
    prediction for few errors.
    """

    imputer: Any

    def __init__(self, seed: int, effort: float = 1.0) -> None:
        self.seed = seed

    def fit(self, train: pl.DataFrame) -> None:
        self.encoding = Indicators.of(train)
        kept = min(_MOST_CALIBRATED, len(train) // 5)
        self.imputer.fit(self.encoding.encode(train[kept:][:_MOST_FITTED]))
        self.errors = self._errors(train[:kept])

    def _errors(self, rows: pl.DataFrame) -> dict[str, Floats]:
        """Quantiles of the errors of each column of numbers, zeros where no cell was hidden."""
        errors: dict[str, list[Floats]] = {}
        for turn in range(_ROUNDS):
            holes, hidden = hide(rows, _HIDDEN, self.seed + turn)
            filled = self._fill(holes)
            for place, column in enumerate(self.encoding.columns):
                if not isinstance(column, Levels):
                    error = to_floats(rows[column.name]) - self.encoding.numbers(filled, place)
                    errors.setdefault(column.name, []).append(error[hidden[:, place]])
        return {name: _ends(np.concatenate(found)) for name, found in errors.items()}

    def _fill(self, rows: pl.DataFrame) -> Floats:
        return np.asarray(self.imputer.transform(self.encoding.encode(rows)))

    def impute(self, rows: pl.DataFrame, hidden: Bools) -> Imputed:
        filled = self._fill(rows)
        low, high = {}, {}
        for place, column in enumerate(self.encoding.columns):
            if column.name in self.errors:
                values = self.encoding.numbers(filled, place)
                low[column.name], high[column.name] = (
                    values + error for error in self.errors[column.name]
                )
        return Imputed(self.encoding.decode(filled), low, high)


def _ends(errors: Floats) -> Floats:
    """Lower and upper end that hold a new error with probability 0.9, the widest ones if few."""
    if not len(errors):
        return np.zeros(2)
    ordered, count = np.sort(errors), len(errors)
    low = max(0, int(np.floor(0.05 * (count + 1))) - 1)
    return ordered[[low, count - 1 - low]]


class Neighbours(_Filled):
    """Means of the ten nearest of 5,000 training rows."""

    def __init__(self, seed: int, effort: float = 1.0) -> None:
        super().__init__(seed, effort)
        self.imputer = KNNImputer(n_neighbors=10, keep_empty_features=True)


class _WithoutSiblings(IterativeImputer):
    """An iterative imputer that does not predict an indicator from those of the same column.

    In complete rows an indicator is 1 minus the others, a rule that keeps all of a hidden level at
    their means.
    """

    siblings: dict[int, slice]

    def _get_neighbor_feat_idx(self, n_features: int, feat_idx: int, abs_corr_mat: Any) -> Ints:
        own = self.siblings[feat_idx]
        return np.array([k for k in range(n_features) if not own.start <= k < own.stop])


class Iterative(_Filled):
    """IterativeImputer with its Bayesian ridge regressions, fitted to 5,000 training rows."""

    def __init__(self, seed: int, effort: float = 1.0) -> None:
        super().__init__(seed, effort)
        self.imputer = _WithoutSiblings(keep_empty_features=True, random_state=seed)

    def fit(self, train: pl.DataFrame) -> None:
        parts = Indicators.of(train).parts
        self.imputer.siblings = {k: part for part in parts for k in range(part.start, part.stop)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            super().fit(train)
