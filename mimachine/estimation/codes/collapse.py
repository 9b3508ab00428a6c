"""Quality of a representation: what its codes keep, and whether they collapsed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mimachine.estimation.codes.floors import at_floor

__all__ = [
    "Health",
    "Verdict",
    "diagnose_codes",
]


Verdict = Literal["healthy", "partly collapsed", "collapsed", "deterministic"]
_ACTIVE_SHARE = 0.01
_DETERMINISTIC_SHARE = 0.01


@dataclass(frozen=True)
class Health:
    """Collapse diagnostics of a set of codes.

    Attributes:
        verdict: "collapsed" if no latent dimension is active, "partly collapsed" if fewer than
            half are, "deterministic" if the median posterior standard deviation is below 1 % of
            the aggregate's or at its floor, else "healthy".
        active: For each latent dimension, whether the variance over data of its posterior mean
            exceeds 1 % of its aggregate variance, shape (D,).
        relative_std: Median of posterior over aggregate standard deviation.
    """

    verdict: Verdict
    active: Tensor
    relative_std: float


def diagnose_codes(
    mean: Tensor,
    std: Tensor,
    floor: float | Tensor = 0.0,
    *,
    share_at_floor: float | None = None,
) -> Health:
    """Judge codes by their posterior means and standard deviations, each of shape (N, *Z).

    Args:
        mean: Posterior means.
        std: Posterior standard deviations.
        floor: The smallest standard deviation that the encoder can give, a number or (*Z).
        share_at_floor: Share of the encoder's scales that are at their floor, where it is not
            `std` that has one: of a chain of latents it holds for each given those before it.
    """
    mean, std = mean.flatten(1).double(), std.flatten(1).double()
    of_means = mean.var(0, correction=0)
    # Law of total variance: the aggregate posterior's variance in each dimension.
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
