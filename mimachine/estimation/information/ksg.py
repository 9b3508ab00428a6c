"""KSG estimators of mutual information from samples (Kraskov, Stögbauer and Grassberger)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import digamma
from torch import Tensor

from mimachine._support.checks import flag, one_of, whole
from mimachine.data.examples import Examples, numbers
from mimachine.estimation.information.ksg_neighbours import Nearest, Rows, for_all_rows

__all__ = ["MutualInformation", "ksg_value", "mutual_information"]

_SATURATION_MARGIN = 1.5
_SATURATION_DRIFT = 0.3
# Groups of the jackknife, whose standard error then has a relative error of about 16 %, and the
# points that it uses: at least this many, or this fraction if that is more.
_GROUPS, _FEWEST_POINTS, _FRACTION = 20, 500, 8
# Nats below the ceiling within which the scatter of the estimate is not that of the information.
_AT_CEILING = 0.5
_MANY_TIES = 0.1
# Standard deviation of a column, in units of its largest value, that rounding may cause.
_ROUNDING = 1e-14


@dataclass(frozen=True)
class MutualInformation:
    """KSG estimate of I(x; z) in nats; `float()` gives its value.

    Attributes:
        value: The estimate. It can be slightly negative for independent variables.
        ceiling: Largest possible estimate from N points, ψ(N) - ψ(k); KSG-2 subtracts 1/k for
            points without ties.
        k: Number of neighbours.
        num_data: Number N of points.
        value_of_half: The estimate from every second point.
        tied: Share of points that occur several times, or have ties at the distance of their k-th
            neighbour (for KSG-2 also at the width of their neighbours in x or in z). Data on a grid
            have many; the estimate then does not resolve detail below the grid.
        standard_error: Standard error over samples of N points. It does not include the bias, which
            can be far larger. NaN if there are too few points, or within 0.5 nat of the ceiling,
            where the estimate shows the number of points rather than the information.
    """

    value: float
    ceiling: float
    k: int
    num_data: int
    value_of_half: float
    tied: float = 0.0
    standard_error: float = math.nan

    @property
    def saturated(self) -> bool:
        """Whether the value is limited by the number of points rather than by the information.

        True within 1.5 nats of the ceiling, or if half of the points change it by over 0.3 nats.
        """
        near = self.ceiling - self.value < _SATURATION_MARGIN
        return near or abs(self.value - self.value_of_half) > _SATURATION_DRIFT

    @property
    def many_ties(self) -> bool:
        """Whether over a tenth of the points have ties, as on a grid or among repeated rows.

        The value can then be far too large: points that occur several times, as in a bootstrap,
        look like discrete values that determine each other.
        """
        return self.tied > _MANY_TIES

    @property
    def flagged(self) -> bool:
        """Whether the value is unreliable: saturated, or from points with many ties."""
        return self.saturated or self.many_ties

    def __float__(self) -> float:
        return self.value


def mutual_information(
    x: Examples,
    z: Examples,
    k: int = 5,
    *,
    estimator: Literal["ksg1", "ksg2"] = "ksg1",
    standardize: bool = True,
) -> MutualInformation:
    r"""Estimate mutual information I(x; z) by KSG with the maximum norm.

    Columns are divided by their standard deviations, so that the estimate does not depend on their
    units. The information itself does not, but the maximum norm compares distances in x and in z.

    KSG-1, Eq. (8) of Kraskov et al., is

    .. math:: \psi(k) + \psi(N) - \langle \psi(n_x + 1) + \psi(n_z + 1) \rangle

    with n_x the number of points strictly nearer in x than the k-th neighbour in (x, z). If ties
    put k' > k points within that distance, or it is 0, that point's term counts them all: ψ(k')
    with the numbers of points within the distance in x and in z in place of n_x + 1 and n_z + 1.
    For coincident points this is the plug-in estimate of discrete variables (compare Gao et al.,
    2017).

    KSG-2, Eq. (9), is

    .. math:: \psi(k) - 1/k + \psi(N) - \langle \psi(n_x + 1) + \psi(n_z + 1) \rangle

    with n_x the number of points strictly nearer in x than the farthest in x of the k nearest in
    (x, z), and n_z the same in z. It assumes exactly one point at each of these distances; a point
    where they are 0 or shared has the term of KSG-1. KSG-2 has less bias in many dimensions and a
    slightly larger variance.

    The bias grows with the dimension: for correlated Gaussians of 20 + 20 dimensions and N = 10,000
    the estimate is about a quarter of the truth. In more than a few dimensions use it only to
    compare models on the same data with the same N and k.

    The standard error is by a jackknife: an eighth of the points, or 500 of them, are dealt at
    random to 20 groups, the estimate is made again without each group, and the error is scaled to N
    points, as the variance of KSG is proportional to 1/N (Holmes & Nemenman, 2019). Errors from
    disjoint subsets, whose estimates have another bias, are up to half too small.

    All algorithms give the counts of comparing all pairs in float64. Tensors on a GPU are compared
    there.

    Args:
        x: N points, shape (N,) or (N, ...); a tensor, an array, a data frame or a list of numbers.
        z: The N points paired with x, of shape (N,) or (N, ...).
        k: Number of neighbours, in [1, N / 2).
        estimator: "ksg1" or "ksg2".
        standardize: Whether to divide columns by their standard deviations. Use False where columns
            have one unit that matters, such as pixels, or to repeat the protocol of the paper.

    Raises:
        ValueError: If the data cannot be used, the numbers of points differ, k is out of range, or
            the estimator is unknown.

    References:
        Estimating mutual information (Kraskov et al., 2004), Phys. Rev. E 69, 066138
        Estimating mutual information for discrete-continuous mixtures (Gao et al., 2017)
        Estimation of mutual information for real-valued data with error bars and controlled bias
        (Holmes & Nemenman, 2019), Phys. Rev. E 100, 022404
    """
    standardize = flag("standardize", standardize)
    x_points, z_points = _points("x", x, standardize), _points("z", z, standardize)
    count = len(x_points)
    if len(z_points) != count:
        raise ValueError(f"x and z must have the same length, got {count} and {len(z_points)}")
    if not 1 <= whole("k", k) < count / 2:
        raise ValueError(
            f"k must be a whole number, at least 1 and below N / 2 = {count / 2:g}, got {k}"
        )
    one_of("estimator", estimator, ("ksg1", "ksg2"))
    device = next((p.device for p in (x_points, z_points) if p.is_cuda), torch.device("cpu"))
    x_points, z_points = x_points.to(device), z_points.to(device)
    near = _neighbours(x_points, z_points, int(k), estimator)
    half = _neighbours(x_points[::2], z_points[::2], int(k), estimator)
    ceiling = float(digamma(count) - digamma(k) - near.excess.mean())
    error = math.nan
    if ceiling - near.estimate > _AT_CEILING:
        error = _standard_error(x_points, z_points, int(k), estimator)
    return MutualInformation(
        value=near.estimate,
        ceiling=ceiling,
        k=int(k),
        num_data=count,
        value_of_half=half.estimate,
        tied=float((near.tied | _repeated(x_points, z_points)).mean()),
        standard_error=error,
    )


def ksg_value(x: Tensor, z: Tensor, k: int) -> float:
    """The value of `mutual_information(x, z, k, standardize=False)` alone, in half of the time.

    Args:
        x: N points, shape (N, D), float64.
        z: The N points paired with x, shape (N, E), float64.
        k: Number of neighbours, in [1, N / 2).
    """
    return _neighbours(x, z, k, "ksg1").estimate


def _points(name: str, values: Examples, standardize: bool) -> Tensor:
    """Values as float64 points, shape (N, D), on their GPU or on the CPU."""
    points = numbers(name, values).double()
    points = points if points.is_cuda else points.cpu()
    points = points.reshape(len(points), -1).contiguous()
    return _standardised(points) if standardize else points


def _standardised(points: Tensor) -> Tensor:
    """Columns divided by their standard deviations, whatever their scale; constant ones become 0.

    Distances that are tied must remain tied, for data on a grid. So a column is shifted by one of
    its values, and divided by a number of few digits, which both are exact for whole numbers and
    for most numbers of single precision.
    """
    # Without over- or underflow in squares; a power of two changes no digit.
    exponent = torch.frexp(points.abs().amax(0)).exponent
    points = _ldexp(points, -exponent)
    points = points - points.median(0).values
    deviation = points.std(0, correction=0)
    varies = deviation > _ROUNDING
    factor = torch.where(varies, deviation, 1.0).reciprocal().float().double()
    return torch.where(varies, points * factor, 0.0)


def _ldexp(values: Tensor, exponent: Tensor) -> Tensor:
    """Values times two to an exponent, in two steps: its power may be out of range."""
    half = exponent // 2
    return torch.ldexp(torch.ldexp(values, half), exponent - half)


def _repeated(x: Tensor, z: Tensor) -> NDArray[np.bool_]:
    """Which points (x, z) occur more than once, shape (N,)."""
    # Adding zero turns -0.0, which has other bytes, into 0.0.
    points = np.ascontiguousarray(torch.cat([x, z], 1).cpu().numpy() + 0.0)
    rows = points.view(np.dtype((np.void, points.shape[1] * points.itemsize))).ravel()
    _, inverse, counts = np.unique(rows, return_inverse=True, return_counts=True)
    repeated: NDArray[np.bool_] = counts[inverse] > 1
    return repeated


class _Neighbours(NamedTuple):
    """Neighbour counts of each point, each array of shape (N,).

    Attributes:
        joint: Neighbours in (x, z): k, or with ties all within the distance.
        x: Neighbours in x: one more than are strictly nearer, or with ties all within the distance.
        z: Neighbours in z, counted in the same way.
        excess: Further nats that the point's term subtracts: 1/k for KSG-2.
        tied: Whether there are ties.
    """

    joint: NDArray[np.int64]
    x: NDArray[np.int64]
    z: NDArray[np.int64]
    excess: NDArray[np.float64]
    tied: NDArray[np.bool_]

    @property
    def estimate(self) -> float:
        """The estimate of the information, in nats."""
        terms = digamma(self.joint) - self.excess - digamma(self.x) - digamma(self.z)
        return float(digamma(len(self.x)) + np.mean(terms))


def _neighbours(x: Tensor, z: Tensor, k: int, estimator: Literal["ksg1", "ksg2"]) -> _Neighbours:
    near = for_all_rows(x, z, partial(_ksg1 if estimator == "ksg1" else _ksg2, k=k))
    return _Neighbours(*(np.concatenate(arrays) for arrays in zip(*near, strict=True)))


def _ksg1(rows: Rows, k: int) -> _Neighbours:
    return _in_squares(rows, rows.nearest(k), k)


def _in_squares(rows: Rows, nearest: Nearest, k: int) -> _Neighbours:
    """Neighbours within the same distance in x and in z."""
    tied = nearest.within > k
    inclusive = tied | (nearest.radius == 0)
    distance = np.where(inclusive, nearest.radius, _just_below(nearest.radius))
    # The formula adds 1 to the numbers of strictly nearer others.
    more = np.where(inclusive, 0, 1)
    return _Neighbours(
        nearest.within,
        rows.x_within(distance) + more,
        rows.z_within(distance) + more,
        np.zeros(len(distance)),
        tied,
    )


def _ksg2(rows: Rows, k: int) -> _Neighbours:
    """Neighbours within the rectangle of the k nearest, or the square if its sides are shared."""
    nearest = rows.nearest(k)
    square = _in_squares(rows, nearest, k)
    x = rows.x_within(_just_below(nearest.x_extent)) + 1
    z = rows.z_within(_just_below(nearest.z_extent)) + 1
    alone = (x == rows.x_within(nearest.x_extent)) & (z == rows.z_within(nearest.z_extent))
    alone &= ~square.tied & (nearest.radius > 0)
    return _Neighbours(
        square.joint,
        np.where(alone, x, square.x),
        np.where(alone, z, square.z),
        np.where(alone, 1 / k, 0.0),
        ~alone,
    )


def _just_below(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """The next smaller number, to count points that are strictly nearer; 0 stays 0."""
    return np.nextafter(distance, 0)


def _standard_error(x: Tensor, z: Tensor, k: int, estimator: Literal["ksg1", "ksg2"]) -> float:
    count = min(len(x), max(_FEWEST_POINTS, len(x) // _FRACTION))
    if count - -(-count // _GROUPS) < 4 * (k + 1):
        return math.nan
    # Data may be sorted or periodic, so the groups are random, but the same for the same N.
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:count].to(x.device)
    groups = torch.arange(count, device=x.device) % _GROUPS
    estimates = [
        _neighbours(x[rows], z[rows], k, estimator).estimate
        for rows in (order[groups != left_out] for left_out in range(_GROUPS))
    ]
    # The jackknife's variance for `count` points, scaled to all.
    variance = (_GROUPS - 1) * float(np.var(estimates)) * count / len(x)
    return math.sqrt(variance)
