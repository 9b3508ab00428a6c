"""Columns of categories that another settles, such as a region by its city.

A column settles another if the level of a row nearly always follows from the other rows of the same
level of the parent. Each row is predicted from the others, so a column with a level for each row
predicts nothing; and the dependence must be too strong for chance, by a likelihood-ratio test.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Settled", "contradictions", "settled", "strength"]

# Share of the rows that may contradict, and share of the errors of guessing that must vanish.
_MOST_WRONG, _LEAST_GAIN = 0.01, 0.9
# Share of the rows whose level of the parent must occur again.
_LEAST_REPEATED = 0.5
_CHANCE = 1e-6
# More rows are looked at only for columns that may settle each other.
_ROWS_AT_FIRST = 5000


class Settled(NamedTuple):
    """What settles a column.

    Attributes:
        parent: Index of the column that settles this one.
        table: Level of the parent, level and number of rows with both, where there are any.
        wrong: Share of the rows that contradict.
    """

    parent: int
    table: tuple[tuple[int, int, int], ...]
    wrong: float


class _Edge(NamedTuple):
    wrong: float
    levels: int
    parent: int
    child: int


def settled(
    columns: Mapping[int, NDArray[np.float64]],
    levels: Mapping[int, int],
    pooled: Sequence[int] = (),
) -> dict[int, Settled]:
    """Find the strongest parent of each column, so that columns and parents form a forest.

    Args:
        columns: Index of the level in each row, NaN where missing, by the index of the column.
        levels: Number of levels of each column.
        pooled: Columns whose last level stands for rare ones, which settle nothing.
    """
    edges = []
    chance = _CHANCE / max(1, len(columns) * (len(columns) - 1))
    coded = {k: _coded(column, levels[k]) for k, column in columns.items()}
    for parent, child in itertools.permutations(columns, 2):
        shape = levels[parent], levels[child]
        wrong = _wrong(coded[parent], coded[child], shape, parent in pooled, chance)
        if wrong is not None:
            edges.append(_Edge(round(wrong, 3), levels[parent], parent, child))
    chosen: dict[int, int] = {}
    # Of parents that settle alike, the one with the fewest levels is the nearest.
    for edge in sorted(edges):
        if edge.child not in chosen and edge.child not in _ancestors(edge.parent, chosen):
            chosen[edge.child] = edge.parent
    found = {}
    for child, parent in sorted(chosen.items()):
        shape = levels[parent], levels[child]
        found[child] = _result(parent, _crossed(coded[parent], coded[child], shape))
    return found


def contradictions(
    parent: NDArray[np.float64],
    child: NDArray[np.float64],
    shape: tuple[int, int],
    is_pooled: bool = False,
    chance: float = _CHANCE,
) -> float | None:
    """Share of the rows in which a column contradicts its parent; None if it is not settled by it.

    Args:
        parent: Index of the parent's level in each row, NaN where missing.
        child: Index of the column's level.
        shape: Numbers of levels of both.
        is_pooled: Whether the parent's last level stands for many.
        chance: Probability with which an independent column may seem settled.
    """
    coded = _coded(parent, shape[0]), _coded(child, shape[1])
    return _wrong(*coded, shape, is_pooled, chance)


def _coded(column: NDArray[np.float64], levels: int) -> NDArray[np.int64]:
    """Indices of levels, with one more for a missing value."""
    return np.where(np.isfinite(column), column, levels).astype(np.int64)


def _wrong(
    parent: NDArray[np.int64],
    child: NDArray[np.int64],
    shape: tuple[int, int],
    is_pooled: bool,
    chance: float,
) -> float | None:
    if min(shape) < 2:
        return None
    # Rows from all parts of the table, since tables are often sorted.
    some = slice(None, None, max(1, len(parent) // _ROWS_AT_FIRST))
    first = _crossed(parent[some], child[some], shape)
    if strength(first, is_pooled, chance, most_wrong=3 * _MOST_WRONG) is None:
        return None
    return strength(_crossed(parent, child, shape), is_pooled, chance)


def _ancestors(column: int, parents: Mapping[int, int]) -> set[int]:
    found = {column}
    while column in parents:
        column = parents[column]
        found.add(column)
    return found


def _crossed(
    parent: NDArray[np.int64], child: NDArray[np.int64], shape: tuple[int, int]
) -> NDArray[np.int64]:
    """Rows with each pair of levels, where neither is missing."""
    rows, columns = shape[0] + 1, shape[1] + 1
    pairs = np.bincount(parent * columns + child, minlength=rows * columns)
    return pairs.reshape(rows, columns)[:-1, :-1]


def strength(
    crossed: NDArray[np.int64],
    is_pooled: bool = False,
    chance: float = _CHANCE,
    most_wrong: float = _MOST_WRONG,
) -> float | None:
    """Share of the rows that contradict their parent's level; None if it does not settle them.

    Args:
        crossed: Rows with each level of the parent and each level of the column.
        is_pooled: Whether the last level of the parent stands for many.
        chance: Probability with which an independent column may seem settled.
        most_wrong: Largest share of contradictions.
    """
    if is_pooled:
        crossed = crossed[:-1]
    # Nearly all columns fail here, as rows that predict themselves are right more often.
    if crossed.sum() - crossed.max(axis=1).sum() > most_wrong * crossed.sum():
        return None
    rows = crossed.sum(axis=1)
    again = crossed[rows > 1]
    repeated, total = again.sum(), rows.sum()
    if repeated < max(1, _LEAST_REPEATED * total):
        return None
    # A row of the most frequent level is right if that stays so without the row.
    top = np.sort(again, axis=1)[:, -2:]
    right = np.where(top[:, 1] - 1 > top[:, 0], top[:, 1], 0).sum()
    wrong = 1 - right / repeated
    by_guess = 1 - crossed.sum(axis=0).max() / total
    if wrong > most_wrong or wrong > (1 - _LEAST_GAIN) * by_guess:
        return None
    return float(wrong) if _p_value(crossed) < chance else None


def _p_value(crossed: NDArray[np.int64]) -> float:
    """Of the likelihood-ratio test that two columns are independent."""
    from scipy.special import chdtrc

    used = crossed[np.ix_(crossed.sum(axis=1) > 0, crossed.sum(axis=0) > 0)]
    if min(used.shape) < 2:
        return 1.0
    total = used.sum()
    expected = used.sum(axis=1, keepdims=True) * used.sum(axis=0) / total
    seen = used > 0
    ratio = 2 * (used[seen] * np.log(used[seen] / expected[seen])).sum()
    return float(chdtrc((used.shape[0] - 1) * (used.shape[1] - 1), ratio))


def _result(parent: int, crossed: NDArray[np.int64]) -> Settled:
    rows, columns = np.nonzero(crossed)
    counts = crossed[rows, columns]
    wrong = 1 - crossed.max(axis=1).sum() / max(1, crossed.sum())
    table = tuple(zip(rows.tolist(), columns.tolist(), counts.tolist(), strict=True))
    return Settled(parent, table, float(wrong))
