"""Posterior collapse: which latent dimensions are in use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mimachine.data.examples import Examples
from mimachine.estimation.codes.aggregate import checked_moments
from mimachine.estimation.codes.floors import at_floor

__all__ = ["Health", "Verdict", "diagnose_codes"]

Verdict = Literal["healthy", "partly collapsed", "collapsed", "deterministic"]
_ACTIVE_SHARE = 0.01
_DETERMINISTIC_SHARE = 0.01


@dataclass(frozen=True)
class Health:
    """Collapse diagnostics of a set of codes.

    Attributes:
        verdict: "collapsed" if no latent dimension is active, "partly collapsed" if fewer than
            half are, "deterministic" if the median posterior standard deviation is below 1 % of
            the aggregate's or at its floor, and otherwise "healthy".
        active: For each latent dimension, whether the variance of its posterior mean over the data
            exceeds 1 % of its aggregate variance, shape (D,).
        relative_std: Median ratio of posterior to aggregate standard deviation.
    """

    verdict: Verdict
    active: Tensor
    relative_std: float


def diagnose_codes(
    mean: Examples,
    std: Examples,
    floor: float | Tensor = 0.0,
    *,
    share_at_floor: float | None = None,
) -> Health:
    """Diagnose posterior collapse from posterior means and standard deviations.

    Args:
        mean: Posterior means, shape (N, *Z); a tensor, an array, a data frame or a list of numbers.
        std: Posterior standard deviations, shape (N, *Z).
        floor: The smallest standard deviation that the encoder can give, a number or (*Z).
        share_at_floor: Share of the encoder's scales that are at their floor. Give it where the
            floor does not apply to `std`: in a chain of latents it applies to the scales of each
            part given the parts before it.

    Raises:
        ValueError: If the numbers cannot be used, their shapes differ, or a deviation is negative.
    """
    mean, std = checked_moments(mean, std)
    mean, std = mean.flatten(1).double(), std.flatten(1).double()
    of_means = mean.var(0, correction=0)
    # Law of total variance: variance of the aggregate posterior in each dimension.
    aggregate = of_means + std.square().mean(0)
    active = of_means > _ACTIVE_SHARE * aggregate
    relative = float((std / aggregate.sqrt().clamp_min(torch.finfo(std.dtype).tiny)).median())
    if share_at_floor is None:
        share_at_floor = float(at_floor(std, floor).double().mean())
    verdict: Verdict = "healthy"
    if not active.any():
        verdict = "collapsed"
    elif active.double().mean() < 0.5:
        verdict = "partly collapsed"
    elif relative < _DETERMINISTIC_SHARE or share_at_floor > 0.5:
        verdict = "deterministic"
    return Health(verdict, active, relative)
