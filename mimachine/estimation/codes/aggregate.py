"""Aggregate posterior: how far the distribution of all codes is from the prior."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import gammaln
from torch import Tensor

from mimachine.data.examples import Examples, as_tensor, check_squares, numbers
from mimachine.estimation.estimate import Estimate
from mimachine.estimation.two_samples.distances import concentration

__all__ = ["energy_distance_from_normal", "kl_per_dimension"]

_PAIRS = 2**22
# Trapezoids over the logarithm of Laplace's variable reach full double precision.
_STEP, _REACH = 0.25, 72.0


def kl_per_dimension(
    mean: Examples,
    std: Examples,
    prior_mean: float | Tensor = 0.0,
    prior_std: float | Tensor = 1.0,
) -> Tensor:
    r"""Mean KL(q(z_d|x) ‖ p(z_d)) of each dimension of diagonal normals, in nats, shape (D,).

    .. math:: \frac1N \sum_n \log\frac{s_d}{\sigma_{nd}}
              + \frac{\sigma_{nd}^2 + (\mu_{nd} - m_d)^2}{2 s_d^2} - \frac12

    The sum over dimensions is the rate, E KL(q(z|x) ‖ p(z)), an upper bound of the mutual
    information of x and z in the encoder. It is infinite in a dimension without noise.

    Args:
        mean: Posterior means μ, shape (N, *Z); a tensor, an array, a data frame or a list of
            numbers.
        std: Posterior standard deviations σ, shape (N, *Z), 0 or more.
        prior_mean: Mean m of the prior, a number or of shape (*Z).
        prior_std: Standard deviation s of the prior, a number or of shape (*Z), positive.

    Raises:
        ValueError: If the numbers cannot be used, the shapes differ or a standard deviation is out
            of range.
    """
    return kl_terms(*checked_moments(mean, std), prior_mean, prior_std).mean(0)


def checked_moments(mean: Examples, std: Examples) -> tuple[Tensor, Tensor]:
    """Means and standard deviations (N, *Z) of codes in one form.

    Raises:
        ValueError: If the numbers cannot be used, the shapes differ or a deviation is negative.
    """
    shapes = [tuple(as_tensor(*each).shape) for each in (("mean", mean), ("std", std))]
    if shapes[0] != shapes[1]:
        raise ValueError(f"std must have mean's shape {shapes[0]}, got {shapes[1]}")
    mean, std = (numbers(n, each, squared=True) for n, each in (("mean", mean), ("std", std)))
    std = std.to(mean.device)
    _check_std(mean, std)
    return mean, std


def kl_terms(
    mean: Tensor,
    std: Tensor,
    prior_mean: float | Tensor = 0.0,
    prior_std: float | Tensor = 1.0,
) -> Tensor:
    """KL(q(z_d|x) ‖ p(z_d)) of each row and dimension, in nats, shape (N, D)."""
    _check_std(mean, std)
    centre, width = _of_prior(mean, prior_mean, prior_std)
    offset, ratio = _in_units("mean", mean - centre, width), _in_units("std", std, width)
    return (-ratio.log() + 0.5 * (ratio.square() + offset.square() - 1)).reshape(len(mean), -1)


def _check_std(mean: Tensor, std: Tensor) -> None:
    if std.shape != mean.shape:
        raise ValueError(f"std must have mean's shape {tuple(mean.shape)}, got {tuple(std.shape)}")
    if not (std >= 0).all():
        raise ValueError(f"std must be 0 or more, got {float(std.min())}")


def energy_distance_from_normal(
    z: Examples, prior_mean: float | Tensor = 0.0, prior_std: float | Tensor = 1.0
) -> Estimate:
    r"""Relative energy distance of samples from a normal prior.

    In units of the prior's standard deviation, with z, z' samples and ε, ε' standard normal, all
    independent,

    .. math:: \frac{2 E|z - ε| - E|z - z'| - E|ε - ε'|}{E|ε - ε'|},

    which is 0 if and only if the samples come from the prior (Székely & Rizzo, 2005, use it to
    test for normality). It is δ² / 2 if z is the prior shifted by δ standard deviations in each of
    many dimensions, and :math:`\sqrt{2 + 2 s^2} - s - 1` if z is s times as wide.

    The estimate is an unbiased U-statistic, so it can be slightly negative for samples from the
    prior. The standard error includes both terms of Hoeffding's variance, because the first one
    vanishes for samples from the prior. In few dimensions the error for samples from the prior is
    up to 1.7 times too large. The prior is not
    sampled: E|z - ε| and E|ε - ε'| are the means of (non-central) χ distributions. A sliced
    Wasserstein distance, in contrast, uses random directions, and its estimate has an upward bias
    that is only known by simulation.

    It computes N² distances, one block at a time.

    Args:
        z: N independent samples, shape (N, *Z), N at least 4; for an aggregate posterior one
            sample of q(z|x) for each row of data. A tensor, an array, a data frame or a list of
            numbers.
        prior_mean: Mean of the prior, a number or of shape (*Z).
        prior_std: Standard deviation of the prior, a number or of shape (*Z), positive.

    Raises:
        ValueError: If there are too few samples, one is not finite, or the prior's shape is wrong.

    References:
        A new test for multivariate normality (Székely & Rizzo, 2005), J. Multivariate Analysis 93
        A class of statistics with asymptotically normal distribution (Hoeffding, 1948)
    """
    z = numbers("z", z, squared=True)
    if len(z) < 4:
        raise ValueError(f"z must have 4 samples or more, got {len(z)}")
    centre, width = _of_prior(z, prior_mean, prior_std)
    points = _in_units("z", z - centre, width).reshape(len(z), -1)
    count, dimensions = points.shape
    between = _distances_from_normal(points.norm(dim=1).cpu().numpy(), dimensions)
    from_prior = torch.from_numpy(between).to(points.device)
    of_prior = 2 * math.exp(float(gammaln((dimensions + 1) / 2) - gammaln(dimensions / 2)))
    sums, squares = torch.zeros_like(from_prior), torch.zeros_like(from_prior)
    for rows in torch.arange(count, device=points.device).split(max(1, _PAIRS // count)):
        kernel = from_prior[rows, None] + from_prior - of_prior
        # Expanded squares would lose digits for samples that are close to each other.
        kernel -= torch.cdist(points[rows], points, compute_mode="donot_use_mm_for_euclid_dist")
        kernel[torch.arange(len(rows)), rows] = 0
        sums[rows], squares[rows] = kernel.sum(1), kernel.square().sum(1)
    others = count - 1
    value = float(sums.mean()) / others
    of_pairs = max(0.0, float(squares.mean()) / others - value**2)
    # The variance of a mean over the others includes the variance of single pairs around it. In few
    # directions a value that is small by chance also has a small variance of means, and with all of
    # the pairs' subtracted the error would be too small just there.
    of_means = float((sums / others).var())
    noise = (1 - concentration(points)) * of_pairs
    first = max(0.0, (of_means * others - noise) / (count - 2))
    variance = (4 * (count - 2) * first + 2 * of_pairs) / (count * others)
    return Estimate(value / of_prior, math.sqrt(variance) / of_prior)


def _of_prior(z: Tensor, mean: float | Tensor, std: float | Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the prior, each of shape () or (*Z)."""
    parts = []
    for name, value in (("prior_mean", mean), ("prior_std", std)):
        part = as_tensor(name, value).to(z.device, z.dtype)
        if part.shape not in (torch.Size(), z.shape[1:]):
            raise ValueError(
                f"{name} must be a number or of shape {tuple(z.shape[1:])}, got {tuple(part.shape)}"
            )
        parts.append(part)
    if not parts[0].isfinite().all():
        raise ValueError("prior_mean must be finite")
    if not ((parts[1] > 0) & parts[1].isfinite()).all():
        raise ValueError(f"prior_std must be positive, got {float(parts[1].min())}")
    return parts[0], parts[1]


def _in_units(name: str, offset: Tensor, width: Tensor) -> Tensor:
    """Values in units of the prior's standard deviation, in double."""
    values = (offset / width).double()
    check_squares(f"{name} in units of prior_std", values)
    return values


def _distances_from_normal(norms: NDArray[np.float64], dimensions: int) -> NDArray[np.float64]:
    r"""E|u - ε| for points u of given norms (N,) and ε ~ N(0, I), shape (N,).

    The square root of S ≥ 0 has the mean :math:`\int (1 - E e^{-tS}) t^{-3/2} dt / 2\sqrtπ`, and
    a non-central χ² has a Laplace transform in closed form; the integration is over log(t E S).
    """
    grid = np.arange(-_REACH, _REACH + _STEP / 2, _STEP)
    weights = np.exp(-grid / 2) * _STEP / (2 * math.sqrt(math.pi))
    found = np.empty_like(norms)
    for start in range(0, len(norms), 1000):
        square = norms[start : start + 1000, None] ** 2
        mean = dimensions + square
        t = np.exp(grid) / mean
        exponent = dimensions / 2 * np.log1p(2 * t) + square * t / (1 + 2 * t)
        found[start : start + 1000] = np.sqrt(mean[:, 0]) * (-np.expm1(-exponent) @ weights)
    return found
