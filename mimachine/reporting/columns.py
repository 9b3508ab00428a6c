"""Columns: the numbers of a datum one by one, by their names and in the units of their file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.decomposition import PCA

from mimachine._support.memory import rows_at_once
from mimachine.data.dataset import Dataset
from mimachine.estimation.codes.moments import closed_mean, mean_of
from mimachine.model.joint import Joint
from mimachine.model.networks import evaluating

__all__ = [
    "Explained",
    "chosen",
    "edges",
    "explained",
    "linear",
    "names",
    "values",
]


Array = np.ndarray[Any, Any]
_MOST_FITTED = 2000
# Data to decode where the decoder's mean is that of many draws.
_MOST_DRAWN = 64
# Fewest and most bins.
_BINS = (8, 40)


class Explained(NamedTuple):
    """What is left of the columns after encoding and decoding, in units of the rows.

    Attributes:
        error: Mean squared error of each column, shape (D,).
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


def names(data: Dataset) -> list[str]:
    """The columns' names; where they have none, x1, x2, ..., or places such as x(1, 2)."""
    places, shape = _places(data)
    given = data.columns
    if given is not None and len(given) == math.prod(shape):
        return [given[place] for place in places]
    if len(shape) == 1:
        return [f"x{place + 1}" for place in places]
    spots = np.stack(np.unravel_index(places, shape), 1) + 1
    return [f"x({', '.join(map(str, spot))})" for spot in spots.tolist()]


def _places(data: Dataset) -> tuple[Array, tuple[int, ...]]:
    """Places of the columns in a flat datum of the file, and the shape that a datum has there."""
    known = data.preprocessing
    shape = tuple(data.test.shape[1:]) if known is None else known.shape
    if known is None or known.kept is None:
        return np.arange(math.prod(shape)), shape
    return known.kept, shape


def values(rows: torch.Tensor, data: Dataset) -> Array:
    """Rows (n, D) in the units of their file, still (n, D)."""
    restored = data.restore(rows)
    return restored.reshape(len(rows), -1)[:, _places(data)[0]]


def chosen(count: int, most: int) -> Array:
    """Which rows to take for a picture: all, or a random part, since data may be sorted."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False))


@torch.no_grad()
def explained(model: Joint, data: Dataset) -> Explained:
    """How much of each column the codes' means keep, measured on the test split.

    Where the decoder's mean has no closed form it is that of draws, of the first 64 test data.
    """

    def decoded(rows: torch.Tensor) -> Array:
        restored = mean_of(model.decoder(mean_of(model.encoder(rows))))
        return _flat(restored)

    with evaluating(model):
        first = model.decoder(mean_of(model.encoder(data.test[:1])))
        if closed_mean(first) is None:
            data = replace(data, test=data.test[:_MOST_DRAWN])
        return _explained(data, ((rows, decoded(rows)) for rows in _blocks(data)))


def linear(data: Dataset, dimensions: int) -> Explained:
    """The same for so many principal components of at most 2,000 training rows."""
    rows = data.train[chosen(len(data.train), _MOST_FITTED)].flatten(1).double().cpu().numpy()
    pca = PCA(min(dimensions, *rows.shape), random_state=0).fit(rows)

    def projected(rows: torch.Tensor) -> Array:
        x = rows.flatten(1).double().cpu().numpy()
        restored: Array = pca.inverse_transform(pca.transform(x))
        return restored

    return _explained(data, ((rows, projected(rows)) for rows in _blocks(data)))


def _explained(data: Dataset, pairs: Iterator[tuple[torch.Tensor, Array]]) -> Explained:
    """Sums over blocks of the test split and what was made of them."""
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


def edges(column: Array, samples: Array, step: float) -> Array:
    """Edges of 8 to 40 bins, by the number of data, for a column (n,) and samples of it (m,).

    The outermost 0.5 % on either side may be outside, and so may samples that are further from the
    data than half their range.

    Args:
        column: Finite values.
        samples: Values of any kind.
        step: Step of the grid that the column lies on, or 0. Each bin then holds as many places of
            the grid as any other, in its inside.
    """
    most = int(np.clip(2 * len(column) ** (1 / 3), *_BINS))
    low, high = np.quantile(column, (0.005, 0.995))
    if step > 0 and np.ptp(column) <= max(_BINS) * step:
        low, high, most = column.min(), column.max(), max(_BINS)
    finite = samples[np.isfinite(samples)]
    if len(finite):
        margin = 0.5 * (high - low) or step or 0.5
        lower, upper = np.quantile(finite, (0.005, 0.995))
        low, high = min(low, max(lower, low - margin)), max(high, min(upper, high + margin))
    if not step > 0:
        low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
        return np.linspace(low, high, most + 1)
    width = step * max(1, math.ceil((high - low) / step / most))
    start = column.min() - step / 2
    start += width * math.floor((low - start) / width)
    count = math.floor((high - start) / width) + 1
    found: Array = start + width * np.arange(count + 1)
    return found
