"""Resolution of columns: their grids, and values that a model can hardly tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mimachine._support import memory

__all__ = ["Crowd", "column_grids", "count_decimals", "crowded"]

_MOST_ROWS, _FIRST_ROWS = 1000, 10
_MOST_DECIMALS = 6
# Share of the rows, without those of the most frequent value, that makes a crowd.
_LEAST_SHARE = 0.25


class Crowd(NamedTuple):
    """Different values of a column that lie closer together than a model can resolve.

    Attributes:
        column: Index of the column.
        low: Smallest of the values.
        high: Largest of the values.
        share: Their share of the rows.
    """

    column: int
    low: float
    high: float
    share: float


def crowded(values: NDArray[Any], width: NDArray[Any]) -> list[Crowd]:
    """Find columns in which a quarter of the rows have different values within a short interval.

    The rows of the most frequent value, such as zero in a column of counts or a code for missing
    values, are not counted.

    Args:
        values: Rows (N, D); about 1,000 of them are used.
        width: Length of the interval for each column, (D,).
    """
    rows = values[:: max(1, len(values) // _MOST_ROWS)]
    found = (_crowd(k, np.sort(rows[:, k]), float(width[k])) for k in range(rows.shape[1]))
    return [crowd for crowd in found if crowd is not None]


def _crowd(column: int, ordered: NDArray[Any], width: float) -> Crowd | None:
    distinct, counts = np.unique(ordered, return_counts=True)
    others = ordered[ordered != distinct[counts.argmax()]] if counts.max() > 1 else ordered
    if len(others) < 2:
        return None
    inside = np.searchsorted(others, others + width, "right") - np.arange(len(others))
    first = int(inside.argmax())
    low, high = float(others[first]), float(others[first + inside[first] - 1])
    if low == high or inside[first] < max(2, _LEAST_SHARE * len(others)):
        return None
    return Crowd(column, low, high, int(inside[first]) / len(ordered))


def column_grids(
    sample: NDArray[Any], decimals: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """Step of the grid of each column of (n, D); 0 for a column that is not on a grid.

    Args:
        sample: Rows.
        decimals: Result of `count_decimals` for the columns. Numbers of few digits that were stored
            in half precision are on a grid only once they are rounded again.
    """
    grids = np.zeros(sample.shape[1])
    for column in range(sample.shape[1]):
        values = sample[:, column]
        if decimals is not None and decimals[column] > 0:
            values = np.round(values, decimals[column])
        values = values - values.min()
        span = float(values.max())
        if span == 0:
            continue
        # 0.3 and 3 * 0.1 are the same number here.
        distinct = np.unique(np.round(values / span, 9))
        step = np.diff(distinct).min()
        # On finer grids, rounding errors hide whether there is a grid.
        if step < 1e-6:
            continue
        steps = distinct / step
        if np.abs(steps - np.rint(steps)).max() < 1e-2:
            grids[column] = span / np.rint(1 / step)
    return grids


def count_decimals(
    values: NDArray[Any],
    wholes: NDArray[np.bool_],
    types: Sequence[np.dtype[Any]] | None = None,
) -> NDArray[np.int64]:
    """Number of decimals that all values of each column have, up to 6; -1 if some have more.

    A value has a number of decimals if its type has no value nearer to the rounded one: 0.1 has
    one, also in half precision.

    Args:
        values: Rows (N, D); they are gone through block by block.
        wholes: Columns that are known to hold integers, shape (D,).
        types: Types of the D columns in the file; by default that of the rows.
    """
    found = np.zeros(len(wholes), dtype=np.int64)
    for rows in memory.blocks(values):
        places = np.flatnonzero(~wholes & (found >= 0))
        if not len(places):
            break
        block = values[rows]
        for place in places.tolist():
            column = block[:, place]
            if types is not None and types[place].kind == "f":
                column = column.astype(types[place], copy=False)
            found[place] = _decimals(column, int(found[place]))
    return found


def _decimals(column: NDArray[Any], least: int) -> int:
    # The first rows decide for most columns, whose values have more decimals.
    first = column[:_FIRST_ROWS]
    for count in range(least, _MOST_DECIMALS + 1):
        if _has_decimals(first, count) and _has_decimals(column, count):
            return count
    return -1


def _has_decimals(values: NDArray[Any], count: int) -> bool:
    rounded = np.round(values.astype(np.float64, copy=False), count)
    return bool((rounded.astype(values.dtype, copy=False) == values).all())
