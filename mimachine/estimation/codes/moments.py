"""Codes of data: means, standard deviations and samples of q(z|x)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from mimachine._support.memory import rows_at_once
from mimachine.data.rows import Rows
from mimachine.model.joint import Joint
from mimachine.model.networks import evaluating

__all__ = [
    "Codes",
    "closed_mean",
    "codes",
    "mean_of",
    "moments",
]


class Codes(NamedTuple):
    """What the encoder makes of N data: mean, standard deviation and a draw, each (N, *Z)."""

    mean: Tensor
    std: Tensor
    sample: Tensor


@torch.no_grad()
def codes(model: Joint, x: Tensor | Rows, batch_size: int | None = None) -> Codes:
    """Encode data of shape (N, *X) with the model in evaluation mode."""
    batch_size = rows_at_once(x.shape) if batch_size is None else batch_size
    with evaluating(model):
        parts = [moments(model.encoder(rows)) for rows in x.split(batch_size)]
    return Codes(*(torch.cat(part) for part in zip(*parts, strict=True)))


def moments(distribution: Distribution, num_samples: int = 64) -> Codes:
    """Mean, standard deviation and a draw; from draws where there is no closed form."""
    sample = distribution.sample()
    try:
        mean, std = distribution.mean, distribution.stddev
        # torch's categorical distribution has moments that are not numbers.
        if not mean.isnan().all():
            return Codes(mean, std, sample)
    except (NotImplementedError, AttributeError):
        pass
    draws = _draws(distribution, num_samples)
    return Codes(draws.mean(0), draws.std(0), sample)


def mean_of(distribution: Distribution, num_samples: int = 64) -> Tensor:
    """Mean; from draws where there is no closed form."""
    mean = closed_mean(distribution)
    return _draws(distribution, num_samples).mean(0) if mean is None else mean


def closed_mean(distribution: Distribution) -> Tensor | None:
    """Mean, where it has a closed form."""
    try:
        mean: Tensor = distribution.mean
    except (NotImplementedError, AttributeError):
        return None
    # torch's categorical distribution has moments that are not numbers.
    return None if mean.isnan().all() else mean


def _draws(distribution: Distribution, num_samples: int) -> Tensor:
    draws = distribution.sample(torch.Size((num_samples,)))
    return draws if draws.is_floating_point() else draws.to(torch.get_default_dtype())
