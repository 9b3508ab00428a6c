"""Quantile map of a column: bin edges in steps, and the normal scores of the values below them.

The map is piecewise linear. A continuous column becomes nearly standard normal; a value that many
rows have takes an interval of its own, which has its share under the normal density.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["apply", "map_of_counts", "map_of_steps"]

# With m rows in each interval, the map costs later rows about 1/(2m) nats each.
_FEWEST_LEVELS, _MOST_LEVELS = 4, 64
_FEWEST_ROWS = 8
# Largest number of frequent values. Each has _SPIKE times the rows of its neighbours, and at least
# this share of all rows.
_MOST_SPIKES, _SPIKE, _LEAST_SHARE = 32, 4, 0.002
# An interval much wider than others is split into parts; largest number of such intervals.
_PARTS, _MOST_WIDE = 8, 4
# Share of an interval that is a gap, and not by chance.
_GAP = 0.8
# Rows that intervals without any count as, and their largest share of all.
_EMPTY, _EMPTY_SHARE = 0.5, 0.01


def map_of_steps(steps: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Quantile map of training values.

    Args:
        steps: Whole numbers, shape (N,), at least one.

    Returns:
        Edges k - 1/2 of bins, and the probits of the share of the values below each, clipped to
        Φ⁻¹(1/(2N)) and Φ⁻¹(1 - 1/(2N)); both strictly increasing.
    """
    values, counts = np.unique(steps, return_counts=True)
    return map_of_counts(values, counts)


def map_of_counts(
    values: NDArray[Any], counts: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Quantile map of values with a number of rows each.

    Args:
        values: Different whole numbers, increasing, shape (K,).
        counts: Rows of each, shape (K,), not all 0. Without rows at the first or last value, the
            outermost scores are further out.
    """
    values = values.astype(np.float64)
    below = np.concatenate([[0], np.cumsum(counts)])
    levels = _levels(int(below[-1]))
    at = np.searchsorted(below[1:], levels * below[-1])
    frequent = np.unique(at[1:][np.diff(at) == 0])
    frequent = frequent[counts[frequent] > 1]
    ends = [values[0] - 0.5, values[-1] + 0.5]
    # Edges of the quantiles; on both sides of a value that fills more than one of them.
    edges = np.unique(np.concatenate([ends, values[at] + 0.5, values[frequent] - 0.5]))
    spikes = _spikes(values, counts, below, edges)
    edges = np.unique(np.concatenate([edges, spikes - 0.5, spikes + 0.5]))
    edges = np.unique(np.concatenate([edges, _within_wide(values, below, edges)]))
    edges = np.unique(np.concatenate([edges, _gaps(values, below, edges)]))
    return edges, _scores(_rows_between(values, below, edges))


def _levels(total: int) -> NDArray[np.float64]:
    """Probabilities of the quantiles: even ones, and halves of the last towards both ends."""
    number = int(np.clip(np.sqrt(total), _FEWEST_LEVELS, _MOST_LEVELS))
    even = np.arange(1, number) / number
    tail = 0.5 ** np.arange(1, 30) / number
    tail = tail[tail * total >= _FEWEST_ROWS]
    return np.concatenate([tail[::-1], even, 1 - tail])


def _rows_between(
    values: NDArray[Any], below: NDArray[Any], edges: NDArray[Any]
) -> NDArray[np.float64]:
    return np.diff(below[np.searchsorted(values, edges)]).astype(np.float64)


def _spikes(
    values: NDArray[Any], counts: NDArray[Any], below: NDArray[Any], edges: NDArray[Any]
) -> NDArray[np.float64]:
    """Values that have many more rows than the others of their interval."""
    least = max(_FEWEST_ROWS, _LEAST_SHARE * below[-1])
    chosen = np.flatnonzero(counts >= least)
    chosen = chosen[np.argsort(counts[chosen])[::-1]]
    place = np.searchsorted(edges, values[chosen]) - 1
    width = np.diff(edges)[place]
    others = _rows_between(values, below, edges)[place] - counts[chosen]
    expected = others / np.maximum(width - 1, 1)
    is_spike = (width > 1) & (counts[chosen] > _SPIKE * expected + _FEWEST_ROWS)
    return np.asarray(values[chosen[is_spike][:_MOST_SPIKES]])


def _within_wide(
    values: NDArray[Any], below: NDArray[Any], edges: NDArray[Any]
) -> NDArray[np.float64]:
    """Edges within the widest intervals, such as that between two clusters."""
    width, rows = np.diff(edges), _rows_between(values, below, edges)
    is_wide = (width > _PARTS * np.median(width)) & (rows >= _PARTS * _FEWEST_ROWS)
    wide = np.flatnonzero(is_wide)
    wide = wide[np.argsort(-width[wide], kind="stable")][:_MOST_WIDE]
    parts = edges[wide, None] + width[wide, None] * np.arange(1, _PARTS) / _PARTS
    return np.asarray(np.floor(parts.ravel()) + 0.5)


def _gaps(values: NDArray[Any], below: NDArray[Any], edges: NDArray[Any]) -> NDArray[np.float64]:
    """Edges of wide gaps, which take most of an interval that has rows on both sides."""
    width, rows = np.diff(edges), _rows_between(values, below, edges)
    # Also the distances from the edges of the interval to its first and last value.
    points = np.union1d(np.concatenate([values - 0.5, values + 0.5]), edges)
    place = np.searchsorted(edges, points[:-1], "right") - 1
    length = np.diff(points)
    wide = (length > 1) & (length > _GAP * width[place]) & (rows[place] >= _FEWEST_ROWS)
    return np.concatenate([points[:-1][wide], points[1:][wide]])


def _scores(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Normal scores of the edges of intervals with some rows each."""
    from torch import from_numpy
    from torch.special import ndtri

    total = rows.sum()
    empty = min(_EMPTY, _EMPTY_SHARE * total / len(rows))
    # Outermost values may have half a row, of levels that only later rows may have.
    half = min(1.0, rows[0], rows[-1]) or empty
    least = min(1 / (2 * max(total, 2)), half / (2 * total))
    rows = np.where(rows > 0, rows, empty)
    # Sums from both ends, since 1 - p has few digits where p is near 1.
    low = np.cumsum(rows)[:-1] / rows.sum()
    high = np.cumsum(rows[::-1])[:-1][::-1] / rows.sum()
    # torch's, as scipy takes long to import.
    quantiles = [ndtri(from_numpy(p.copy())).numpy() for p in (low, high, np.array([least]))]
    inner, end = np.where(low < high, quantiles[0], -quantiles[1]), -quantiles[2]
    return np.concatenate([-end, inner, end])


def apply(
    steps: NDArray[Any], edges: NDArray[np.float64], scores: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Normal scores of places on the axis of steps; linear beyond the first and last edge."""
    place = np.clip(np.searchsorted(edges, steps) - 1, 0, len(edges) - 2)
    slope = np.diff(scores) / np.diff(edges)
    result: NDArray[np.float64] = scores[place] + slope[place] * (steps - edges[place])
    return result
