"""Tails of importance weights: how heavy they are, by a fit of generalised Pareto distributions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = [
    "generalised_pareto",
    "pareto_k",
    "tail_size",
]


# A tail whose weights differ by less than this share is one of equal weights and rounding.
_EQUAL = 1e-6
_FEWEST = 5
# Bytes are 8 times this for each fit's largest intermediate.
_VALUES_AT_ONCE = 1 << 22


def generalised_pareto(exceedances: Tensor) -> tuple[Tensor, Tensor]:
    r"""Shape and scale of generalised Pareto distributions, by the empirical Bayes estimate.

    .. math:: p(y) = \tfrac1\sigma (1 + k y / \sigma)^{-1/k - 1}, \quad y > 0

    Moments exist up to order 1/k: the mean below k = 1, the variance below k = 1/2. The standard
    error of k is about (1 + k) / √M.

    Args:
        exceedances: Draws y of N distributions, sorted from small to large on the first axis,
            shape (M, N), not negative.

    Returns:
        Shapes k and scales σ, each of shape (N,).

    References:
        A New and Efficient Estimation Method for the Generalized Pareto Distribution (Zhang and
        Stephens, 2009), https://doi.org/10.1198/tech.2009.08017
    """
    count = len(exceedances)
    quarter, largest = exceedances[_quarter(count)], exceedances[-1]
    # Ties, as weights of discrete latents have, may leave no quarter that is positive.
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
    """The most likely k for a given θ = -k / σ."""
    return torch.log1p(-theta * exceedances).mean(0)


def _quarter(count: int) -> int:
    """Index of the first quartile of sorted values, as the estimate has it."""
    return max(0, math.floor(count / 4 + 0.5) - 1)


def tail_size(num_samples: int) -> int:
    """How many M of the largest of S weights form the tail, min(S / 5, 3 √S)."""
    return math.ceil(min(0.2 * num_samples, 3 * math.sqrt(num_samples)))


def pareto_k(largest: Tensor) -> Tensor:
    """Shape k of the tails of N sets of importance weights.

    Args:
        largest: The tails' log-weights and the one below them, from large to small on the first
            axis, shape (M + 1, N).

    Returns:
        Shapes, shape (N,), drawn to 0.5 as by 10 more weights. -inf for a tail of equal weights,
        inf for one that has nothing beside its largest few, NaN for one of under 5 weights and for
        log-weights that are not numbers.

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
