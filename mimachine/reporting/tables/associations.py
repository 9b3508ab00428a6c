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
    rows, columns = cells.shape
    size = int(cells.max(initial=0)) + 1
    # One-hot: a product of two columns' blocks counts the pairs of their cells.
    flags = np.zeros((rows, columns, size), dtype=np.float32)
    known = np.nonzero(cells >= 0)
    flags[(*known, cells[known])] = 1
    flat = flags.reshape(rows, -1)
    found = np.full((columns, columns), math.nan)
    for index in range(columns):
        counts = flags[:, index].T @ flat[:, index * size :]
        tables = counts.reshape(size, -1, size).swapaxes(0, 1).astype(np.float64)
        found[index, index:] = found[index:, index] = cramers_v(tables)
    return found


def cramers_v(counts: Array) -> Array:
    """Cramér's V, with its bias corrected, of tables of counts of pairs of cells.

    Args:
        counts: Shape (..., R, C); rows and columns without counts have no part.

    Returns:
        Shape (...); NaN where a margin has fewer than two cells, or every row one of its own.
    """
    total = counts.sum((-2, -1))
    margins = counts.sum(-1), counts.sum(-2)
    rows, columns = ((margin > 0).sum(-1) for margin in margins)
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = margins[0][..., :, None] * margins[1][..., None, :] / total[..., None, None]
        parts = np.where(expected > 0, np.square(counts - expected) / expected, 0.0)
        square = parts.sum((-2, -1)) / total - (rows - 1) * (columns - 1) / (total - 1)
        least = np.minimum(*(each - (each - 1) ** 2 / (total - 1) for each in (rows, columns)))
        found = np.sqrt(square.clip(0) / (least - 1)).clip(None, 1)
    known = (np.minimum(rows, columns) > 1) & (least > 1 + 1e-9)
    return np.where(known, found, math.nan)


def strongest(matrix: Array, most: int) -> Array:
    """Indices, in order, of up to `most` columns with the strongest association to another one."""
    off = np.nan_to_num(matrix * (1 - np.eye(len(matrix))))
    order = np.argsort(-off.max(1), kind="stable")[:most]
    return np.sort(order)
