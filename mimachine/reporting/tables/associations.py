"""Association of each pair of columns of any kind: Cramér's V with its bias corrected."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["associations", "strongest"]

Array = np.ndarray[Any, Any]


def associations(cells: Array) -> Array:
    """Cramér's V of each pair of columns, with the bias correction of Bergsma (2013).

    It is 0 for independent columns, up to noise that the correction removes on average, and 1 for
    columns that determine each other. It does not depend on the order of the cells.

    Args:
        cells: Number of the cell of each value, shape (n, D); -1 where it is missing. A pair of
            columns is compared on the rows in which both are known.

    Returns:
        Shape (D, D), symmetric; NaN where a column does not vary in the rows of a pair.
    """
    sizes = cells.max(0, initial=-1) + 1
    ends = np.cumsum(sizes)
    # One-hot: a product of two columns' blocks counts the pairs of their cells.
    flags = np.zeros((len(cells), int(ends[-1])), dtype=np.float32)
    for index, (end, size) in enumerate(zip(ends, sizes, strict=True)):
        known = np.flatnonzero(cells[:, index] >= 0)
        flags[known, end - size + cells[known, index]] = 1
    found = np.full((len(sizes), len(sizes)), math.nan)
    for i in range(len(sizes)):
        counts = flags[:, ends[i] - sizes[i] : ends[i]].T @ flags
        for j in range(i, len(sizes)):
            table = counts[:, ends[j] - sizes[j] : ends[j]].astype(np.float64)
            found[i, j] = found[j, i] = cramers_v(table)
    return found


def cramers_v(counts: Array) -> float:
    """Cramér's V of a table of counts, with its bias corrected; NaN if a margin has one value."""
    counts = counts[counts.sum(1) > 0][:, counts.sum(0) > 0]
    total = counts.sum()
    rows, columns = counts.shape
    if min(rows, columns) < 2:
        return math.nan
    expected = np.outer(counts.sum(1), counts.sum(0)) / total
    square = float((np.square(counts - expected) / expected).sum() / total)
    square = max(0.0, square - (rows - 1) * (columns - 1) / (total - 1))
    least = min(size - (size - 1) ** 2 / (total - 1) for size in (rows, columns))
    # With as many cells as rows there is nothing left to learn from.
    return min(1.0, math.sqrt(square / (least - 1))) if least > 1 + 1e-9 else math.nan


def strongest(matrix: Array, most: int) -> Array:
    """Indices, in order, of up to `most` columns with the strongest association to another one."""
    off = np.nan_to_num(matrix * (1 - np.eye(len(matrix))))
    order = np.argsort(-off.max(1), kind="stable")[:most]
    return np.sort(order)
