"""Pareto-k of importance weights: how heavy their tail is, by a generalised Pareto fit."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["generalised_pareto", "pareto_k", "tail_size"]

# A tail whose weights differ relatively by less than this has equal weights, up to rounding.
_EQUAL = 1e-6
_FEWEST = 5
# Numbers of the largest intermediate of a fit, 8 bytes each.
_VALUES_AT_ONCE = 1 << 22


def generalised_pareto(exceedances: Tensor) -> tuple[Tensor, Tensor]:
    r"""Fit shape and scale of generalised Pareto distributions, by empirical Bayes.

    .. math:: p(y) = \tfrac1\sigma (1 + k y / \sigma)^{-1/k - 1}, \quad y > 0

    Moments exist up to order 1/k: the mean below k = 1, the variance below k = 1/2. The standard
    error of k is about (1 + k) / √M.

    Args:
        exceedances: M draws y from each of N distributions, 0 or more, in ascending order along
            the first axis, shape (M, N).

    Returns:
        Shapes k and scales σ, each of shape (N,).

    References:
        A New and Efficient Estimation Method for the Generalized Pareto Distribution (Zhang and
        Stephens, 2009), https://doi.org/10.1198/tech.2009.08017
    """
    count = len(exceedances)
    quarter, largest = exceedances[_quarter(count)], exceedances[-1]
    # With ties, as of weights of discrete latents, the quartile may be 0.
    quarter = torch.where(quarter > 0, quarter, exceedances.mean(0))
    number = 30 + math.isqrt(count)
    steps = torch.arange(number, dtype=exceedances.dtype, device=exceedances.device) + 0.5
    spread = 1 - (number / steps).sqrt()
    # Points θ = -k / σ below their upper limit 1 / y_max, shape (points, N).
    points = 1 / largest + spread[:, None] / (3 * quarter)
    shapes = torch.stack([_shape(point, exceedances) for point in points])
    profile = count * (torch.log(-points / shapes) - shapes - 1)
    theta = (profile.softmax(0) * points).sum(0)
    shape = _shape(theta, exceedances)
    return shape, -shape / theta


def _shape(theta: Tensor, exceedances: Tensor) -> Tensor:
    """The maximum-likelihood k for a given θ = -k / σ."""
    return torch.log1p(-theta * exceedances).mean(0)


def _quarter(count: int) -> int:
    """Index of the first quartile of sorted values, as defined by Zhang and Stephens."""
    return max(0, math.floor(count / 4 + 0.5) - 1)


def tail_size(num_samples: int) -> int:
    """Number M of the largest of S weights that form the tail, min(S / 5, 3 √S)."""
    return math.ceil(min(0.2 * num_samples, 3 * math.sqrt(num_samples)))


def pareto_k(largest: Tensor) -> Tensor:
    """Pareto-k, the shape of the tail, of N sets of importance weights.

    Args:
        largest: Log-weights of the tails and the one below them, in descending order along the
            first axis, shape (M + 1, N).

    Returns:
        Shapes k, shape (N,), shrunk towards 0.5 as by 10 further weights. -inf for a tail of equal
        weights, inf if all but the largest few vanish, NaN for under 5 weights or if log-weights
        are NaN.

    References:
        Pareto Smoothed Importance Sampling (Vehtari et al., 2024),
        https://jmlr.org/papers/v25/19-556.html
    """
    if len(largest) <= _FEWEST:
        return torch.full_like(largest[0], math.nan, dtype=torch.float64)
    rows = max(1, _VALUES_AT_ONCE // len(largest))
    return torch.cat([_pareto_k(part) for part in largest.double().split(rows, 1)])


def _pareto_k(largest: Tensor) -> Tensor:
    weights = (largest - largest[0]).exp()
    tail, below = weights[:-1].flip(0), weights[-1]
    count = len(tail)
    shape, _ = generalised_pareto(tail - below)
    shape = (count * shape + 10 * 0.5) / (count + 10)
    vanishing = tail[_quarter(count)] < torch.finfo(tail.dtype).tiny
    shape = torch.where(vanishing, math.inf, shape)
    shape = torch.where(below > 1 - _EQUAL, -math.inf, shape)
    return torch.where(weights.isnan().any(0), math.nan, shape)
