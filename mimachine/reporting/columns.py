"""Names, original units, explained variance (R²) and histogram bins of the columns of data."""

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

__all__ = ["Explained", "chosen", "percent", "edges", "explained", "linear", "names", "values"]

Array = np.ndarray[Any, Any]
_MOST_FITTED = 2000
# Rows to decode if the decoder's mean is estimated from samples.
_MOST_DRAWN = 64
# Minimum and maximum number of bins.
_BINS = (8, 40)


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


def names(data: Dataset) -> list[str]:
    """Column names; by default x1, x2, ..., or indices such as x(1, 2)."""
    indices, shape = _indices(data)
    given = data.columns
    if given is not None and len(given) == math.prod(shape):
        return [given[index] for index in indices]
    if len(shape) == 1:
        return [f"x{index + 1}" for index in indices]
    positions = np.stack(np.unravel_index(indices, shape), 1) + 1
    return [f"x({', '.join(map(str, position))})" for position in positions.tolist()]


def _indices(data: Dataset) -> tuple[Array, tuple[int, ...]]:
    """Indices of the columns in a flattened row of the file, and the shape of a row there."""
    known = data.preprocessing
    shape = tuple(data.test.shape[1:]) if known is None else known.shape
    if known is None or known.kept is None:
        return np.arange(math.prod(shape)), shape
    return known.kept, shape


def values(rows: torch.Tensor, data: Dataset) -> Array:
    """Convert rows (n, D) of the model to the units of their file, shape (n, D)."""
    restored = data.restore(rows)
    return restored.reshape(len(rows), -1)[:, _indices(data)[0]]


def chosen(count: int, most: int) -> Array:
    """Indices of the rows to plot: all, or a random subset, because data may be sorted."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False))


@torch.no_grad()
def explained(model: Joint, data: Dataset) -> Explained:
    """Variance of each column explained by reconstructions from mean codes, on the test split.

    If the decoder's mean has no closed form, it is estimated from samples for the first 64 rows.
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
    """Variance explained by PCA with this number of components, fitted on up to 2,000 rows."""
    rows = data.train[chosen(len(data.train), _MOST_FITTED)].flatten(1).double().cpu().numpy()
    pca = PCA(min(dimensions, *rows.shape), random_state=0).fit(rows)

    def projected(rows: torch.Tensor) -> Array:
        x = rows.flatten(1).double().cpu().numpy()
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


def edges(column: Array, samples: Array, step: float) -> Array:
    """Histogram bin edges for a column (n,) and samples of it (m,): 8 to 40 bins, depending on n.

    The bins may exclude the outermost 0.5 % on either side, and samples farther from the data than
    half their range.

    Args:
        column: Finite values.
        samples: Values, which need not be finite.
        step: Step of the grid of the column's values; 0 if continuous. On a grid, all bins contain
            the same number of grid points, none of them on an edge.
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


def percent(share: float) -> str:
    """R² in words: "none" if not above 0, "unknown" if NaN because nothing varies."""
    if np.isnan(share):
        return "unknown"
    return f"{share:.0%}" if share >= 0.005 else "none"
