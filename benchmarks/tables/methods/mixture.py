"""A mixture of normals of the columns of numbers alone."""

from __future__ import annotations

import warnings

import numpy as np
import polars as pl
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from tables.columns import Floats, Numbers, columns_of, to_floats

COMPONENTS, _MOST_FITTED = 20, 20_000


def mixture(values: Floats, components: int, seed: int) -> GaussianMixture:
    """Mixture of full normals of rows; fewer components where they would have 20 rows or fewer."""
    count = max(1, min(components, len(values) // 20))
    found = GaussianMixture(count, reg_covar=1e-4, random_state=seed, max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return found.fit(values[:_MOST_FITTED])


class MixtureOfNumbers:
    """GaussianMixture(20) of the standardised numbers; columns of levels are left out.

    Missing values are the mean in fitting; generated rows have the holes of random training rows.
    """

    def __init__(self, seed: int, effort: float = 1.0) -> None:
        self.seed, self.random = seed, np.random.default_rng(seed)

    def fit(self, train: pl.DataFrame) -> None:
        self.columns = [c for c in columns_of(train) if isinstance(c, Numbers) and c.missing < 1]
        if not self.columns:
            raise ValueError("train must have a column of numbers, got none")
        values = self._values(train)
        self.holes = np.isnan(values)
        self.mean, deviation = np.nanmean(values, 0), np.nanstd(values, 0)
        self.deviation = np.where(deviation > 0, deviation, 1.0)
        self.mixture = mixture(self._standard(values), COMPONENTS, self.seed)

    def _values(self, rows: pl.DataFrame) -> Floats:
        return np.stack([to_floats(rows[column.name]) for column in self.columns], 1)

    def _standard(self, values: Floats) -> Floats:
        return np.nan_to_num((values - self.mean) / self.deviation)

    def sample(self, count: int) -> pl.DataFrame:
        drawn = self.mixture.sample(count)[0] * self.deviation + self.mean
        # The rows come sorted by component.
        drawn = self.random.permutation(drawn)
        drawn[self.holes[self.random.integers(len(self.holes), size=count)]] = np.nan
        return pl.DataFrame(c.series(drawn[:, place]) for place, c in enumerate(self.columns))

    def score(self, rows: pl.DataFrame) -> Floats:
        return -np.asarray(self.mixture.score_samples(self._standard(self._values(rows))))
