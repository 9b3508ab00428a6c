"""Codes of data: means, standard deviations and samples of q(z|x)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from mimachine._support.seeds import own_noise
from mimachine.data.examples import Examples, block_size, examples
from mimachine.model.joint import Joint, check_joint
from mimachine.model.misfit import naming_misfits
from mimachine.model.networks import evaluating

__all__ = ["Codes", "closed_mean", "codes", "mean_of", "moments"]


class Codes(NamedTuple):
    """Mean, standard deviation and one sample of q(z|x) for N rows, each of shape (N, *Z)."""

    mean: Tensor
    std: Tensor
    sample: Tensor


@torch.no_grad()
def codes(
    model: Joint, x: Examples, batch_size: int | None = None, *, seed: int | None = None
) -> Codes:
    """Encode data with the model in evaluation mode.

    Args:
        model: The model.
        x: Data, shape (N, *X), in any form that `fit` takes.
        batch_size: Rows at once.
        seed: Seed of the samples, by default 0; the global generators keep their state.

    Raises:
        ValueError: If the data cannot be used or do not fit the model.
    """
    check_joint("model", model)
    x = examples("x", x, model)
    batch_size = block_size(x, batch_size)
    with own_noise(seed, "codes", x.device), evaluating(model), naming_misfits(model, x):
        parts = [moments(model.encoder(rows)) for rows in x.split(batch_size)]
    return Codes(*(torch.cat(part) for part in zip(*parts, strict=True)))


def moments(distribution: Distribution, num_samples: int = 64) -> Codes:
    """Mean, standard deviation and one sample of a distribution.

    Moments without a closed form are estimated from `num_samples` samples.
    """
    sample = distribution.sample()
    mean, std = closed_mean(distribution), _closed(distribution, "stddev")
    if mean is not None and std is not None:
        return Codes(mean, std, sample)
    draws = _draws(distribution, num_samples)
    return Codes(draws.mean(0), draws.std(0), sample)


def mean_of(distribution: Distribution, num_samples: int = 64) -> Tensor:
    """Mean of a distribution, estimated from samples if it has no closed form."""
    mean = closed_mean(distribution)
    return _draws(distribution, num_samples).mean(0) if mean is None else mean


def closed_mean(distribution: Distribution) -> Tensor | None:
    """Mean of a distribution, or None if it has no closed form."""
    return _closed(distribution, "mean")


def _closed(distribution: Distribution, name: str) -> Tensor | None:
    try:
        moment: Tensor = getattr(distribution, name)
    except (NotImplementedError, AttributeError):
        return None
    # The moments of torch's categorical distribution are NaN.
    return None if moment.isnan().all() else moment


def _draws(distribution: Distribution, num_samples: int) -> Tensor:
    draws = distribution.sample(torch.Size((num_samples,)))
    return draws if draws.is_floating_point() else draws.to(torch.get_default_dtype())
