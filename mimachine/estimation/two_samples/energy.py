"""Energy distance of two samples."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec

import torch
from torch import Tensor

from mimachine._support.checks import flag
from mimachine.data.examples import Examples, as_tensor
from mimachine.estimation.codes.aggregate import energy_distance_from_normal
from mimachine.estimation.estimate import Estimate
from mimachine.estimation.two_samples.distances import concentration, pairwise
from mimachine.estimation.two_samples.units import Scaled, in_units_of, two_samples

__all__ = ["energy_distance"]

P = ParamSpec("P")
# Distances in memory at once.
_PAIRS = 2**22
# With fewer rows a variance of pairs cannot be separated from that of rows.
_FEWEST_FOR_ERROR = 4


# --- the two forms of energy_distance ------------------------------------------------------------


def _with_old_form(new: Callable[P, Estimate]) -> Callable[P, Estimate]:
    """Let `energy_distance` of 0.1 work for one version: of codes from a normal prior.

    It has one sample, or a second argument that is a number or of the shape of one row. Remove this
    function in 0.3.
    """

    @functools.wraps(new)
    def energy_distance(*args: P.args, **named: P.kwargs) -> Estimate:
        if not _is_old_form(args, named):
            return new(*args, **named)
        warnings.warn(
            "energy_distance(z, prior_mean, prior_std) is now energy_distance_from_normal; the old "
            "form will be removed in 0.3",
            DeprecationWarning,
            stacklevel=2,
        )
        old: Callable[..., Estimate] = energy_distance_from_normal
        return old(*args, **named)

    return energy_distance


def _is_old_form(args: tuple[Any, ...], named: dict[str, Any]) -> bool:
    if named.keys() & {"z", "prior_mean", "prior_std"} or len(args) > 2:
        return True
    if len(args) < 2:
        return len(args) == 1 and "y" not in named
    of_data, of_second = map(_shape, args)
    return of_second == () or (of_data is not None and of_second == of_data[1:])


def _shape(values: Any) -> tuple[int, ...] | None:
    """The shape of numbers; None if they cannot be used, which the new form explains."""
    try:
        return tuple(as_tensor("values", values).shape)
    except (ValueError, TypeError):
        return None


# --- energy distance -----------------------------------------------------------------------------


@_with_old_form
def energy_distance(x: Examples, y: Examples, *, standardize: bool = True) -> Estimate:
    r"""Relative energy distance of two samples, 0 if and only if their distributions are the same.

    With x, x' from the first distribution and y, y' from the second, all independent,

    .. math:: \frac{2 E|x - y| - E|x - x'| - E|y - y'|}{E|y - y'|}

    The second sample is the reference, whose mean distance is the unit: for two normals of unit
    covariance in many dimensions whose means differ by δ in each, the result is δ² / 2.

    Each mean is over all pairs of two different rows, so it is an unbiased U-statistic and can be
    slightly negative for samples of one distribution. The standard error has both terms of
    Hoeffding's variance, that of rows and that of pairs, from an analysis of variance of the
    distances, and that of the columns' units. The first vanishes for samples of one distribution,
    where its estimate is clipped at 0 and the error is too large: up to 1.2 times in many
    directions and 1.8 times in one (`python benchmarks/coverage.py`).

    All distances are computed, one block at a time.

    Args:
        x: N independent rows, shape (N, ...), N at least 2; a tensor, an array, a data frame or a
            list of numbers.
        y: M independent rows of the reference, shape (M, ...), with as many values per row.
        standardize: Whether to divide columns by their standard deviations in y. Columns that are
            constant there keep their unit. Use False where columns have one unit that matters, such
            as pixels.

    Returns:
        The estimate; its standard error is NaN for fewer than 4 rows of x or y.

    Raises:
        ValueError: If the data cannot be used, their rows have different sizes, there are too few,
            or all rows of y are the same.

    References:
        Energy statistics: a class of statistics based on distances (Székely & Rizzo, 2013), J.
        Statistical Planning and Inference 143
        A class of statistics with asymptotically normal distribution (Hoeffding, 1948)

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(2, 500, 3, generator=generator)
        >>> abs(mm.energy_distance(x, y).value) < 0.01 < mm.energy_distance(x + 0.5, y).value
        True
    """
    x, y = two_samples(x, y, least=2)
    scaled = in_units_of(x, y, flag("standardize", standardize))
    between, of_x, of_y = (
        _Distances.of(first, second, slopes=standardize)
        for first, second in ((scaled.x, scaled.y), (scaled.x, None), (scaled.y, None))
    )
    unit = of_y.mean
    if not unit > 0:
        raise ValueError(f"y must vary, got {len(y):,} rows that are all the same")
    ratio = (2 * between.mean - of_x.mean) / unit
    return Estimate(ratio - 1, _error(between, of_x, of_y, ratio, scaled) / unit)


class _Distances(NamedTuple):
    """Distances d of N points from M others, or from the N - 1 other points of the same sample.

    Attributes:
        rows: Means over the others, shape (N,).
        columns: Means over the points, for each of the others, shape (M,).
        square: Sum of the squares of all distances.
        slopes: Derivatives of the mean distance by the logarithms of column units, shape (D,).
        same: Whether both are one sample.
    """

    rows: Tensor
    columns: Tensor
    square: float
    slopes: Tensor
    same: bool

    @classmethod
    def of(cls, x: Tensor, y: Tensor | None = None, *, slopes: bool) -> _Distances:
        """Distances of rows of x (N, D) from those of y (M, D), or from each other."""
        others, same = (x, True) if y is None else (y, False)
        rows, columns, square = x.new_empty(len(x)), x.new_zeros(len(others)), 0.0
        of_units = x.new_zeros(x.shape[1])
        for block in torch.arange(len(x), device=x.device).split(max(1, _PAIRS // len(others))):
            distances = pairwise(x[block], others)
            if same:
                distances[torch.arange(len(block)), block] = 0
            rows[block] = distances.sum(1)
            columns += distances.sum(0)
            square += float(distances.square().sum())
            if slopes:
                of_units -= _square_differences(x[block], others, distances)
        n, m = len(x) - same, len(others) - same
        return cls(rows / m, columns / n, square, of_units / (len(x) * m), same)

    @property
    def mean(self) -> float:
        """Mean of all distances."""
        return float(self.rows.mean())

    @property
    def effects(self) -> tuple[Tensor, Tensor]:
        """Estimates of E(d | point) - E d for the points, shape (N,), and for the others, (M,).

        In one sample the mean over other points includes a share of their own effects.
        """
        count = len(self.rows)
        factor = (count - 1) / (count - 2) if self.same else 1.0
        return factor * (self.rows - self.mean), factor * (self.columns - self.mean)

    @property
    def pair_variance(self) -> float:
        """Variance of distances about the effects of both points: that of the second order."""
        of_rows, of_columns = self.effects
        n, m = len(of_rows), len(of_columns)
        if self.same:
            about_mean = self.square - n * (n - 1) * self.mean**2
            found = (about_mean / 2 - (n - 2) * float(of_rows @ of_rows)) / (n * (n - 3) / 2)
        else:
            about_mean = self.square - n * m * self.mean**2
            explained = m * float(of_rows @ of_rows) + n * float(of_columns @ of_columns)
            found = (about_mean - explained) / ((n - 1) * (m - 1))
        return max(0.0, found)


def _square_differences(x: Tensor, y: Tensor, distances: Tensor) -> Tensor:
    """Sums over all pairs of the squared difference in each column by the distance, shape (D,)."""
    weights = torch.where(distances > 0, distances.reciprocal(), 0.0)
    squares = weights.sum(1) @ x.square() + weights.sum(0) @ y.square()
    return squares - 2 * (x * (weights @ y)).sum(0)


def _error(
    between: _Distances, of_x: _Distances, of_y: _Distances, ratio: float, scaled: Scaled
) -> float:
    """Standard error of 2 E|x - y| - E|x - x'| - ratio E|y - y'|, the numerator of the value."""
    n, m = len(scaled.x), len(scaled.y)
    if min(n, m) < _FEWEST_FOR_ERROR:
        return math.nan
    xy, xx = 4 * between.pair_variance, 4 * of_x.pair_variance
    yy = 4 * ratio**2 * of_y.pair_variance
    x_rows, y_rows = _effects_of_rows(between, of_x, of_y, ratio, scaled.on_units)
    # Effects have noise of the second order, whose variance is known.
    noise = (xy / m + xx / (n - 2)) / n + (xy / n + yy / (m - 2)) / m
    # In few directions a value that is small by chance also has small effects, and with all noise
    # subtracted the error would be too small just there.
    first = float(x_rows.var()) / n + float(y_rows.var()) / m
    first -= (1 - concentration(scaled.y)) * noise
    second = xy / (n * m) + xx / (2 * n * (n - 1)) + yy / (2 * m * (m - 1))
    return math.sqrt(max(0.0, first) + second)


def _effects_of_rows(
    between: _Distances, of_x: _Distances, of_y: _Distances, ratio: float, on_units: Tensor | None
) -> tuple[Tensor, Tensor]:
    """First-order effects of the rows, whose means over x and y make up the numerator's error."""
    x_effects, y_effects = between.effects
    x_rows = 2 * x_effects - 2 * of_x.effects[0]
    y_rows = 2 * y_effects - 2 * ratio * of_y.effects[0]
    if on_units is not None:
        y_rows += on_units @ (2 * between.slopes - of_x.slopes - ratio * of_y.slopes)
    return x_rows, y_rows
