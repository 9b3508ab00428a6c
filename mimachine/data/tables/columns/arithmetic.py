"""Columns of numbers that are a sum, difference or multiple of others, such as total = a + b.

Generated rows satisfy such an equation only roughly, so that one of the columns is better left out
and computed. Equations that nearly all rows satisfy are found also if some rows contradict: small
samples of rows, of which most have no such row, give the candidates, and all rows test them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Equation", "equations"]

_MOST_TERMS, _MOST_COLUMNS = 8, 400
_FEWEST_ROWS = 20
_TRIALS = 12
_LEAST_HOLDS = 0.95
# Singular values relative to the largest, and coefficients in standard deviations, that are zero.
_SINGULAR, _ZERO = 1e-4, 1e-3
_LARGEST_DENOMINATOR = 12
_COARSE = 20


class Equation(NamedTuple):
    """A column that others give: column = constant + sum of coefficient * term.

    Attributes:
        column: Index of the column.
        terms: Indices of the other columns.
        coefficients: Of each term.
        constant: Added to the terms.
        holds: Share of the rows for which it holds.
    """

    column: int
    terms: tuple[int, ...]
    coefficients: tuple[float, ...]
    constant: float
    holds: float

    def text(self, names: Sequence[str]) -> str:
        """Such as "total = net + 0.19 net"."""
        parts = []
        for term, factor in zip(self.terms, self.coefficients, strict=True):
            size = "" if abs(factor) == 1 else f"{abs(factor):.6g} * "
            parts.append(("-" if factor < 0 else "+", f"{size}{names[term]}"))
        if self.constant:
            parts.append(("-" if self.constant < 0 else "+", f"{abs(self.constant):.6g}"))
        joined = " ".join(f"{sign} {part}" for sign, part in parts)
        joined = joined.removeprefix("+ ").replace("- ", "-", 1 if joined[0] == "-" else 0)
        return f"{names[self.column]} = {joined}"


def equations(rows: NDArray[np.float64], steps: NDArray[np.float64]) -> list[Equation]:
    """Find the columns that are sums, differences or multiples of others.

    Args:
        rows: Rows (N, D), NaN where missing; some thousands are enough.
        steps: Steps of the columns' grids, (D,), to which sums may be rounded.
    """
    if rows.shape[1] < 2:
        return []
    spread = _spread(rows)
    usable = np.flatnonzero(spread > 0)[:_MOST_COLUMNS]
    found: dict[frozenset[int], Equation] = {}
    # Few columns at a time would miss sums, so pairs first, then all columns that are left.
    rest = usable
    for equation in _multiples(rows, steps, spread, usable):
        found[frozenset((equation.column, *equation.terms))] = equation
        rest = rest[rest != equation.column]
    for equation in _sums(rows, steps, spread, rest):
        found.setdefault(frozenset((equation.column, *equation.terms)), equation)
    return sorted(found.values())


def _spread(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Half the range of most values of each column, or their deviation; 0 if all are the same."""
    result = np.zeros(rows.shape[1])
    for k in range(rows.shape[1]):
        seen = rows[np.isfinite(rows[:, k]), k]
        if len(seen) >= _FEWEST_ROWS:
            low, high = np.quantile(seen, (0.05, 0.95))
            result[k] = (high - low) / 2 or seen.std()
    return result


def _multiples(
    rows: NDArray[np.float64],
    steps: NDArray[np.float64],
    spread: NDArray[np.float64],
    usable: NDArray[np.int64],
) -> list[Equation]:
    """Columns that are a multiple of an earlier one, plus a constant."""
    result = []
    ranks = _rank_correlation(rows, usable)
    taken: set[int] = set()
    for i, second in enumerate(usable.tolist()):
        for j in np.flatnonzero(ranks[i, :i] > 0.9).tolist():
            first = int(usable[j])
            if first in taken:
                continue
            both = rows[np.isfinite(rows[:, first]) & np.isfinite(rows[:, second])]
            candidate = _line(both[:, first], both[:, second])
            if candidate is None:
                continue
            ways = (
                _tested(rows, steps, second, [first], np.array([candidate])),
                _tested(rows, steps, first, [second], np.array([1 / candidate])),
            )
            possible = [equation for equation in ways if equation is not None]
            if possible:
                whole = [each for each in possible if each.coefficients[0] % 1 == 0]
                equation = (whole or possible)[0]
                result.append(equation)
                taken.add(equation.column)
                break
    return result


def _rank_correlation(rows: NDArray[np.float64], usable: NDArray[np.int64]) -> NDArray[np.float64]:
    """Absolute correlations of ranks, which far-out values hardly change; NaN counts as middle."""
    ranks = np.empty((len(rows), len(usable)))
    for i, k in enumerate(usable):
        seen = np.isfinite(rows[:, k])
        column = rows[seen, k]
        order = np.sort(column)
        middle = (np.searchsorted(order, column) + np.searchsorted(order, column, "right")) / 2
        ranks[:, i] = 0.0
        ranks[seen, i] = middle - middle.mean()
    holes = np.isfinite(rows[:, usable]).astype(np.float64)
    size = np.sqrt((ranks**2).T @ holes)
    product = size * size.T
    return np.asarray(np.abs(ranks.T @ ranks) / np.where(product > 0, product, 1))


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> float | None:
    """Median slope between halves of the rows; None for too few of them."""
    if len(x) < _FEWEST_ROWS:
        return None
    order = np.argsort(x, kind="stable")
    half = len(x) // 2
    low, high = order[:half], order[-half:]
    run = x[high] - x[low]
    far = run > 0
    if far.sum() < _FEWEST_ROWS // 2:
        return None
    slope = float(np.median((y[high] - y[low])[far] / run[far]))
    return slope if math.isfinite(slope) and slope != 0 else None


