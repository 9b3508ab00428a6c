"""Names, original units and histogram bins of the columns of data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from mimachine.data.dataset import Dataset

__all__ = ["Array", "chosen", "edges", "names", "values"]

Array = np.ndarray[Any, Any]
# Minimum and maximum number of bins.
_BINS = (8, 40)


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
