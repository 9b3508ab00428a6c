"""Posterior collapse: which latent dimensions are in use."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mimachine._support.checks import instance, real
from mimachine.data.examples import Examples
from mimachine.estimation.codes.aggregate import checked_moments
from mimachine.estimation.codes.floors import at_floor

__all__ = ["Health", "Verdict", "diagnose_codes"]

Verdict = Literal["healthy", "partly collapsed", "collapsed", "deterministic"]
_ACTIVE_SHARE = 0.01
_DETERMINISTIC_SHARE = 0.01
# Nats below which codes say nothing of use about the data.
_NO_INFORMATION = 0.1


@dataclass(frozen=True)
class Health:
    """Collapse diagnostics of a set of codes.

    Attributes:
        verdict: "collapsed" if the codes have less than 0.1 nat of information about the data or
            no latent dimension is active; "partly collapsed" if fewer than half of the dimensions
            are active, or one of two or three; "deterministic" if the median posterior standard
            deviation is below 1 % of the aggregate's or at its floor, which describes codes and is
            no fault; and otherwise "healthy".
        active: For each latent dimension, whether the variance of its posterior mean over the data
            exceeds 1 % of its aggregate variance, shape (D,).
        relative_std: Median ratio of posterior to aggregate standard deviation.
        information: The upper bound on the information that the verdict uses, in nats.
    """

    verdict: Verdict
    active: Tensor
    relative_std: float
    information: float = math.nan


def diagnose_codes(
    mean: Examples,
    std: Examples,
    floor: float | Tensor = 0.0,
    *,
    share_at_floor: float | None = None,
    information: float | None = None,
) -> Health:
    """Diagnose posterior collapse from posterior means and standard deviations.

    Args:
        mean: Posterior means, shape (N, *Z); a tensor, an array, a data frame or a list of numbers.
        std: Posterior standard deviations, shape (N, *Z).
        floor: The smallest standard deviation that the encoder can give, a number or (*Z).
        share_at_floor: Share of the encoder's scales that are at their floor. Give it where the
            floor does not apply to `std`: in a chain of latents it applies to the scales of each
            part given the parts before it.
        information: An upper bound on the mutual information of data and codes, in nats, such as
            the rate or that of `information_bounds`. By default the rate under the diagonal normal
            prior that fits best, which is a bound if the posteriors are diagonal normals.

    Raises:
        ValueError: If the numbers cannot be used, their shapes differ, or a deviation is negative.
    """
    mean, std = checked_moments(mean, std)
    if not isinstance(floor, Tensor | np.ndarray):
        floor = real("floor", floor, 0)
    for name, value in (("share_at_floor", share_at_floor), ("information", information)):
        if value is not None:
            # The rate of codes without noise is infinite.
            instance(name, value, (Real, Tensor), "a number")
    mean, std = mean.flatten(1).double(), std.flatten(1).double()
    of_means = mean.var(0, correction=0)
    # Law of total variance: variance of the aggregate posterior in each dimension.
    aggregate = of_means + std.square().mean(0)
    active = of_means > _ACTIVE_SHARE * aggregate
    relative = float((std / aggregate.sqrt().clamp_min(torch.finfo(std.dtype).tiny)).median())
    if share_at_floor is None:
        share_at_floor = float(at_floor(std, floor).double().mean())
    if information is None:
        information = _least_rate(std, aggregate)
    verdict: Verdict = "healthy"
    if information < _NO_INFORMATION or not active.any():
        verdict = "collapsed"
    elif len(active) > 1 and int(active.sum()) < max(2, len(active) / 2):
        verdict = "partly collapsed"
    elif relative < _DETERMINISTIC_SHARE or share_at_floor > 0.5:
        verdict = "deterministic"
    return Health(verdict, active, relative, information)


def _least_rate(std: Tensor, aggregate: Tensor) -> float:
    """E KL(q(z|x) || p(z)) in nats for the normal prior with the codes' means and variances.

    With the moments of the aggregate posterior all but the entropies cancels in the KL divergence.
    """
    varies = aggregate > 0
    terms = 0.5 * aggregate[varies].log() - std[:, varies].log().mean(0)
    return float(terms.sum())
