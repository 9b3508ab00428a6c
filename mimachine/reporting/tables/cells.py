"""Columns of a table cut into few cells, in which they can be counted and compared.

Numbers are cut at quantiles of reference rows, so that cells do not depend on their units or on any
increasing function of them; rare levels share a cell.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mimachine.data.tables.schema import Levels, Schema, Stepped

__all__ = ["Cells", "excess"]

Array = np.ndarray[Any, Any]
# Fewest and most cells of a number, and most of levels.
_FEWEST, _MOST, _MOST_LEVELS = 2, 8, 12
MISSING = -1


class Cells:
    """Cells of each column, learned from reference rows.

    Args:
        reference: Rows, shape (n, D), NaN where a value is missing.
        schema: Schema of the table.
    """

    def __init__(self, reference: Array, schema: Schema) -> None:
        columns = zip(reference.T, schema.modelled, strict=True)
        self._borders = [_borders(values, column) for values, column in columns]

    def of(self, rows: Array) -> Array:
        """Number of the cell of each value, shape (m, D); -1 where it is missing."""
        cells = np.full(rows.shape, MISSING)
        for index, borders in enumerate(self._borders):
            values = rows[:, index]
            known = np.isfinite(values)
            cells[known, index] = borders(values[known])
        return cells


class _Quantiles:
    """Cells of numbers: the reference values up to each border."""

    def __init__(self, known: Array) -> None:
        count = int(np.clip(len(known) ** (1 / 3), _FEWEST, _MOST))
        shares = np.arange(1, count) / count
        found = np.quantile(known, shares, method="inverted_cdf") if len(known) else np.zeros(0)
        self._borders = np.unique(found)

    def __call__(self, values: Array) -> Array:
        return np.searchsorted(self._borders, values)


class _Frequent:
    """Cells of levels: each of the most frequent, and one for all others."""

    def __init__(self, known: Array, count: int) -> None:
        counts = np.bincount(known.astype(np.int64), minlength=count)
        order = np.argsort(-counts, kind="stable")
        self._cells = np.minimum(np.argsort(order), _MOST_LEVELS - 1)

    def __call__(self, values: Array) -> Array:
        cells: Array = self._cells[values.astype(np.int64)]
        return cells


def _borders(values: Array, column: Stepped | Levels) -> _Quantiles | _Frequent:
    known = values[np.isfinite(values)]
    if isinstance(column, Stepped):
        return _Quantiles(known)
    return _Frequent(known, len(column.levels))


def excess(first: Array, second: Array) -> Array:
    """Total variation distance of each column's distributions beyond what chance explains.

    Missing values are a cell of their own. The distance is the largest difference of probabilities
    of any set of cells, from 0 to 1. Of it the expected distance between samples of one
    distribution is subtracted, so that rows of the same distribution have about 0.

    Args:
        first: Cells, shape (n, D).
        second: Cells, shape (m, D).

    Returns:
        Shape (D,), at least 0.
    """
    found = []
    for one, other in zip(first.T + 1, second.T + 1, strict=True):
        size = int(max(one.max(), other.max())) + 1
        p, q = (np.bincount(each, minlength=size) / len(each) for each in (one, other))
        mean = (p * len(one) + q * len(other)) / (len(one) + len(other))
        variance = mean * (1 - mean) * (1 / len(one) + 1 / len(other))
        chance = np.sqrt(2 / np.pi * variance).sum() / 2
        found.append(max(0.0, float(np.abs(p - q).sum() / 2 - chance)))
    return np.array(found)