def _sums(
    rows: NDArray[np.float64],
    steps: NDArray[np.float64],
    spread: NDArray[np.float64],
    usable: NDArray[np.int64],
) -> list[Equation]:
    """Equations of several columns, from the null spaces of small samples of complete rows."""
    usable = _complete_enough(rows, usable)
    if len(usable) < 3:
        return []
    block = rows[:, usable]
    complete = np.flatnonzero(np.isfinite(block).all(axis=1))
    size = 2 * len(usable) + 10
    if len(complete) < size:
        return []
    dice = np.random.default_rng(0)
    found: dict[int, Equation] = {}
    for _ in range(_TRIALS):
        chosen = dice.choice(complete, size, replace=False)
        for column, terms, slopes in _dependent(block[chosen], spread[usable]):
            indices = usable[terms].tolist()
            if int(usable[column]) in found:
                continue
            equation = _tested(rows, steps, int(usable[column]), indices, slopes)
            if equation is not None:
                found[equation.column] = equation
        if len(found) >= len(usable) // 2:
            break
    return list(found.values())


def _complete_enough(rows: NDArray[np.float64], usable: NDArray[np.int64]) -> NDArray[np.int64]:
    """Columns without those with the most holes, until there are enough complete rows."""
    seen = np.isfinite(rows[:, usable])
    order = np.argsort(seen.mean(axis=0), kind="stable")
    for dropped in range(len(usable)):
        kept = np.sort(order[dropped:])
        if seen[:, kept].all(axis=1).sum() >= 2 * len(kept) + 10:
            return np.asarray(usable[kept])
    return usable[:0]


def _dependent(
    block: NDArray[np.float64], spread: NDArray[np.float64]
) -> list[tuple[int, NDArray[np.int64], NDArray[np.float64]]]:
    """Columns that are sums of others in these rows: column, terms and coefficients."""
    from scipy.linalg import qr, solve_triangular

    scaled = (block - block.mean(axis=0)) / spread
    varied = np.flatnonzero(np.ptp(scaled, axis=0) > 0)
    if len(varied) < 2:
        return []
    _, triangle, order = qr(scaled[:, varied], mode="economic", pivoting=True)
    diagonal = np.abs(np.diag(triangle))
    rank = int((diagonal > _SINGULAR * diagonal[0]).sum())
    if rank in (0, len(varied)):
        return []
    weights = solve_triangular(triangle[:rank, :rank], triangle[:rank, rank:])
    result = []
    for k in range(weights.shape[1]):
        terms = np.flatnonzero(np.abs(weights[:, k]) > _ZERO)
        if 1 <= len(terms) <= _MOST_TERMS:
            column, others = varied[order[rank + k]], varied[order[:rank][terms]]
            slopes = weights[terms, k] * spread[column] / spread[others]
            result.append((int(column), others, slopes))
    return result


def _tested(
    rows: NDArray[np.float64],
    steps: NDArray[np.float64],
    column: int,
    terms: list[int],
    slopes: NDArray[np.float64],
) -> Equation | None:
    """An equation with round coefficients, if nearly all rows satisfy it."""
    slopes = np.array([_rounded(float(slope)) for slope in slopes])
    column, terms, slopes = _turned(column, terms, slopes)
    seen = np.isfinite(rows[:, [column, *terms]]).all(axis=1)
    if seen.sum() < _FEWEST_ROWS:
        return None
    rest = rows[seen, column] - rows[seen][:, terms] @ slopes
    constant = float(np.median(rest))
    # The result may be rounded to its grid, unless nearly everything would round to its few values.
    size = np.abs(rows[seen, column]).max()
    is_fine = len(np.unique(rows[seen, column])) > _COARSE
    tolerance = 0.5 * steps[column] * 1.001 if is_fine else 1e-9 * size
    if abs(constant) <= tolerance:
        constant = 0.0
    wrong = np.abs(rest - constant)
    holds = float((wrong <= tolerance + 1e-12 * size).mean())
    # Equations of columns with few different values hold by chance; the column must vary.
    varies = float((np.abs(rows[seen, column] - np.median(rows[seen, column])) > tolerance).mean())
    if holds < _LEAST_HOLDS or 1 - holds > 0.2 * varies:
        return None
    return Equation(column, tuple(terms), tuple(slopes.tolist()), constant, holds)


def _turned(
    column: int, terms: list[int], slopes: NDArray[np.float64]
) -> tuple[int, list[int], NDArray[np.float64]]:
    """The same equation solved for the column that is a sum of the others, if there is one.

    Of a = total - b, that is total = a + b.
    """
    if len(terms) > 1 and set(np.abs(slopes).tolist()) == {1.0} and (slopes > 0).sum() == 1:
        place = int(np.flatnonzero(slopes > 0)[0])
        total, others = terms[place], [*terms[:place], *terms[place + 1 :], column]
        column, terms, slopes = total, others, np.ones(len(others))
    order = np.argsort(terms)
    return column, [terms[k] for k in order], slopes[order]


def _rounded(number: float) -> float:
    """A nearby fraction of small numbers, or two decimals, if there is one."""
    near = Fraction(number).limit_denominator(_LARGEST_DENOMINATOR)
    for candidate in (float(near), round(number, 2), round(number, 4)):
        if candidate and abs(candidate - number) <= 1e-4 * abs(number):
            return candidate
    return number
