"""Explained variance of each column, by a model's codes and by PCA."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from mimachine._support.memory import rows_at_once
from mimachine._support.process import exclusive
from mimachine.data.dataset import Dataset
from mimachine.estimation.codes.moments import closed_mean, mean_of
from mimachine.model.joint import Joint
from mimachine.model.networks import evaluating
from mimachine.reporting.columns import Array, chosen

__all__ = ["Explained", "explained", "linear", "percent"]

_MOST_FITTED = 2000
# Rows to decode if the decoder's mean is estimated from samples.
_MOST_DRAWN = 64


class Explained(NamedTuple):
    """Reconstruction error and variance of each column, in the model's units.

    Attributes:
        error: Mean squared reconstruction error of each column, shape (D,).
        variance: Variance of each column, shape (D,).
    """

    error: Array
    variance: Array

    @property
    def shares(self) -> Array:
        """R² of each column, 1 - error / variance; NaN where a column does not vary."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.variance > 0, 1 - self.error / self.variance, math.nan)

    @property
    def total(self) -> float:
        """R² of all columns at once; NaN if none varies."""
        variance = float(self.variance.sum())
        return 1 - float(self.error.sum()) / variance if variance > 0 else math.nan


@torch.no_grad()
def explained(model: Joint, data: Dataset) -> Explained:
    """Variance of each column explained by reconstructions from mean codes, on the test split.

    If the decoder's mean has no closed form, it is estimated from samples, for 64 random rows.
    """

    def decoded(rows: torch.Tensor) -> Array:
        restored = mean_of(model.decoder(mean_of(model.encoder(rows))))
        return _flat(restored)

    with evaluating(model):
        first = model.decoder(mean_of(model.encoder(data.test[:1])))
        if closed_mean(first) is None:
            data = replace(data, test=data.test[chosen(len(data.test), _MOST_DRAWN)])
        return _explained(data, ((rows, decoded(rows)) for rows in _blocks(data)))


def linear(data: Dataset, dimensions: int) -> Explained:
    """Variance explained by PCA with this number of components, fitted on up to 2,000 rows."""
    from sklearn.decomposition import PCA

    rows = data.train[chosen(len(data.train), _MOST_FITTED)].flatten(1).double().cpu().numpy()
    with exclusive():
        pca = PCA(min(dimensions, *rows.shape), random_state=0).fit(rows)

    def projected(rows: torch.Tensor) -> Array:
        x = rows.flatten(1).double().cpu().numpy()
        with exclusive():
            restored: Array = pca.inverse_transform(pca.transform(x))
        return restored

    return _explained(data, ((rows, projected(rows)) for rows in _blocks(data)))


def _explained(data: Dataset, pairs: Iterator[tuple[torch.Tensor, Array]]) -> Explained:
    """Error and variance from pairs of test rows and their reconstructions, block by block."""
    count = len(data.test)
    mean = sum(_flat(rows).sum(0) for rows in _blocks(data)) / count
    error, variance = np.zeros_like(mean), np.zeros_like(mean)
    for rows, restored in pairs:
        x = _flat(rows)
        error += np.square(restored - x).sum(0) / count
        variance += np.square(x - mean).sum(0) / count
    return Explained(error, variance)


def _blocks(data: Dataset) -> Iterable[torch.Tensor]:
    blocks: Iterable[torch.Tensor] = data.test.split(rows_at_once(data.test.shape))
    return blocks


def _flat(rows: torch.Tensor) -> Array:
    flat: Array = rows.flatten(1).double().cpu().numpy()
    return flat


def percent(share: float) -> str:
    """R² in words: "none" if not above 0, "unknown" if NaN because nothing varies."""
    if np.isnan(share):
        return "unknown"
    return f"{share:.0%}" if share >= 0.005 else "none"
