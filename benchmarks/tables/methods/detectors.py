"""Scores of anomalies by scikit-learn, with levels as indicators."""

from __future__ import annotations

import numpy as np
import polars as pl
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest

from tables.columns import Floats
from tables.methods.indicators import Indicators


class IsolatedRows:
    """Isolation forest with scikit-learn's defaults."""

    def __init__(self, seed: int, effort: float = 1.0) -> None:
        self.seed = seed

    def fit(self, train: pl.DataFrame) -> None:
        self.encoding = Indicators.of(train)
        self.forest = IsolationForest(random_state=self.seed).fit(self.encoding.filled(train))

    def score(self, rows: pl.DataFrame) -> Floats:
        return -np.asarray(self.forest.score_samples(self.encoding.filled(rows)))


class PrincipalComponents:
    """Squared error of the reconstruction by components that hold 90 % of the variance."""

    def __init__(self, seed: int, effort: float = 1.0) -> None:
        self.seed = seed

    def fit(self, train: pl.DataFrame) -> None:
        self.encoding = Indicators.of(train)
        values = self.encoding.filled(train)
        deviation = values.std(0)
        self.deviation = np.where(deviation > 0, deviation, 1.0)
        self.pca = PCA(0.9, svd_solver="full").fit(values / self.deviation)

    def score(self, rows: pl.DataFrame) -> Floats:
        values = self.encoding.filled(rows) / self.deviation
        rebuilt = self.pca.inverse_transform(self.pca.transform(values))
        return np.asarray(np.square(values - rebuilt).sum(1))
